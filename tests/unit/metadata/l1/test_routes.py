"""L1 over HTTP on real sockets, its store in memory: who is let in, what is parsed, what is answered."""

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from realm import Realm
from serving import serving

from moorage_nodes.metadata.l1.server import open_on
from moorage_nodes.server import open_shared
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.observer import NullObserver
from moorage_nodes.tokens import Audience

HOSTS = ["store.example", "other.example:8443"]


class L1Client:
    """Asks as one of two users, whom no other test has."""

    def __init__(self, http: httpx.AsyncClient, realm: Realm, number: int) -> None:
        self._http = http
        self._signer = realm.signer("auth")
        self.alice, self.bob = f"alice{number}", f"bob{number}"

    def token(self, user: str, server_key: str = "c1") -> str:
        return self._signer.sign(
            Audience.ACCESS, user, 60, username=f"{user}-name", server_key=server_key, gen=0
        )

    async def __call__(
        self, method: str, path: str, *, user: str | None = "", cluster: str = "c1", **more: Any
    ) -> httpx.Response:
        """As Alice, as `user`, or with None as nobody."""
        headers = {"Host": HOSTS[0], **more.pop("headers", {})}
        if user is not None:
            user = user or self.alice
            headers["Authorization"] = f"Bearer {self.token(user, cluster)}"
        return await self._http.request(method, path, headers=headers, **more)


@pytest.fixture(scope="module")
async def clients(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Iterator[L1Client]]:
    tmp_path = tmp_path_factory.mktemp("realm")
    realm = Realm(tmp_path)
    clusters = [{"server_key": key, "pools": [f"p-{key}"], "write_pools": []} for key in ("c1", "c2")]
    (tmp_path / "routing.json").write_text(json.dumps({"revision": 3, "hosts": HOSTS, "clusters": clusters}))
    settings = realm.settings("l1", cluster={"server_key": "c1"})
    shared = open_shared(settings)
    server = await open_on(MemoryStore(), "realm", settings, shared, NullObserver())
    async with serving(shared, server) as running, httpx.AsyncClient(base_url=running.public) as http:
        yield (L1Client(http, realm, number) for number in itertools.count())


@pytest.fixture
def ask(clients: Iterator[L1Client]) -> L1Client:
    return next(clients)


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: httpx.Response, status: int, word: str) -> Any:
    assert (response.status_code, response.json()["error"]) == (status, word), response.text
    return response.json()


async def test_a_directory_is_made_listed_moved_and_found(ask) -> None:
    body = {"path": "/photos/2023", "parent_dir_id": "root"}
    made = ok(await ask("PUT", "/meta/c1/create_directory/year", json=body))
    assert made == {
        "id": "year",
        "type": "directory",
        "name": "2023",
        "parent_dir_id": made["parent_dir_id"],
        "path": "/photos/2023",
        "state": "live",
        "meta_version": 0,
        "modified": made["modified"],
    }
    again = await ask("PUT", "/meta/c1/create_directory/year", json=body)
    assert ok(again) == made
    ok(await ask("POST", "/meta/c1/move/year", json={"parent_dir_id": f"root:{ask.alice}-name", "name": "y"}))
    listing = ok(await ask("GET", f"/meta/c1/list_directory/root:{ask.alice}"))
    assert [(entry["id"], entry["name"]) for entry in listing["directories"]] == [
        (made["parent_dir_id"], "photos"),
        ("year", "y"),
    ]
    assert ok(await ask("GET", "/meta/c1/resolve?path=/y")) == ok(await ask("GET", "/meta/c1/nodes/year"))


async def test_a_file_is_made_and_told_of(ask) -> None:
    body = {"parent_dir_id": "root", "name": "f"}
    assert ok(await ask("PUT", "/meta/c1/create_file/f", json=body))["version"] == 0
    metadata = ok(await ask("GET", "/meta/c1/files/f/metadata"))
    assert metadata["l2_metadata_server"] == "store.example/meta/c1/l2"
    other = ok(await ask("GET", "/meta/c1/files/f/metadata", headers={"Host": HOSTS[1]}))
    assert other["l2_metadata_server"] == "other.example:8443/meta/c1/l2"
    unknown = ok(await ask("GET", "/meta/c1/files/f/metadata", headers={"Host": "evil.example"}))
    assert unknown["l2_metadata_server"] == "store.example/meta/c1/l2"
    refused(await ask("GET", "/meta/c1/files/f/metadata?version=1"), 404, "not_found")
    refused(await ask("GET", "/meta/c1/files/f/metadata?version=-1"), 422, "invalid_field")


async def test_what_another_user_has_is_as_unknown_as_what_nobody_has(ask) -> None:
    ok(await ask("PUT", "/meta/c1/create_file/f", json={"parent_dir_id": "root", "name": "f"}))
    for path in (
        "nodes/f",
        f"nodes/root:{ask.alice}",
        f"list_directory/root:{ask.alice}",
        "files/f/metadata",
    ):
        theirs = refused(await ask("GET", f"/meta/c1/{path}", user=ask.bob), 404, "not_found")
        nobodys = await ask("GET", f"/meta/c1/{path.replace(ask.alice, 'nobody')}", user=ask.bob)
        assert theirs["detail"].replace(ask.alice, "nobody") == nobodys.json()["detail"]
    ok(await ask("PUT", "/meta/c1/create_file/f", json={"parent_dir_id": "root", "name": "f"}, user=ask.bob))


async def test_another_clusters_user_is_told_the_right_names_whatever_was_asked(ask) -> None:
    for method, path, body in (
        ("GET", "list_directory/root", None),
        ("GET", "nodes/nothing", None),
        ("GET", "files/no%20id/metadata", None),
        ("PUT", "create_directory/d", {"path": "", "parent_dir_id": "nowhere"}),
        ("POST", "move/d", {"parent_dir_id": "x", "name": "../"}),
    ):
        answer = refused(await ask(method, f"/meta/c1/{path}", json=body, cluster="c2"), 421, "wrong_cluster")
        assert answer["server_key"] == "c2"
        assert answer["meta_servers"] == ["store.example/meta/c2"]
        assert answer["block_servers"] == ["store.example/block/p-c2"]
    answer = refused(await ask("GET", "/meta/c1/resolve?path=/", cluster="gone"), 421, "wrong_cluster")
    assert "meta_servers" not in answer


async def test_servers_are_named_for_all_or_for_one_cluster(ask) -> None:
    everything = ok(await ask("GET", "/get_servers", user=None))
    assert everything["meta_servers"] == ["store.example/meta/c1", "store.example/meta/c2"]
    assert everything["auth_server"] == "store.example"
    assert set(everything["clusters"]) == {"c1", "c2"}
    for chosen in (
        await ask("GET", "/get_servers?server_key=c2", user=None),
        await ask("GET", "/get_servers", cluster="c2"),
        await ask("GET", "/get_servers?server_key=c2", cluster="c1"),
    ):
        assert ok(chosen)["meta_servers"] == ["store.example/meta/c2"]
        assert ok(chosen)["block_servers"] == ["store.example/block/p-c2"]
    other = ok(await ask("GET", "/get_servers", user=None, headers={"Host": HOSTS[1]}))
    assert other["meta_servers"][0] == "other.example:8443/meta/c1"
    for unknown in ("nothing", "", "%00", "x" * 3000):
        assert ok(await ask("GET", f"/get_servers?server_key={unknown}", user=None))["meta_servers"] == []
    wrong = await ask("GET", "/get_servers", user=None, headers={"Authorization": "Bearer not.a.token"})
    assert ok(wrong) == everything


async def test_only_discovery_needs_no_token(ask) -> None:
    for path in ("list_directory/root", "nodes/x", "resolve?path=/", "files/f/metadata"):
        refused(await ask("GET", f"/meta/c1/{path}", user=None), 401, "unauthenticated")


async def test_an_idempotency_key_makes_a_repeat_exact(ask) -> None:
    ok(await ask("PUT", "/meta/c1/create_file/f", json={"parent_dir_id": "root", "name": "f"}))
    key = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
    body = {"parent_dir_id": "root", "name": "g"}
    first = await ask("POST", "/meta/c1/move/f", json=body, headers=key)
    ok(await ask("POST", "/meta/c1/move/f", json={**body, "name": "h"}))
    again = await ask("POST", "/meta/c1/move/f", json=body, headers=key)
    assert again.content == first.content
    other = await ask("POST", "/meta/c1/move/f", json={**body, "name": "i"}, headers=key)
    refused(other, 422, "idempotency_key_reused")
    assert ok(await ask("GET", "/meta/c1/nodes/f"))["name"] == "h"
    ok(await ask("PUT", "/meta/c1/create_file/f", json=body, headers=key, user=ask.bob))


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", "create_directory/d", {"path": "/", "parent_dir_id": "root"}, "path"),
        ("PUT", "create_directory/d", {"path": "a/../b", "parent_dir_id": "root"}, "path"),
        ("PUT", "create_directory/a%20b", {"path": "/a", "parent_dir_id": "root"}, "dir_id"),
        ("PUT", "create_directory/d", {"path": "/a", "parent_dir_id": "é"}, "parent_dir_id"),
        ("PUT", "create_directory/d", {"path": "/a"}, "$"),
        ("PUT", "create_directory/root:bob", {"path": "/a", "parent_dir_id": "root"}, "dir_id"),
        ("PUT", "create_file/f", {"parent_dir_id": "root"}, "path"),
        ("PUT", "create_file/f", {"parent_dir_id": "root", "name": "a/b"}, "name"),
        ("PUT", "create_file/f", {"path": "/"}, "path"),
        ("PUT", "create_file/f", {"path": "/x", "surprise": 1}, "$"),
        ("POST", "move/d", {"parent_dir_id": "root", "name": "\0"}, "name"),
        ("POST", "move/d", {"parent_dir_id": "root", "name": "x", "meta_version": -1}, "$.meta_version"),
        ("POST", "move/d", {"parent_dir_id": "root", "name": "x", "replace": {"id": ""}}, "replace.id"),
        ("GET", "list_directory/root?limit=0", None, "limit"),
        ("GET", "list_directory/root?limit=10001", None, "limit"),
        ("GET", "list_directory/root?cursor=made-up", None, "cursor"),
        ("GET", "resolve", None, "path"),
        ("GET", "resolve?path=a//b", None, "path"),
    ],
)
async def test_a_request_that_breaks_a_rule_is_told_which_field(ask, method, path, body, field) -> None:
    answer = refused(await ask(method, f"/meta/c1/{path}", json=body), 422, "invalid_field")
    assert answer["field"] == field
    assert answer["request_id"]


async def test_two_spellings_of_a_name_are_one(ask) -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    ok(await ask("PUT", "/meta/c1/create_file/f", json={"path": f"/{decomposed}"}))
    assert ok(await ask("GET", "/meta/c1/nodes/f"))["name"] == composed
    again = {"parent_dir_id": "root", "name": composed}
    refused(await ask("PUT", "/meta/c1/create_file/g", json=again), 409, "name_taken")
    assert ok(await ask("GET", "/meta/c1/resolve", params={"path": decomposed}))["id"] == "f"


async def test_what_is_taken_or_in_the_way_is_a_conflict_in_the_same_shape(ask) -> None:
    ok(await ask("PUT", "/meta/c1/create_file/f", json={"path": "/f"}))
    body = {"path": "/f/x", "parent_dir_id": "root"}
    answer = refused(await ask("PUT", "/meta/c1/create_directory/d", json=body), 409, "not_a_directory")
    assert answer["id"] == "f"
    stale = {"parent_dir_id": "root", "name": "g", "meta_version": 7}
    answer = refused(await ask("POST", "/meta/c1/move/f", json=stale), 409, "conflict")
    assert (answer["status"], answer["server_version"], answer["meta_version"]) == ("conflict", 0, 0)
