"""WebSockets for the one role that has them: who may connect is decided before the upgrade, as for any request.

A refusal is an ordinary HTTP answer in the shape of all errors (ASGI's `websocket.http.response`); what happens after
the upgrade ends in a close code. The frames are the server's below us (uvicorn with `websockets`): it answers and
sends pings, bounds what a client may send, and pauses who reads too slowly.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from starlette.requests import HTTPConnection
from starlette.types import Receive, Send

from moorage.core.errors import MoorageError, ThrottledError, UnauthenticatedError, http_status
from moorage_nodes.tokens import Claims

C = TypeVar("C")

# Close codes (RFC 6455, 7.4; 4000 and above are a protocol's own).
GOING_AWAY = 1001
INTERNAL_ERROR = 1011
TRY_AGAIN = 1013
TOKEN_ENDED = 4401
"""The token ran out or was revoked: connect again with another."""


@dataclass(slots=True, eq=False)
class Socket(Generic[C]):
    """One WebSocket that a route was asked for. The handler either raises before `accept`, or accepts and returns
    when the connection has ended.
    """

    server: C
    connection: HTTPConnection
    claims: Claims
    receive: Receive
    _send: Send

    def query(self, name: str) -> str | None:
        return self.connection.query_params.get(name)

    async def accept(self) -> None:
        await self._send({"type": "websocket.accept"})

    async def send(self, text: str) -> None:
        """Hand a message to the connection; waits while its reader is too slow. OSError when it has ended."""
        await self._send({"type": "websocket.send", "text": text})

    async def close(self, code: int, reason: str = "") -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def ended(self) -> None:
        """Wait for the end of the connection. What a client says meanwhile means nothing and is dropped."""
        while (await self.receive())["type"] != "websocket.disconnect":
            pass


async def refuse(send: Send, error: MoorageError, request_id: str | None) -> None:
    """Answer the upgrade with an error."""
    headers = [(b"content-type", b"application/json")]
    if isinstance(error, UnauthenticatedError):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, ThrottledError):
        headers.append((b"retry-after", str(error.retry_after).encode()))
    body = msgspec.json.encode({**error.as_answer(), "request_id": request_id})
    await send({"type": "websocket.http.response.start", "status": http_status(error), "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
