"""A load generator that costs little: uvloop protocols that send ready-made HTTP/1.1 requests on kept connections.

Both sides of a comparison are driven by it, so what it costs itself pulls a ratio towards 1; it prints its own
limit (a server that answers constant bytes) with the results so that one can see how far it is.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast


@dataclass(slots=True)
class Result:
    """`seconds` from the first byte sent to the last answer; `latencies` in seconds; `statuses` counts."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def build_request(
    method: str, path: str, *, host: str, token: str | None = None, body: bytes | None = None
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


class _Connection(asyncio.Protocol):
    """One connection: sends the next request when the answer to the last one is complete."""

    def __init__(
        self, requests: Iterator[bytes], result: Result, done: "asyncio.Future[None]", *, keep: bool
    ) -> None:
        self.requests = requests
        self.result = result
        self.done = done
        self.keep = keep
        self.buffer = bytearray()
        self.expected = -1
        self.sent_at = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        self.transport = transport
        self._next()

    def _next(self) -> None:
        request = next(self.requests, None)
        if request is None:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.expected < 0:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            at = head.find(b"content-length:")
            if at < 0:
                self._fail(f"an answer without a length: {head[:200]!r}")
                return
            length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            self.expected = end + 4 + length
        if len(self.buffer) < self.expected:
            return
        self.result.latencies.append(time.perf_counter() - self.sent_at)
        status = int(self.buffer[9:12])
        self.result.statuses[status] = self.result.statuses.get(status, 0) + 1
        if self.keep:
            body = bytes(self.buffer[: self.expected])
            self.result.bodies.append(body[body.find(b"\r\n\r\n") + 4 :])
        del self.buffer[: self.expected]
        self.expected = -1
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._fail(f"the connection was closed early: {exc}")

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(why))
        self.transport.close()


async def drive(port: int, streams: list[Callable[[], Iterator[bytes]]], *, keep: bool = False) -> Result:
    """Send each stream of requests over a connection of its own to 127.0.0.1:`port`, all at once."""
    loop = asyncio.get_running_loop()
    result = Result()
    dones: list[asyncio.Future[None]] = [loop.create_future() for _ in streams]
    started = time.perf_counter()
    for stream, done in zip(streams, dones, strict=True):
        await loop.create_connection(
            lambda stream=stream, done=done: _Connection(stream(), result, done, keep=keep), "127.0.0.1", port
        )
    await asyncio.gather(*dones)
    result.seconds = time.perf_counter() - started
    return result


def expect_status(result: Result, status: int = 200) -> Result:
    """A benchmark whose requests fail measures nothing."""
    if set(result.statuses) != {status}:
        raise RuntimeError(f"expected only {status}, got {result.statuses}: {result.bodies[:1]}")
    return result


class _Drain(asyncio.Protocol):
    """Sends one request and throws away what comes, but for the head."""

    def __init__(self, request: bytes, done: "asyncio.Future[int]") -> None:
        self.request = request
        self.done = done
        self.head = bytearray()
        self.expected = -1
        self.received = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.expected < 0:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.head[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                self.done.set_exception(RuntimeError(f"not 200: {bytes(self.head[:300])!r}"))
                self.transport.close()
                return
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            self.expected = end + 4 + length
        if self.received >= self.expected and not self.done.done():
            self.done.set_result(self.expected)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"closed after {self.received} of {self.expected}: {exc}"))


async def drain(port: int, requests: list[bytes]) -> int:
    """All requests at once, each on a connection of its own; the bytes received in all."""
    loop = asyncio.get_running_loop()
    dones: list[asyncio.Future[int]] = [loop.create_future() for _ in requests]
    for request, done in zip(requests, dones, strict=True):
        await loop.create_connection(
            lambda request=request, done=done: _Drain(request, done), "127.0.0.1", port
        )
    return sum(await asyncio.gather(*dones))
