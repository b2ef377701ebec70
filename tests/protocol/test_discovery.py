"""PROTOCOL.md, Discovery: who may be asked where, and the probes of every server."""

import re

import httpx
import pytest
from black_box.http_client import check_error, check_ok
from black_box.store import RunningStore
from black_box.user import User

ROLES = ("auth", "l1", "l2", "l3", "block", "notify")


def test_get_servers_needs_no_token_and_names_every_kind_of_server(store: RunningStore):
    servers = check_ok(store.front().get("/get_servers"))
    assert servers["meta_servers"]
    assert servers["block_servers"]
    assert isinstance(servers["auth_server"], str)
    assert isinstance(servers["notification_servers"], list)


def test_server_names_are_a_host_and_a_prefix_that_the_asking_client_can_reach(store: RunningStore):
    servers = check_ok(store.front().get("/get_servers"))
    names = [*servers["meta_servers"], *servers["block_servers"], servers["auth_server"]]
    for name in names:
        assert re.fullmatch(r"[^/:]+(:\d+)?(/[A-Za-z0-9_.:/-]+)?", name), name
        assert name.split("/")[0] == store.url.removeprefix("http://")


def test_each_cluster_of_get_servers_has_the_same_lists_of_its_own(store: RunningStore):
    servers = check_ok(store.front().get("/get_servers"))
    assert servers["clusters"]
    for server_key, lists in servers["clusters"].items():
        assert set(lists) >= {"meta_servers", "block_servers", "auth_server"}
        assert all(f"/meta/{server_key}" in name for name in lists["meta_servers"])
        assert set(lists["meta_servers"]) <= set(servers["meta_servers"])
        assert set(lists["block_servers"]) <= set(servers["block_servers"])


def test_get_servers_can_be_asked_for_one_cluster(store: RunningStore, user: User):
    servers = check_ok(store.front().get("/get_servers", params={"server_key": user.server_key}))
    assert list(servers["clusters"]) == [user.server_key]
    assert all(f"/meta/{user.server_key}" in name for name in servers["meta_servers"])


def test_with_a_token_get_servers_answers_the_callers_cluster(store: RunningStore, user: User):
    servers = check_ok(store.front(user.token).get("/get_servers"))
    assert list(servers["clusters"]) == [user.server_key]


def test_a_metadata_servers_name_contains_its_server_key(user: User):
    assert f"/meta/{user.server_key}" in user.l1.base


def test_the_key_set_is_public_and_holds_no_private_part(store: RunningStore):
    keys = check_ok(store.front().get("/auth/jwks.json"))["keys"]
    assert keys
    for key in keys:
        assert key["kty"] in {"EC", "OKP"}
        assert key["kid"]
        assert not {"d", "p", "q", "k"} & set(key)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("replica", [0, 1])
def test_every_replica_is_alive_and_ready_on_its_internal_port(
    local_store: RunningStore, role: str, replica: int
):
    internal = local_store.direct(role, "internal", replica)
    assert internal.get("/healthz").status_code == 200
    assert internal.get("/readyz").status_code == 200


@pytest.mark.parametrize("role", ROLES)
def test_metrics_count_requests_and_what_is_in_flight(local_store: RunningStore, role: str, user: User):
    user.save(f"counted-{role}", [b"some bytes"])
    user.chunks(f"counted-{role}")
    texts = [local_store.direct(role, "internal", replica).get("/metrics").text for replica in (0, 1)]
    assert any(re.search(r"(?m)^\w*requests_total\{[^}]*\} [1-9]", text) for text in texts)
    for text in texts:
        assert re.search(r"(?m)^\w*in_flight\w*(\{[^}]*\})? \d", text)
        assert re.search(r"(?m)^\w*seconds_bucket\{[^}]*\} \d", text)


@pytest.mark.parametrize("role", ROLES)
def test_every_server_describes_itself_as_openapi(local_store: RunningStore, role: str):
    document = check_ok(local_store.direct(role, "internal").get("/openapi.json"))
    assert document["openapi"].startswith("3.")
    assert document["paths"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/status", "/openapi.json"])
def test_probes_and_metrics_are_not_routed_by_the_front_door(store: RunningStore, user: User, path: str):
    for server in (store.front(), user.l1, user.l2, user.l3, user.block):
        check_error(server.get(path), 401, 404)


def test_what_two_replicas_behind_one_name_say_is_the_same(store: RunningStore):
    answers = {store.front().get("/get_servers").content for _ in range(8)}
    assert len(answers) == 1


def test_a_request_id_of_the_client_comes_back_and_a_wild_one_does_not(store: RunningStore):
    def asked_with(request_id: str) -> httpx.Response:
        return store.front().get("/auth/users", headers={"X-Request-Id": request_id})

    own = "order-4711_a.b"
    assert check_error(asked_with(own), 401)["request_id"] == own
    for wild in ("x" * 5000, 'quote"and\\slash', "<script>", "a b"):
        assert check_error(asked_with(wild), 401)["request_id"] != wild
