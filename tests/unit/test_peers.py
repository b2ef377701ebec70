"""Calls to peers over real sockets: kept connections, replicas that are away, errors that come back as they are."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import uvloop
from realm import Realm

from moorage.core.errors import (
    ConflictError,
    MissingChunksError,
    NotFoundError,
    StoreUnavailableError,
    ThrottledError,
)
from moorage_nodes import peers
from moorage_nodes.http_pool import ExchangeError, HttpPool
from moorage_nodes.metrics import Metrics
from moorage_nodes.peers import PeerClient, PeerDirectory
from moorage_nodes.settings import Peers
from moorage_nodes.tokens import Audience, Verifier

Answer = Callable[["Peer", bytes], Awaitable[bytes | None]]


class Peer:
    """A server of raw bytes: answers each request by what `answer` returns; None closes the connection."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""
        self._answer = answer
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                request = head + await reader.readexactly(length)
                self.requests.append(request)
                answer = await self._answer(self, request)
                if answer is None:
                    break
                writer.write(answer)
        self._open.discard(writer)
        writer.close()

    def drop_connections(self) -> None:
        for writer in self._open:
            writer.close()


def http(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def say_ok(_peer: Peer, _request: bytes) -> bytes:
    return http(200, b'{"said":"ok"}')


class Said(msgspec.Struct):
    said: str


@pytest.fixture
async def open_peer() -> AsyncIterator[Callable[[Answer], Awaitable[Peer]]]:
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(answer: Answer = say_ok) -> Peer:
            peer = Peer(answer)
            server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            stack.callback(peer.drop_connections)
            peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return peer

        yield open_one


async def no_server() -> str:
    """A URL at which nobody listens."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Realm:
    return Realm(tmp_path_factory.mktemp("realm"))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def client_of(realm: Realm, metrics: Metrics) -> AsyncIterator[Callable[..., PeerClient]]:
    opened: list[PeerClient] = []

    def build(*urls: str) -> PeerClient:
        opened.append(PeerClient("l3", urls, realm.signer("block"), Audience.SERVICE_L3, metrics))
        return opened[-1]

    yield build
    for client in opened:
        client.close()


async def test_a_call_is_json_with_a_service_token(open_peer: Any, client_of: Any, realm: Realm):
    peer = await open_peer()
    answer = await client_of(peer.url).post("/internal/things", {"n": 1}, Said)
    assert answer == Said("ok")
    (request,) = peer.requests
    assert request.startswith(b"POST /internal/things HTTP/1.1\r\n")
    assert request.endswith(b'\r\n\r\n{"n":1}')
    token = request.split(b"Bearer ")[1].split(b"\r\n")[0].decode()
    verified = Verifier(realm.trust(), time.time).verify(token, Audience.SERVICE_L3)
    assert (verified.subject, verified.issuer) == ("block", "block")
    assert verified.expires - time.time() <= 60


async def test_connections_and_tokens_are_used_again(open_peer: Any, client_of: Any):
    peer = await open_peer()
    client = client_of(peer.url)
    for _ in range(5):
        await client.get("/x", Said)
    assert peer.connections == 1
    assert len({request.split(b"Bearer ")[1].split(b"\r\n")[0] for request in peer.requests}) == 1


async def test_a_token_that_is_refused_is_replaced_once(open_peer: Any, client_of: Any, monkeypatch: Any):
    """The clock was set back since it was signed, say: the call is made again under a new one."""
    refused: set[bytes] = set()

    def bearer(request: bytes) -> bytes:
        return request.split(b"Bearer ")[1].split(b"\r\n")[0]

    async def look(_peer: Peer, request: bytes) -> bytes:
        if bearer(request) in refused:
            return http(401, b'{"error":"unauthenticated","detail":"No."}')
        return http(200, b'{"said":"ok"}')

    peer = await open_peer(look)
    client = client_of(peer.url)
    await client.post("/x", {}, Said)
    refused.add(bearer(peer.requests[0]))
    with pytest.raises(StoreUnavailableError):  # so young a token would be refused again
        await client.post("/x", {}, Said)
    monkeypatch.setattr(peers, "TOKEN_NEW", 0.0)
    assert await client.post("/x", {}, Said) == Said("ok")
    assert len(peer.requests) == 4


async def test_calls_at_once_have_connections_of_their_own(open_peer: Any, client_of: Any):
    async def slowly(_peer: Peer, request: bytes) -> bytes:
        await asyncio.sleep(0.05)
        name = request.split(b" ")[1].decode()
        return http(200, msgspec.json.encode({"said": name}))

    peer = await open_peer(slowly)
    client = client_of(peer.url)
    answers = await asyncio.gather(*(client.get(f"/{n}", Said) for n in range(20)))
    assert [answer.said for answer in answers] == [f"/{n}" for n in range(20)]
    assert peer.connections == 20
    await asyncio.gather(*(client.get(f"/{n}", Said) for n in range(20)))
    assert peer.connections == 20


async def test_a_connection_that_was_closed_meanwhile_is_replaced_without_a_word(
    open_peer: Any, client_of: Any
):
    peer = await open_peer()
    client = client_of(peer.url)
    await client.get("/x", Said)
    peer.drop_connections()
    assert (await client.get("/x", Said)).said == "ok"
    assert peer.connections == 2


async def test_a_server_that_says_close_is_taken_at_its_word(open_peer: Any, client_of: Any):
    async def close_after(_peer: Peer, _request: bytes) -> bytes:
        return http(200, b'{"said":"bye"}', "Connection: close")

    peer = await open_peer(close_after)
    client = client_of(peer.url)
    for _ in range(3):
        await client.get("/x", Said)
    assert peer.connections == 3


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_answers_and_bodies_of_any_size_pass(open_peer: Any, client_of: Any, size: int):
    async def echo(_peer: Peer, request: bytes) -> bytes:
        return http(200, request.partition(b"\r\n\r\n")[2])

    peer = await open_peer(echo)
    answer = await client_of(peer.url).post("/x", {"said": "x" * size}, Said)
    assert len(answer.said) == size


async def test_a_chunked_answer_is_put_together(open_peer: Any, client_of: Any):
    async def chunked(_peer: Peer, _request: bytes) -> bytes:
        return (
            b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"said":\r\n5\r\n"ok"}\r\n0\r\n\r\n'
        )

    peer = await open_peer(chunked)
    client = client_of(peer.url)
    for _ in range(2):
        assert (await client.get("/x", Said)).said == "ok"
    assert peer.connections == 1


async def test_another_replica_answers_for_one_that_is_away(open_peer: Any, client_of: Any):
    peer = await open_peer()
    client = client_of(await no_server(), peer.url)
    for _ in range(4):
        assert (await client.get("/x", Said)).said == "ok"
    assert len(peer.requests) == 4


async def test_another_replica_answers_for_one_that_hangs_up(open_peer: Any, client_of: Any):
    async def hang_up(_peer: Peer, _request: bytes) -> None:
        return None

    async def nonsense(_peer: Peer, _request: bytes) -> bytes:
        return b"220 smtp.example.org ESMTP\r\n\r\n"

    bad, worse, good = await open_peer(hang_up), await open_peer(nonsense), await open_peer()
    client = client_of(bad.url, worse.url, good.url)
    for _ in range(6):
        assert (await client.get("/x", Said)).said == "ok"
    # One that failed rests: not every call finds out anew.
    assert len(bad.requests) <= 2


async def test_one_address_that_stands_for_many_servers_is_asked_twice(open_peer: Any, client_of: Any):
    """A Service in a cluster: the connection is to a pod that has gone, the next one to another."""

    async def gone_at_first(peer: Peer, request: bytes) -> bytes | None:
        return None if len(peer.requests) == 1 else await say_ok(peer, request)

    peer = await open_peer(gone_at_first)
    assert (await client_of(peer.url).get("/x", Said)).said == "ok"
    assert len(peer.requests) == 2


async def test_replicas_take_turns(open_peer: Any, client_of: Any):
    one, other = await open_peer(), await open_peer()
    client = client_of(one.url, other.url)
    for _ in range(10):
        await client.get("/x", Said)
    assert (len(one.requests), len(other.requests)) == (5, 5)


async def test_when_nobody_answers_the_store_is_unavailable(client_of: Any):
    client = client_of(await no_server(), await no_server())
    with pytest.raises(StoreUnavailableError):
        await client.get("/x", Said)


async def test_a_peer_that_never_answers_is_given_up_in_time(
    open_peer: Any, client_of: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(peers, "TOTAL_SECONDS", 0.3)

    async def never(_peer: Peer, _request: bytes) -> None:
        await asyncio.sleep(5)

    peer = await open_peer(never)
    began = asyncio.get_running_loop().time()
    with pytest.raises(StoreUnavailableError):
        await client_of(peer.url).get("/x", Said)
    assert asyncio.get_running_loop().time() - began < 1


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"error": "not_found", "detail": "No.", "request_id": "r"}, NotFoundError),
        (409, {"error": "missing_chunks", "detail": "Gone.", "chunks": ["c1"]}, MissingChunksError),
        (
            409,
            {"error": "conflict", "detail": "Stale.", "status": "conflict", "server_version": 6},
            ConflictError,
        ),
        (429, {"error": "throttled", "detail": "Slow.", "retry_after": 3}, ThrottledError),
        (503, {"error": "store_unavailable", "detail": "Away."}, StoreUnavailableError),
    ],
)
async def test_an_error_of_the_peer_comes_back_as_it_is(
    open_peer: Any, client_of: Any, status: int, body: dict[str, Any], kind: type[Exception]
):
    async def fail(_peer: Peer, _request: bytes) -> bytes:
        return http(status, msgspec.json.encode(body))

    peer = await open_peer(fail)
    with pytest.raises(kind) as raised:
        await client_of(peer.url).get("/x", Said)
    assert type(raised.value) is kind
    assert raised.value.as_answer() == {name: body[name] for name in body if name != "request_id"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b'{"error":"unauthenticated","detail":"No."}'),
        (403, b'{"error":"forbidden","detail":"No."}'),
        (500, b'{"error":"internal","detail":"Failed."}'),
        (500, b"<html>"),
        (502, b"[]"),
        (409, b'{"error":"conflict","detail":"a field of its class is missing"}'),
        (200, b"not json"),
        (200, b'{"other":"shape"}'),
    ],
)
async def test_a_failure_of_the_servers_is_never_the_callers_fault(
    open_peer: Any, client_of: Any, status: int, body: bytes
):
    async def fail(_peer: Peer, _request: bytes) -> bytes:
        return http(status, body)

    peer = await open_peer(fail)
    with pytest.raises(StoreUnavailableError):
        await client_of(peer.url).get("/x", Said)


async def test_calls_are_counted_with_their_outcome(open_peer: Any, client_of: Any, metrics: Metrics):
    async def absent(_peer: Peer, _request: bytes) -> bytes:
        return http(404, b'{"error":"not_found","detail":"No."}')

    good, bad = await open_peer(), await open_peer(absent)
    await client_of(good.url).get("/x", Said)
    with pytest.raises(NotFoundError):
        await client_of(bad.url).get("/x", Said)
    assert metrics.store("peer_l3").calls == {("get", "ok"): 1, ("get", "not_found"): 1}


async def test_a_cancelled_call_leaves_no_connection_that_answers_the_next(open_peer: Any, client_of: Any):
    async def late_first(peer: Peer, request: bytes) -> bytes:
        if len(peer.requests) == 1:
            await asyncio.sleep(0.2)
        return http(200, msgspec.json.encode({"said": request.split(b" ")[1].decode()}))

    peer = await open_peer(late_first)
    client = client_of(peer.url)
    first = asyncio.create_task(client.get("/first", Said))
    await asyncio.sleep(0.05)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await client.get("/second", Said)).said == "/second"
    await asyncio.sleep(0.3)
    assert (await client.get("/third", Said)).said == "/third"


async def test_a_directory_knows_the_peers_of_its_settings(realm: Realm, metrics: Metrics, open_peer: Any):
    peer = await open_peer()
    known = Peers(auth=(peer.url,), l3={"c1": (peer.url,)})
    directory = PeerDirectory(known, realm.signer("block"), metrics)
    assert directory.l3("c1") is directory.l3("c1")
    assert (await directory.l3("c1").get("/x", Said)).said == "ok"
    for unknown in (lambda: directory.l3("c2"), lambda: directory.l2("c1")):
        with pytest.raises(StoreUnavailableError):
            unknown()
    directory.close()


def test_calls_work_on_the_event_loop_that_servers_run_on(realm: Realm, metrics: Metrics):
    """uvloop: its transports differ from asyncio's."""

    async def call() -> Said:
        peer = Peer(say_ok)
        server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = PeerClient("l3", [url], realm.signer("block"), Audience.SERVICE_L3, metrics)
        for _ in range(2):
            said = await client.get("/x", Said)
        assert peer.connections == 1
        client.close()
        server.close()
        return said

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(call()) == Said("ok")


@pytest.mark.parametrize("url", ["https://host", "host:80", "http://", "http://host/path", "ftp://host"])
def test_only_plain_urls_of_servers_are_peers(url: str):
    with pytest.raises(ValueError, match="not an http"):
        HttpPool(url)


async def test_a_pool_that_was_closed_keeps_nothing(open_peer: Any):
    peer = await open_peer()
    pool = HttpPool(peer.url)
    ask: dict[str, Any] = {"bearer": "t", "body": None, "connect_seconds": 1}
    assert (await pool.request("GET", "/x", **ask))[0] == 200
    pool.close()
    assert (await pool.request("GET", "/x", **ask))[0] == 200
    assert peer.connections == 2
    pool.close()


async def test_an_answer_cut_short_is_no_answer(open_peer: Any):
    async def cut(peer: Peer, _request: bytes) -> bytes:
        asyncio.get_running_loop().call_later(0.05, peer.drop_connections)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"

    peer = await open_peer(cut)
    pool = HttpPool(peer.url)
    with pytest.raises(ExchangeError):
        await pool.request("GET", "/x", bearer="t", body=None, connect_seconds=1)
    pool.close()
