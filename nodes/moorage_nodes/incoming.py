"""What is left of a request's body when its answer is known is let pass before that answer is sent.

NGINX hands bodies of chunks on as they come. When a server answers before it has all of one, NGINX closes the
client's connection behind the answer without having said so: the client's next request on it would be lost, and
some clients fail while they still send. A body that is too large to wait for is cut off in that way after all
(RFC 9112, 9.6: the client reads the answer and opens a new connection).
"""

import asyncio
import contextlib

from starlette.types import Message, Receive, Scope

MOST_BYTES = 64 * 1024 * 1024
"""More than the largest body that any route takes, so that only what can never be right is cut off."""
MOST_SECONDS = 30.0
IDLE_SECONDS = 3.0


class Incoming:
    """The `receive` of one request, which knows whether the body has come to its end."""

    __slots__ = ("_complete", "_receive", "_scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._complete = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._complete = True
        return message

    async def let_pass(self) -> None:
        """Read what is left and hold none of it. Gives up after `MOST_BYTES`, `MOST_SECONDS`, or when nothing comes
        for `IDLE_SECONDS`.
        """
        if self._complete or not _should_wait(self._scope):
            return
        left = MOST_BYTES
        loop = asyncio.get_running_loop()
        end = loop.time() + MOST_SECONDS
        with contextlib.suppress(TimeoutError):
            while not self._complete and left > 0:
                async with asyncio.timeout_at(min(end, loop.time() + IDLE_SECONDS)):
                    left -= len((await self()).get("body", b""))


def _should_wait(scope: Scope) -> bool:
    """Whether there is a body that is worth waiting for: a sender that waits for `100 Continue` sends none."""
    has_body = False
    for name, value in scope["headers"]:
        if name == b"content-length":
            has_body = value.isdigit() and 0 < int(value[:20]) <= MOST_BYTES
            if not has_body:
                return False
        elif name == b"transfer-encoding":
            has_body = True
        elif name == b"expect":
            return False
    return has_body
