"""Updates and commits over HTTP on real sockets, the store in memory: what is parsed, what is answered."""

import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import pytest
from realm import Realm
from serving import serving
from upload_bed import hash_of

from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.server import open_on
from moorage_nodes.metadata.l3.registry import Registry
from moorage_nodes.peer_api import RegisteredChunk, RegisterRequest
from moorage_nodes.server import open_shared
from moorage_nodes.stores.contracts import Put, Txn
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.observer import NullObserver
from moorage_nodes.tokens import Audience

HOSTS = ["store.example", "other.example:8443"]


class Client:
    """A user whom no other test has, and what a block server does for her."""

    def __init__(self, http: httpx.AsyncClient, realm: Realm, context: Any, number: int) -> None:
        self.http, self.realm, self.context = http, realm, context
        self.user = f"user{number}"
        self.calls = itertools.count()
        namespaces = context.namespaces
        self.registry = Registry(
            context.store,
            namespaces._group,
            incarnation=namespaces.incarnation,
            clock=time.time,
            rng=context.rng,
        )

    async def post(self, path: str, body: Any, *, user: str = "", **headers: str) -> httpx.Response:
        return await self.ask("POST", path, user=user, content=json.dumps(body), headers=headers)

    async def ask(self, method: str, path: str, *, user: str = "", **more: Any) -> httpx.Response:
        claims = {"username": "name", "server_key": "c1", "gen": 0}
        token = self.realm.signer("auth").sign(Audience.ACCESS, user or self.user, 60, **claims)
        headers = {"Host": HOSTS[0], "Authorization": f"Bearer {token}", **more.pop("headers", {})}
        return await self.http.request(method, f"/meta/c1{path}", headers=headers, **more)

    async def begin(self, file_id: str, base: int = 0, **more: Any) -> dict[str, Any]:
        return ok(await self.post(f"/files/{file_id}/update", {"client_version": base, **more}))

    async def commit(self, file_id: str, token: str, version: int, **more: Any) -> httpx.Response:
        body = {"upload_token": token, "new_version": version, **more}
        return await self.post(f"/files/{file_id}/commit", body)

    async def store(self, token: str, chunks: Mapping[str, bytes]) -> None:
        upload = self.context.verifier.verify(token, Audience.UPLOAD).text("upload")
        call = f"call{next(self.calls)}"
        registered = [
            RegisteredChunk(
                chunk_id=name, hash=hash_of(data), size=len(data), object=f"{upload}/{call}.0", offset=0
            )
            for name, data in chunks.items()
        ]
        await self.registry.register(
            RegisterRequest(namespace=self.user, upload=upload, call=call, pool="p1", chunks=registered)
        )


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: httpx.Response, status: int, word: str) -> Any:
    assert (response.status_code, response.json()["error"]) == (status, word), response.text
    return response.json()


def chunk(data: bytes, chunk_id: str | None = None) -> dict[str, Any]:
    named = {} if chunk_id is None else {"chunk_id": chunk_id}
    return {"hash": hash_of(data), "size": len(data), **named}


@pytest.fixture(scope="module")
async def clients(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Iterator[Client]]:
    folder = tmp_path_factory.mktemp("realm")
    realm = Realm(folder)
    cluster = {"server_key": "c1", "pools": ["p0", "p1"], "write_pools": ["p1", "p0"]}
    (folder / "routing.json").write_text(json.dumps({"revision": 1, "hosts": HOSTS, "clusters": [cluster]}))
    settings = realm.settings("l1", cluster={"server_key": "c1", "upload_max": 3600})
    shared = open_shared(settings)
    server = await open_on(MemoryStore(), "realm", settings, shared, NullObserver())
    async with serving(shared, server) as running, httpx.AsyncClient(base_url=running.public) as http:
        yield (Client(http, realm, server.context, number) for number in itertools.count())


@pytest.fixture
def client(clients: Iterator[Client]) -> Client:
    return next(clients)


@pytest.fixture
def other(clients: Iterator[Client]) -> Client:
    return next(clients)


# --- one file


async def test_a_file_is_updated_and_committed(client: Client):
    begun = await client.begin("f", chunks=[chunk(b"1", "a"), chunk(b"2")], parent_dir_id="root", name="n")
    assert begun == {
        "status": "proceed",
        "required_chunks": ["a", hash_of(b"2")],
        "upload_token": begun["upload_token"],
        "block_server": "store.example/block/p1",
    }
    await client.store(begun["upload_token"], {"a": b"1", hash_of(b"2"): b"2"})
    attrs = {"mtime": "2026-01-01T00:00:00Z", "mode": 0o644, "type": "text/plain"}
    assert ok(await client.commit("f", begun["upload_token"], 1, attrs=attrs)) == {
        "status": "committed",
        "version": 1,
    }
    metadata = ok(await client.ask("GET", "/files/f/metadata"))
    assert (metadata["name"], metadata["size"], metadata["attrs"]) == ("n", 2, attrs)


async def test_the_upload_token_says_what_the_others_check(client: Client):
    token = (await client.begin("f"))["upload_token"]
    claims = client.context.verifier.verify(token, Audience.UPLOAD)
    assert claims.issuer == "l1"
    assert claims.subject == claims.text("ns") == client.user
    assert (claims.text("server_key"), claims.text("inc")) == ("c1", client.context.incarnation)
    assert 3590 < claims.expires - time.time() <= 3601


async def test_block_servers_are_named_as_the_client_reaches_them(client: Client):
    response = await client.post("/files/f/update", {"client_version": 0}, Host=HOSTS[1])
    assert ok(response)["block_server"] == "other.example:8443/block/p1"


async def test_a_conflict_has_its_status_and_the_servers_version(client: Client):
    token = (await client.begin("f"))["upload_token"]
    ok(await client.commit("f", token, 1, chunks=[]))
    for response in (
        await client.post("/files/f/update", {"client_version": 0}),
        await client.post("/files/f/update", {"client_version": 7}),
    ):
        assert refused(response, 409, "conflict")["status"] == "conflict"
        assert response.json()["server_version"] == 1


async def test_missing_chunks_come_as_a_list(client: Client):
    token = (await client.begin("f", chunks=[chunk(b"1", "a"), chunk(b"2")]))["upload_token"]
    body = refused(await client.commit("f", token, 1), 409, "missing_chunks")
    assert body["missing_chunks"] == ["a", hash_of(b"2")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "$"),
        ({"client_version": -1}, "$.client_version"),
        ({"client_version": 2**53}, "$.client_version"),
        ({"client_version": "0"}, "$.client_version"),
        ({"client_version": 0, "unknown": 1}, "$"),
        ({"client_version": 0, "chunks": [{"hash": hash_of(b"1")}]}, "$.chunks[0]"),
        ({"client_version": 0, "chunks": [{**chunk(b"1"), "size": -1}]}, "$.chunks[0].size"),
        ({"client_version": 0, "chunks": [{**chunk(b"1"), "size": 8 * 2**20 + 1}]}, "$.chunks[0].size"),
        ({"client_version": 0, "chunks": [chunk(b"1"), {"hash": "x", "size": 1}]}, "chunks[1].hash"),
        ({"client_version": 0, "chunks": [chunk(b"1", "a/b")]}, "chunks[0].chunk_id"),
        ({"client_version": 0, "chunks": [chunk(b"1", hash_of(b"2"))]}, "chunks[0].chunk_id"),
        ({"client_version": 0, "name": "a/b"}, "name"),
        ({"client_version": 0, "parent_dir_id": "a/b"}, "parent_dir_id"),
    ],
)
async def test_a_malformed_update_is_told_the_field(client: Client, body: Any, field: str):
    assert refused(await client.post("/files/f/update", body), 422, "invalid_field")["field"] == field


@pytest.mark.parametrize(
    "body",
    [
        {"chunks": ["a/b"]},
        {"chunks": [1]},
        {"attrs": {"mode": 0o10000}},
        {"attrs": {"mode": -1}},
        {"attrs": {"owner": "x"}},
        {"attrs": {"type": "x" * 256}},
        {"new_version": 2**53},
    ],
)
async def test_a_malformed_commit_changes_nothing(client: Client, body: Any):
    token = (await client.begin("f", chunks=[]))["upload_token"]
    response = await client.post("/files/f/commit", {"upload_token": token, "new_version": 1, **body})
    refused(response, 422, "invalid_field")
    assert (await client.ask("GET", "/files/f/metadata")).status_code == 404


async def test_an_id_that_is_none_is_refused(client: Client):
    refused(await client.post("/files/a%20b/update", {"client_version": 0}), 422, "invalid_field")


async def test_a_manifest_of_many_thousand_chunks_fits_into_a_request(client: Client):
    chunks = [chunk(str(number).encode()) for number in range(10_000)]
    begun = await client.begin("f", chunks=chunks)
    assert begun["required_chunks"] == [each["hash"] for each in chunks]
    body = refused(
        await client.commit("f", begun["upload_token"], 1, chunks=[each["hash"] for each in chunks]),
        409,
        "missing_chunks",
    )
    assert len(body["missing_chunks"]) == 10_000


async def test_the_same_idempotency_key_answers_the_same(client: Client):
    token = (await client.begin("f", chunks=[]))["upload_token"]
    body = {"upload_token": token, "new_version": 1}
    headers = {"Idempotency-Key": "k"}
    first = await client.post("/files/f/commit", body, **headers)
    again = await client.post("/files/f/commit", body, **headers)
    assert ok(first) == ok(again)
    other = {**body, "attrs": {"mode": 1}}
    refused(await client.post("/files/f/commit", other, **headers), 422, "idempotency_key_reused")


# --- whose token


@pytest.mark.parametrize("token", ["", "x", "a.b.c"])
async def test_what_is_no_token_commits_nothing(client: Client, token: str):
    refused(await client.commit("f", token, 1, chunks=[]), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("issuer", "audience"), [("auth", Audience.ACCESS), ("auth", Audience.REFRESH), ("l2", Audience.DOWNLOAD)]
)
async def test_a_token_for_something_else_commits_nothing(client: Client, issuer: str, audience: Audience):
    token = client.realm.signer(issuer).sign(audience, client.user, 60, ns=client.user, upload="u")
    refused(await client.commit("f", token, 1, chunks=[]), 401, "unauthenticated")


def upload_token(client: Client, ttl: float = 200, **changes: str) -> str:
    claims = {
        "ns": client.user,
        "upload": "u",
        "server_key": "c1",
        "inc": client.context.incarnation,
        **changes,
    }
    subject = claims.pop("subject", client.user)
    clock = (lambda: time.time() - 100) if ttl < 100 else time.time
    return client.realm.signer("l1", clock).sign(Audience.UPLOAD, subject, ttl, **claims)


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"subject": "somebody", "ns": "somebody"}, 403, "forbidden"),
        ({"ns": "somebody"}, 403, "forbidden"),
        ({"inc": "another"}, 410, "upload_ended"),
        ({"server_key": "c2"}, 410, "upload_ended"),
        ({"ttl": 50}, 410, "upload_ended"),
    ],
)
async def test_a_token_of_another_user_cluster_or_time(client: Client, changes: Any, status: int, word: str):
    token = upload_token(client, **{"ttl": 200, **changes})
    refused(await client.commit("f", token, 1, chunks=[]), status, word)
    batch = {"upload_token": token, "files": [{"file_id": "f", "new_version": 1}]}
    refused(await client.post("/files:batch_commit", batch), status, word)


async def test_a_token_of_an_upload_that_is_not_open(client: Client):
    refused(await client.commit("f", upload_token(client), 1, chunks=[]), 410, "upload_ended")


async def test_another_users_upload_stays_hers(client: Client, other: Client):
    token = (await client.begin("f", chunks=[]))["upload_token"]
    refused(await other.commit("f", token, 1), 403, "forbidden")
    assert ok(await client.commit("f", token, 1))["version"] == 1
    assert (await other.ask("GET", "/files/f/metadata")).status_code == 404


async def test_an_upload_ends_with_the_incarnation_that_it_was_begun_in(client: Client):
    token = (await client.begin("f", chunks=[]))["upload_token"]
    context = client.context
    before = context.incarnation
    try:
        context.incarnation, context.namespaces.incarnation = "restored", b"restored"
        await context.store.transact(Txn(then=(Put(keys.INCARNATION, b"restored"),)))
        refused(await client.commit("f", token, 1), 410, "upload_ended")
    finally:
        context.incarnation, context.namespaces.incarnation = before, before.encode()
        await context.store.transact(Txn(then=(Put(keys.INCARNATION, before.encode()),)))


# --- batches


async def test_a_batch_has_one_token_and_one_result_each(client: Client):
    ok(await client.commit("old", (await client.begin("old", chunks=[]))["upload_token"], 1))
    files = [
        {"file_id": "a", "client_version": 0, "chunks": [chunk(b"1", "x"), chunk(b"2")]},
        {"file_id": "old", "client_version": 0, "chunks": []},
        {"file_id": "b", "client_version": 0, "chunks": [chunk(b"1", "x")]},
        {"file_id": "c", "client_version": 4},
        {"file_id": "d", "client_version": 0, "parent_dir_id": "nowhere", "name": "d"},
    ]
    begun = ok(await client.post("/files:batch_update", {"files": files}))
    a, old, b, c, d = begun["files"]
    assert a == {"file_id": "a", "status": "proceed", "required_chunks": ["x", hash_of(b"2")]}
    assert b == {"file_id": "b", "status": "proceed", "required_chunks": ["x"]}
    assert (old["file_id"], old["status"], old["error"], old["server_version"]) == (
        "old",
        "conflict",
        "conflict",
        1,
    )
    assert (c["file_id"], c["status"], c["error"]) == ("c", "error", "not_found")
    assert (d["status"], d["error"]) == ("error", "not_found")
    assert begun["required_chunks"] == ["x", hash_of(b"2")]
    assert begun["block_server"] == "store.example/block/p1"
    token = begun["upload_token"]
    await client.store(token, {"x": b"1", hash_of(b"2"): b"2"})
    commits = [
        {"file_id": "a", "new_version": 1, "attrs": {"mode": 1}},
        {"file_id": "b", "new_version": 2},
        {"file_id": "old", "new_version": 1},
    ]
    done = ok(await client.post("/files:batch_commit", {"upload_token": token, "files": commits}))["files"]
    assert done[0] == {"file_id": "a", "status": "committed", "version": 1}
    assert (done[1]["status"], done[1]["error"]) == ("error", "invalid_version")
    assert (done[2]["status"], done[2]["error"]) == ("error", "upload_ended")
    assert ok(await client.ask("GET", "/files/a/metadata"))["attrs"] == {"mode": 1}


async def test_a_batch_of_refused_files_has_no_token(client: Client):
    begun = ok(await client.post("/files:batch_update", {"files": [{"file_id": "a", "client_version": 1}]}))
    assert (begun["upload_token"], begun["required_chunks"]) == (None, [])


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_is_of_one_to_a_thousand_files(client: Client, count: int):
    updates = [{"file_id": f"f{n}", "client_version": 0} for n in range(count)]
    refused(await client.post("/files:batch_update", {"files": updates}), 422, "invalid_field")
    commits = [{"file_id": f"f{n}", "new_version": 1} for n in range(count)]
    token = (await client.begin("f"))["upload_token"]
    body = {"upload_token": token, "files": commits}
    refused(await client.post("/files:batch_commit", body), 422, "invalid_field")


async def test_a_file_stands_once_in_a_batch(client: Client):
    updates = [{"file_id": each, "client_version": 0} for each in ("a", "b", "a")]
    body = refused(await client.post("/files:batch_update", {"files": updates}), 422, "invalid_field")
    assert body["field"] == "files[2].file_id"
    token = (await client.begin("f"))["upload_token"]
    commits = [{"file_id": each, "new_version": 1} for each in ("f", "f")]
    response = await client.post("/files:batch_commit", {"upload_token": token, "files": commits})
    assert refused(response, 422, "invalid_field")["field"] == "files[1].file_id"


async def test_a_wrong_field_of_a_batch_is_told_with_its_file(client: Client):
    updates = [
        {"file_id": "a", "client_version": 0},
        {"file_id": "b", "client_version": 0, "chunks": [chunk(b"1", "//")]},
    ]
    body = refused(await client.post("/files:batch_update", {"files": updates}), 422, "invalid_field")
    assert body["field"] == "files[1].chunks[0].chunk_id"


# --- versions


async def test_versions_are_listed_in_pages_and_restored(client: Client):
    for version in range(5):
        begun = await client.begin("f", version)
        await client.store(begun["upload_token"], {"a": b"x" * version})
        ok(await client.commit("f", begun["upload_token"], version + 1))
    page = ok(await client.ask("GET", "/files/f/versions?limit=2"))
    assert [(each["version"], each["size"]) for each in page["versions"]] == [(5, 4), (4, 3)]
    page = ok(await client.ask("GET", f"/files/f/versions?limit=3&cursor={page['next_cursor']}"))
    assert [each["version"] for each in page["versions"]] == [3, 2, 1]
    assert page["next_cursor"] is None
    body = {"version": 2, "client_version": 5}
    for _ in range(2):
        assert ok(await client.post("/files/f/restore", body)) == {"status": "committed", "version": 6}
    assert ok(await client.ask("GET", "/files/f/metadata"))["size"] == 1
    refused(await client.post("/files/f/restore", {"version": 1, "client_version": 5}), 409, "conflict")
    refused(await client.post("/files/f/restore", {"version": 9, "client_version": 6}), 404, "not_found")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "cursor=-1", "cursor=x"])
async def test_a_malformed_page_is_refused(client: Client, query: str):
    ok(await client.commit("f", (await client.begin("f", chunks=[]))["upload_token"], 1))
    refused(await client.ask("GET", f"/files/f/versions?{query}"), 422, "invalid_field")


async def test_another_users_files_are_unknown(client: Client, other: Client):
    ok(await client.commit("f", (await client.begin("f", chunks=[]))["upload_token"], 1))
    mine = await other.ask("GET", "/files/f/versions")
    unknown = await other.ask("GET", "/files/g/versions")
    assert refused(mine, 404, "not_found")["detail"].replace("f", "g") == refused(unknown, 404, "not_found")[
        "detail"
    ].replace("f", "g")
    refused(await other.post("/files/f/restore", {"version": 1, "client_version": 1}), 404, "not_found")
