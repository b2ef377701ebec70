"""Answers that are bytes: sent at the reader's speed, cut off when they cannot be completed."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from moorage.core.errors import MoorageError
from moorage_nodes.blocks.budget import Room
from moorage_nodes.web import note_error

log = logging.getLogger("moorage.blocks")
STALL_SECONDS = 60.0  # a reader that takes nothing for so long is cut off
# Nothing that users store is ever shown as a page of ours.
SAFE_HEADERS = {
    "Content-Type": "application/octet-stream",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-cache",
}


class BytesAnswer(Response):
    """`headers` say how many bytes `pieces` will give. When they fail, or the reader stalls, the connection is
    cut: an answer that is short never looks complete. What `room` holds is given back at the end.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        pieces: AsyncGenerator[bytes | memoryview, None] | None,
        room: Room | None = None,
    ) -> None:
        super().__init__(None, status, {**SAFE_HEADERS, **headers})
        self._pieces = pieces
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._send_all(scope, receive, send)
        finally:
            if self._room is not None:
                self._room.close()

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._pieces is None:
            await send({"type": "http.response.body", "body": b""})
            return
        gone = asyncio.create_task(_wait_until_gone(receive))
        try:
            async with aclosing(self._pieces) as pieces:
                async for piece in pieces:
                    if gone.done():
                        return
                    async with asyncio.timeout(STALL_SECONDS):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except MoorageError as error:
            # The status has been sent: all that is left is to end without the end.
            note_error(scope, error)
        except TimeoutError:
            log.info("reader stalls", extra={"path": scope["path"]})
        finally:
            gone.cancel()


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def content_disposition(name: str) -> str:
    """`attachment` with the file's name (RFC 6266, RFC 8187), for old and new readers."""
    plain = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
