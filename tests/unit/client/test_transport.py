"""What is sent again, and what an answer means, on real sockets."""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from moorage import transport as transport_module
from moorage.core.errors import (
    ConflictError,
    MoorageError,
    NotFoundError,
    StoreUnavailableError,
    ThrottledError,
)
from moorage.core.wire import LoginAnswer
from moorage.transport import Transport, decode, parse_failure, parse_retry_after


def answer(status: int, body: object = b"", **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


class Site:
    """Answers one request after the other with what it was given; b"" hangs up. `seen`: their heads and bodies."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.seen: list[tuple[str, bytes]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = next(
                    (
                        int(line.split(":")[1])
                        for line in head.split("\r\n")
                        if line.startswith("content-length")
                    ),
                    0,
                )
                self.seen.append((head, await reader.readexactly(length)))
                given = self.answers.pop(0)
                writer.write(given)
                if not given:
                    break
        writer.close()


@contextlib.asynccontextmanager
async def site(*answers: bytes) -> AsyncIterator[Site]:
    made = Site(*answers)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


class Time:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., tuple[Transport, Time]]]:
    made: list[Transport] = []

    def open_transport(**options) -> tuple[Transport, Time]:
        time = Time()
        made.append(Transport(sleep=time.sleep, clock=lambda: time.now, rng=random.Random(1), **options))
        return made[-1], time

    yield open_transport
    for transport in made:
        await transport.close()


async def test_what_a_store_could_not_do_just_now_is_sent_again_as_it_was(opened):
    transport, time = opened()
    refused = answer(503, {"error": "store_unavailable", "detail": "etcd is away"})
    async with site(refused, b"", answer(502, b"<html>"), answer(200, b"done")) as there:
        said = await transport.send("POST", there.url + "/x", body={"a": 1}, token="t", idempotency_key="k")
    assert said == b"done"
    assert len(time.pauses) == 3
    assert {body for _, body in there.seen} == {b'{"a":1}'}
    assert all("authorization: bearer t" in head and "idempotency-key: k" in head for head, _ in there.seen)


async def test_what_was_refused_for_good_is_not_sent_again(opened):
    transport, time = opened()
    conflict = {
        "error": "conflict",
        "detail": "stale",
        "status": "conflict",
        "server_version": 7,
        "request_id": "r1",
    }
    async with site(answer(409, conflict)) as there:
        with pytest.raises(ConflictError) as caught:
            await transport.send("POST", there.url, body={})
    assert caught.value.server_version == 7
    assert caught.value.__notes__ == ["request r1"]
    assert time.pauses == []


async def test_a_server_that_asks_for_patience_gets_it_and_is_not_waited_for_beyond_ours(opened):
    told: list[MoorageError] = []
    transport, time = opened(patience=60, on_wait=told.append)
    throttled = {"error": "throttled", "detail": "slow down", "retry_after": 9}
    async with site(answer(429, throttled, Retry_After="9"), answer(200, b"ok")) as there:
        assert await transport.send("GET", there.url) == b"ok"
    assert time.pauses == [9]
    assert [type(error) for error in told] == [ThrottledError]
    async with site(answer(429, throttled, Retry_After="300")) as there:
        with pytest.raises(ThrottledError):
            await transport.send("GET", there.url)


async def test_nobody_there_is_given_up_after_a_while_with_the_address(opened):
    transport, time = opened(patience=10)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(StoreUnavailableError, match=rf"127\.0\.0\.1:{port} cannot be reached"):
        await transport.send("GET", f"http://127.0.0.1:{port}/")
    assert 5 <= sum(time.pauses) <= 10


async def test_a_redirect_is_no_answer_of_a_store(opened):
    transport, _ = opened()
    async with site(answer(302, b"", Location="http://elsewhere.example/")) as there:
        with pytest.raises(MoorageError, match="is the address right"):
            await transport.send("GET", there.url, token="secret")
    assert len(there.seen) == 1


def test_an_answer_of_something_else_is_said_to_be_that():
    error = parse_failure(404, b"<html>nginx</html>")
    assert type(error) is MoorageError
    assert "404" in error.detail
    assert type(parse_failure(503, b"<html>")) is StoreUnavailableError
    assert type(parse_failure(404, b'{"error":"not_found","detail":"no"}')) is NotFoundError
    assert type(parse_failure(400, b"[]")) is MoorageError
    assert type(parse_failure(503, b'{"message":"no healthy upstream"}')) is StoreUnavailableError
    for content in (b"<html>welcome</html>", b"\xff\xfe", b"[]"):
        with pytest.raises(MoorageError, match="is the address right"):
            decode(content, LoginAnswer)


async def test_an_answer_without_end_is_not_taken_into_memory(opened, monkeypatch):
    monkeypatch.setattr(transport_module, "MAX_ANSWER_BYTES", 1000)
    transport, _ = opened()
    async with site(answer(200, b"x" * 1001)) as there:
        with pytest.raises(MoorageError, match="more than any store"):
            await transport.send("GET", there.url)
    assert "accept-encoding: identity" in there.seen[0][0]


async def test_a_body_goes_out_in_parts_with_its_length(opened):
    transport, _ = opened()
    content = bytes(3 * transport_module.PART_BYTES + 1)
    async with site(answer(200)) as there:
        await transport.send("PUT", there.url, content=content)
    ((head, body),) = there.seen
    assert body == content
    assert f"content-length: {len(content)}" in head
    assert "transfer-encoding" not in head


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[::1", "nothing://x"])
async def test_an_address_that_cannot_be_asked_is_said(opened, url):
    transport, _ = opened()
    with pytest.raises(MoorageError):
        await transport.send("GET", url)


@pytest.mark.parametrize(
    ("text", "seconds"), [("3", 3.0), ("0", 0.0), (None, None), ("soon", None), ("-1", None)]
)
def test_how_long_to_wait_is_told_in_seconds(text, seconds):
    assert parse_retry_after(text) == seconds
