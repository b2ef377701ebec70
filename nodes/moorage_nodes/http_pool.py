"""HTTP/1.1 to one server of ours over kept connections: what peers' calls need and no more.

A general client (aiohttp) would take 9 MiB of every process and four times the CPU of a call; the parser is the
one that uvicorn has loaded anyway (docs/adr/0009-peer-calls.md).
"""

import asyncio
import time
from typing import cast
from urllib.parse import urlsplit

import httptools

MAX_IDLE = 32  # kept connections
IDLE_SECONDS = 60.0  # shorter than the servers keep them (moorage_nodes.app)
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class ExchangeError(ConnectionError):
    """The connection ended, or spoke no HTTP, before the answer was whole."""


class _Connection(asyncio.Protocol):
    """One exchange at a time: `send` answers a future of (status, body)."""

    def __init__(self) -> None:
        self.used = False
        self.reusable = False
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()

    def send(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._body.clear()
        self.reusable = False
        if self._transport is None or self._transport.is_closing():
            self._fail()
        else:
            self._transport.write(request)
        return answer

    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
            self._fail()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._fail()

    # The parser's callbacks.

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MAX_ANSWER_BYTES:
            self.close()
            self._fail()

    def on_message_complete(self) -> None:
        self.reusable = self._parser.should_keep_alive() and self._answer is not None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), bytes(self._body)))
        self._answer = None
        self._parser = httptools.HttpResponseParser(self)

    def _fail(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ExchangeError("the connection ended before the answer"))
        self._answer = None


class HttpPool:
    """Kept connections to `base_url` (`http://host[:port]`; TLS between servers is not spoken yet)."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "http" or parts.hostname is None or parts.path not in {"", "/"}:
            raise ValueError(f"{base_url} is not an http:// URL of a server")
        self.url = base_url
        self._host, self._port = parts.hostname, parts.port or 80
        self._host_header = parts.netloc
        self._idle: list[_Connection] = []

    async def request(
        self, method: str, path: str, *, bearer: str, body: bytes | None, connect_seconds: float
    ) -> tuple[int, bytes]:
        """The status and the whole body of the answer. OSError (ExchangeError, TimeoutError included) when there
        is none; the request may have been carried out then.

        A kept connection that the server closed meanwhile is replaced by a new one without a word. Cancelling
        closes the connection.
        """
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host_header}\r\nAuthorization: Bearer {bearer}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body or b'')}\r\n\r\n"
        )
        request = head.encode() + (body or b"")
        while True:
            connection = self._take_idle() or await self._connect(connect_seconds)
            was_kept, connection.used = connection.used, True
            try:
                answer = await connection.send(request)
            except ExchangeError:
                if was_kept:
                    continue
                raise
            finally:
                self._give_back(connection)
            return answer

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _take_idle(self) -> _Connection | None:
        oldest = time.monotonic() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open() and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self, seconds: float) -> _Connection:
        async with asyncio.timeout(seconds):
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection

    def _give_back(self, connection: _Connection) -> None:
        if connection.reusable and connection.is_open() and len(self._idle) < MAX_IDLE:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()
