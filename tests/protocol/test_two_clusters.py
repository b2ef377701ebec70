"""PROTOCOL.md: two metadata clusters in one realm; who asks the wrong one is sent home with 421."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from black_box.http_client import Server, check_error, check_ok
from black_box.store import QUICKSTART, RunningStore
from black_box.user import User, new_user


def with_a_second_cluster(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The quickstart, its cluster copied under another name and key, and on the access point's list."""
    (cluster,) = (each for each in documents if each["kind"] == "MetadataCluster")
    (access,) = (each for each in documents if each["kind"] == "AccessPoint")
    second = yaml.safe_load(yaml.safe_dump(cluster))
    second["metadata"]["name"] += "-second"
    second["spec"]["serverKey"] += "-second"
    access["spec"]["clusters"].append({"name": second["metadata"]["name"]})
    return [*documents, second]


@pytest.fixture(scope="module")
def realm(folder: Path) -> Iterator[RunningStore]:
    manifest = folder / "two-clusters.yaml"
    documents = [each for each in yaml.safe_load_all(QUICKSTART.read_text()) if each]
    manifest.write_text(yaml.safe_dump_all(with_a_second_cluster(documents)))
    running = RunningStore(folder / "realm", manifest=manifest)
    running.start()
    yield running
    running.end()


@pytest.fixture(scope="module")
def at_home(realm: RunningStore) -> list[User]:
    """One user of each cluster, placed by the admin."""
    keys = sorted(check_ok(realm.front().get("/get_servers"))["clusters"])
    assert len(keys) == 2
    users = [new_user(realm, server_key=key) for key in keys]
    assert [user.server_key for user in users] == keys
    return users


def test_both_clusters_are_announced(realm: RunningStore):
    servers = check_ok(realm.front().get("/get_servers"))
    assert len(servers["meta_servers"]) == 2
    assert {f"/meta/{key}" in str(servers["meta_servers"]) for key in servers["clusters"]} == {True}


def test_each_cluster_serves_its_own_users(at_home: list[User]):
    for user in at_home:
        user.save("file", [f"of {user.server_key}".encode()])
        assert user.read("file") == f"of {user.server_key}".encode()


@pytest.mark.parametrize("tier", ["", "/l2", "/l3"])
def test_the_wrong_cluster_answers_421_with_the_right_names(at_home: list[User], tier: str):
    one, other = at_home
    path = {"": "/list_directory/root", "/l2": "/files/x/chunks", "/l3": "/chunks/x/metadata"}[tier]
    body = check_error(
        Server(one.store.http, other.l1.base + tier, one.token).get(path), 421, word="wrong_cluster"
    )
    assert one.l1.base.removeprefix("http://") in str(body)
    assert other.server_key not in str(body).replace(one.server_key, "") or one.server_key < other.server_key


def test_a_users_upload_token_means_nothing_to_the_other_cluster(at_home: list[User]):
    one, other = at_home
    token = one.begin("upload")["upload_token"]
    check_error(other.commit("upload", token, 1, chunks=[]), 401, 403, 404, 421)


def test_users_are_placed_on_both_clusters_when_nobody_says_where(realm: RunningStore):
    placed = {new_user(realm).server_key for _ in range(24)}
    assert len(placed) == 2


def test_an_account_keeps_its_cluster(realm: RunningStore, at_home: list[User]):
    user, other = at_home
    body = {"password": user.password, "server_key": other.server_key}
    check_error(realm.admin().put(f"/auth/users/{user.username}", json=body), 409, 422)
    user.log_in()
    assert user.server_key != other.server_key


def test_get_servers_with_a_token_answers_the_callers_cluster_alone(realm: RunningStore, at_home: list[User]):
    for user in at_home:
        servers = check_ok(realm.front(user.token).get("/get_servers"))
        assert list(servers["clusters"]) == [user.server_key]
        by_key = check_ok(realm.front().get("/get_servers", params={"server_key": user.server_key}))
        assert by_key == servers
