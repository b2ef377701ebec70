"""The outermost layer of a server: request ids, metrics, one access line a request, the last word on errors.

Logs are JSON lines on stderr. A line never holds headers, bodies or queries; what looks like a token is masked.
"""

import asyncio
import contextlib
import contextvars
import logging
import re
import secrets
import sys
import time
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec
from pythonjsonlogger.msgspec import MsgspecFormatter
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage.core.errors import MoorageError, StoreUnavailableError, http_status
from moorage_nodes.metrics import Metrics
from moorage_nodes.sockets import INTERNAL_ERROR, refuse

log = logging.getLogger("moorage.observe")
request_id_of_task: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
REQUEST_ID_HEADER = b"x-request-id"
CLIENT_WENT_AWAY = 499  # as NGINX counts it; never sent
_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.\-]{1,64}")
_TOKEN_LIKE = re.compile(
    r"eyJ[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]*|(?<=[Bb]earer )[^\s\"'\\]+"
)
_FAILED = MoorageError("The server failed. Its log has the reason under this request id.")
_STOPPING = StoreUnavailableError("The server is stopping before the request is done; try again.")
_FLUSH_SECONDS = 0.2
_FLUSH_BYTES = 64 * 1024


class AccessLog:
    """One JSON line a request, written in groups: a write per request would cost more than the request's log.

    A process that is killed loses at most the lines of the last `_FLUSH_SECONDS`.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._encoder = msgspec.json.Encoder()
        self._buffer = bytearray()
        self._flusher: asyncio.TimerHandle | None = None

    def write(self, line: dict[str, Any]) -> None:
        self._encoder.encode_into(line, self._buffer, len(self._buffer))
        self._buffer += b"\n"
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()
        elif self._flusher is None:
            self._flusher = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        if self._buffer:
            lines, self._buffer = self._buffer, bytearray()
            self._stream.write(lines)
            self._stream.flush()


class Observed:
    """ASGI: `app` with every request identified, counted and logged, and no exception let out.

    Reads from the scope what the layers below leave there: `moorage.route` (the route's template) and
    `moorage.error` (the MoorageError that was answered). Routes in `quiet` get a line only when they fail.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, access: AccessLog, *, quiet: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._quiet = quiet
        self._metrics = metrics
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._observe_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["moorage.request_id"] = request_id
        request_id_of_task.set(request_id)
        status = 0

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, request_id.encode())]
            await send(message)

        metrics = self._metrics
        metrics.in_flight += 1
        started = time.perf_counter()
        try:
            await self._app(scope, receive, send_observed)
        except ClientDisconnect:
            status = CLIENT_WENT_AWAY
        except asyncio.CancelledError:
            # The drain waits no longer. The task ends here, so nobody is left to be told by raising on.
            if status == 0:
                await _send_error(send_observed, request_id, _STOPPING)
        except Exception:
            log.exception("unhandled", extra={"path": scope["path"], "method": scope["method"]})
            # An answer that began cannot be taken back: returning unfinished makes the server cut it off.
            if status == 0:
                await _send_error(send_observed, request_id, _FAILED)
        finally:
            seconds = time.perf_counter() - started
            metrics.in_flight -= 1
            route = scope.get("moorage.route", "unmatched")
            metrics.observe_request(scope["method"], route, status, seconds)
            if status >= 500 or route not in self._quiet:
                self._access.write(_access_line(scope, request_id, route, status, seconds))

    async def _observe_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One line for a WebSocket too, at its end: the status is the upgrade's (101) or the refusal's."""
        scope["method"] = "WEBSOCKET"
        request_id = _request_id(scope)
        scope["moorage.request_id"] = request_id
        request_id_of_task.set(request_id)
        status = 0

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "websocket.accept":
                status = 101
            elif message["type"] == "websocket.http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER, request_id.encode())]
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, send_observed)
        except OSError:  # the client went away
            status = status or CLIENT_WENT_AWAY
        except asyncio.CancelledError:
            status = status or http_status(_STOPPING)
        except Exception:
            log.exception("unhandled", extra={"path": scope["path"], "method": scope["method"]})
            with contextlib.suppress(OSError):
                if status == 0:
                    await refuse(send_observed, _FAILED, request_id)
                elif status == 101:
                    await send({"type": "websocket.close", "code": INTERNAL_ERROR})
            status = http_status(_FAILED)
        finally:
            seconds = time.perf_counter() - started
            route = scope.get("moorage.route", "unmatched")
            self._metrics.observe_request(scope["method"], route, status, seconds)
            self._access.write(_access_line(scope, request_id, route, status, seconds))


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER and _SANE_REQUEST_ID.fullmatch(value):
            sane: str = value.decode()
            return sane
    return secrets.token_hex(8)


def _access_line(scope: Scope, request_id: str, route: str, status: int, seconds: float) -> dict[str, Any]:
    line = {
        "time": datetime.now(UTC),
        "level": "info" if status < 500 else "error",
        "logger": "moorage.access",
        "message": "request",
        "request_id": request_id,
        "method": scope["method"],
        "path": scope["path"],
        "route": route,
        "status": status,
        "ms": round(seconds * 1000, 3),
    }
    error: MoorageError | None = scope.get("moorage.error")
    if error is not None:
        line["error"] = error.word
        reason = getattr(error, "reason", None)
        if reason is not None:
            line["reason"] = reason
    return line


async def _send_error(send: Send, request_id: str, error: MoorageError) -> None:
    body = msgspec.json.encode({**error.as_answer(), "request_id": request_id})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": http_status(error), "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _JsonFormatter(MsgspecFormatter):
    def format(self, record: logging.LogRecord) -> str:
        record.level = record.levelname.lower()
        record.logger = record.name
        request_id = request_id_of_task.get()
        if request_id is not None:
            record.request_id = request_id
        record.time = datetime.fromtimestamp(record.created, UTC)
        line: str = super().format(record)
        return _TOKEN_LIKE.sub("[masked]", line)


def configure_logging(level: str) -> None:
    """JSON lines on stderr for every logger of the process; what servers below us say only when it matters."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter("%(time)s %(level)s %(logger)s %(message)s"))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("moorage").setLevel(level.upper())
