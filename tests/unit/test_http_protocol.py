"""Bodies through uvicorn's protocol with ours in between: whole, in order, whatever parts they come in."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from moorage_nodes.app import bind
from moorage_nodes.http_protocol import CUT, HttpProtocol


async def digest_of_body(scope: Scope, receive: Receive, send: Send) -> None:
    if CUT in scope:
        await PlainTextResponse("cut")(scope, receive, send)
        return
    request = Request(scope, receive)
    digest = hashlib.sha256()
    async for part in request.stream():
        assert type(part) is bytes
        digest.update(part)
        if scope["path"] == "/slow":
            await asyncio.sleep(0.001)
    await PlainTextResponse(digest.hexdigest())(scope, receive, send)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(digest_of_body, http=HttpProtocol, lifespan="off", log_config=None)
    )
    with bind("127.0.0.1", 0) as sock:
        serving = asyncio.create_task(server.serve([sock]))
        yield sock.getsockname()[1]
        server.should_exit = True
        await serving


@pytest.mark.parametrize("path", ["/fast", "/slow"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_arrives_as_it_was_sent(port: int, path: str, chunked: bool):
    rng = random.Random(f"{path}{chunked}")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for size in (0, 1, 65_536, 65_537, 1_000_000):
        body = rng.randbytes(size)
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode())
        start = 0
        while start < size:
            part = body[start : start + rng.choice((1, 100, 30_000, 70_000, 300_000))]
            writer.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            start += len(part)
            if rng.random() < 0.3:
                await writer.drain()
                await asyncio.sleep(0)
        if chunked:
            writer.write(b"0\r\n\r\n")
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            answer = await reader.readexactly(64)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert answer.decode() == hashlib.sha256(body).hexdigest()
    writer.close()


async def test_requests_in_one_line_keep_their_bodies_apart(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    bodies = [bytes([number]) * (number * 30_000) for number in range(1, 6)]
    for body in bodies:
        writer.write(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    for body in bodies:
        async with asyncio.timeout(20):
            await reader.readuntil(b"\r\n\r\n")
            assert (await reader.readexactly(64)).decode() == hashlib.sha256(body).hexdigest()
    writer.close()


UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize(
    ("method", "headers", "size"),
    [
        ("GET", UPGRADE, 0),
        ("GET", f"{UPGRADE}\r\n{KEY}", 0),
        ("GET", f"{UPGRADE}\r\n{KEY}\r\nSec-WebSocket-Version: 8", 0),
        ("GET", f"{UPGRADE}\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13", 0),
        ("POST", f"{UPGRADE}\r\n{KEY}\r\nSec-WebSocket-Version: 13", 0),
        ("POST", f"{UPGRADE}\r\n{KEY}\r\nSec-WebSocket-Version: 13", 100_000),
        ("POST", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", 100_000),
    ],
)
async def test_an_upgrade_to_what_is_not_spoken_is_answered_as_a_request_or_marked_and_ends_the_connection(
    port: int, method: str, headers: str, size: int
):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = bytes(size)
    head = f"{method} /fast HTTP/1.1\r\nHost: x\r\n{headers}\r\n"
    writer.write(head.encode() + (b"Content-Length: %d\r\n\r\n" % size if size else b"\r\n") + body)
    async with asyncio.timeout(20):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    assert answer.endswith(b"cut" if size else hashlib.sha256(b"").hexdigest().encode())
    writer.close()
