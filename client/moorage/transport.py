"""HTTP to one store: sends again what may be sent again, and turns error answers into `moorage.core.errors`.

Every call of the protocol is idempotent under retry with the same arguments (PROTOCOL.md, Errors), so what got no
answer, or 503, or 429, is sent again until an outage is more than a pause (`core.retries`).
"""

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import httpx
import msgspec
from msgspec import UnsetType

from moorage.core.errors import MoorageError, StoreUnavailableError, error_from_answer
from moorage.core.retries import PATIENCE, plan_retry
from moorage.core.wire import encode

PARALLEL = 8
"""Requests under way at once: enough to fill a line, few enough that no server feels it."""
PART_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Reading waits for what a slow line has still to carry of the request, too.
_TIMEOUT = httpx.Timeout(60, connect=5, read=180)
_PASSING = frozenset({429, 502, 503, 504})

A = TypeVar("A")


class Transport:
    """`patience`: seconds until a server that does not answer is given up. `on_wait` hears why a request has to wait,
    before each pause. `sleep`, `clock` (monotonic seconds) and `rng` are handed in by tests.
    """

    def __init__(
        self,
        *,
        patience: float = PATIENCE,
        on_wait: Callable[[MoorageError], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        limits = httpx.Limits(max_connections=2 * PARALLEL, max_keepalive_connections=2 * PARALLEL)
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, limits=limits, follow_redirects=False)
        self._patience = patience
        self._on_wait = on_wait
        self._sleep = sleep
        self._clock = clock
        self._rng = rng or random.SystemRandom()

    async def close(self) -> None:
        await self._http.aclose()

    def draw(self) -> str:
        """128 random bits, in hex."""
        return f"{self._rng.getrandbits(128):032x}"

    async def send(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        body: Any = None,
        content: bytes | None = None,
        query: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> bytes:
        """The body of the answer. `body` travels as JSON, `content` as it is.

        Raises what the server says as its error, StoreUnavailableError when nobody answered for as long as its patience
        lasts, and MoorageError for what is no answer of a store.
        """
        headers = {"Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = encode(body)
        if content is not None:
            headers["Content-Length"] = str(len(content))
        tried, failed_first = 0, None
        while True:
            tried += 1
            retry_after = None
            failure: MoorageError
            try:
                status, asked_to_wait, answer = await self._send_once(method, url, content, query, headers)
            except httpx.TransportError as error:
                failure = _unreachable(url, error)
            else:
                if HTTPStatus(200) <= status < HTTPStatus(300):
                    return answer
                failure = parse_failure(status, answer)
                if status not in _PASSING:
                    raise failure
                retry_after = parse_retry_after(asked_to_wait)
            failed_first = self._clock() if failed_first is None else failed_first
            pause = plan_retry(
                tried,
                waited=self._clock() - failed_first,
                patience=self._patience,
                jitter=self._rng.random(),
                retry_after=retry_after,
            )
            if pause is None:
                raise failure
            self._on_wait(failure)
            await self._sleep(pause)

    async def _send_once(
        self,
        method: str,
        url: str,
        content: bytes | None,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
    ) -> tuple[int, str | None, bytes]:
        """Status, Retry-After and body, of no more than `MAX_ANSWER_BYTES`."""
        parts = None if content is None else _in_parts(content)
        try:
            async with self._http.stream(method, url, content=parts, params=query, headers=headers) as answer:
                body = bytearray()
                async for part in answer.aiter_raw():
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        raise MoorageError(f"{_host_of(url)} answered with more than any store would.")
                return answer.status_code, answer.headers.get("Retry-After"), bytes(body)
        except httpx.TransportError:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OverflowError, ExceptionGroup) as error:
            raise MoorageError(f"{url} cannot be asked: {error}.") from None


async def _in_parts(content: bytes) -> AsyncIterator[bytes]:
    """So that a time-out means a part that did not move, not a slow line."""
    for start in range(0, len(content), PART_BYTES):
        yield content[start : start + PART_BYTES]


def decode(content: bytes, kind: type[A]) -> A:
    """An answer as its type. MoorageError when it is something else."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise MoorageError("The answer is not one of a Moorage server: is the address right?") from None


class Page(Protocol):
    """A part of a list; `next_cursor` names what follows, if anything does."""

    @property
    def next_cursor(self) -> str | UnsetType | None: ...


P = TypeVar("P", bound=Page)


async def walk_pages(
    ask: Callable[[Mapping[str, str]], Awaitable[P]], query: Mapping[str, str] | None = None
) -> AsyncIterator[P]:
    """All pages of a list, from the one that `query` asks for on."""
    asked = dict(query or {})
    while True:
        page = await ask(asked)
        yield page
        if not page.next_cursor:
            return
        asked["cursor"] = page.next_cursor


def parse_failure(status: int, content: bytes) -> MoorageError:
    """The error that an answer tells of; its request id, if it has one, is a note on it."""
    try:
        answer = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.MsgspecError:
        sentence = f"The answer was {status}, and not one of a Moorage server: is the address right?"
        return StoreUnavailableError(sentence) if status in _PASSING else MoorageError(sentence)
    error = error_from_answer(answer)
    if status in _PASSING and type(error) is MoorageError:
        # Of something in between, which has words of its own.
        return StoreUnavailableError(f"The store cannot be reached: something before it answered {status}.")
    if isinstance(request_id := answer.get("request_id"), str):
        error.add_note(f"request {request_id}")
    return error


def parse_retry_after(text: str | None) -> float | None:
    """Seconds; None where there is none, or it is a date."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _host_of(url: str) -> str:
    return httpx.URL(url).netloc.decode()


def _unreachable(url: str, error: httpx.TransportError) -> StoreUnavailableError:
    """MoorageError, raised, where trying again cannot help."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            raise MoorageError(
                f"{_host_of(url)} cannot be trusted ({cause}): SSL_CERT_FILE names the certificates of who signed its own."
            ) from None
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return StoreUnavailableError(f"{_host_of(url)} did not answer in time.")
    if isinstance(error, httpx.UnsupportedProtocol | httpx.ProxyError):
        raise MoorageError(f"{_host_of(url)} cannot be asked: {error}.") from None
    reason = str(error) or type(error).__name__
    return StoreUnavailableError(
        f"{_host_of(url)} cannot be reached ({reason}): is the address right, and is it running?"
    )
