"""HTTP to one store: sends again what may be sent again, and turns error answers into `moorage.core.errors`.

Every call of the protocol is idempotent under retry with the same arguments (PROTOCOL.md, Errors), so what got no
answer, or 503, or 429, is sent again until an outage is more than a pause (`core.retries`).
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import msgspec

from moorage.core.errors import MoorageError, StoreUnavailableError, error_from_answer
from moorage.core.retries import PATIENCE, plan_retry

PARALLEL = 8
"""Requests under way at once: enough to fill a line, few enough that no server feels it."""
_TIMEOUT = httpx.Timeout(60, connect=5)
_PASSING = frozenset({429, 502, 503, 504})


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

    def draw_id(self, prefix: str = "") -> str:
        """A new id that nobody else has: 128 random bits."""
        return f"{prefix}{self._rng.getrandbits(128):032x}"

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

        Raises what the server says as its error, and StoreUnavailableError when nobody answered for as long as its patience lasts.
        """
        headers = {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = msgspec.json.encode(body)
        began, tried = self._clock(), 0
        while True:
            tried += 1
            retry_after = None
            failure: MoorageError
            try:
                answer = await self._http.request(method, url, content=content, params=query, headers=headers)
            except httpx.TransportError as error:
                failure = StoreUnavailableError(
                    f"{_host_of(url)} cannot be reached ({_reason(error)}): is the address right, and is it running?"
                )
            else:
                if answer.is_success:
                    return answer.content
                failure = parse_failure(answer.status_code, answer.content)
                if answer.status_code not in _PASSING:
                    raise failure
                retry_after = parse_retry_after(answer.headers.get("Retry-After"))
            pause = plan_retry(
                tried,
                waited=self._clock() - began,
                patience=self._patience,
                jitter=self._rng.random(),
                retry_after=retry_after,
            )
            if pause is None:
                raise failure
            self._on_wait(failure)
            await self._sleep(pause)


def parse_failure(status: int, content: bytes) -> MoorageError:
    """The error that an answer tells of; its request id, if it has one, is a note on it."""
    try:
        answer = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.MsgspecError:
        sentence = f"The answer was {status}, and not one of a Moorage server: is the address right?"
        return StoreUnavailableError(sentence) if status in _PASSING else MoorageError(sentence)
    error = error_from_answer(answer)
    if isinstance(request_id := answer.get("request_id"), str):
        error.add_note(f"request {request_id}")
    return error


def parse_retry_after(text: str | None) -> float | None:
    """Seconds; None where there is none, or it is a date."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _host_of(url: str) -> str:
    return httpx.URL(url).netloc.decode()


def _reason(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
