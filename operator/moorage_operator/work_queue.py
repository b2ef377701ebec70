"""The queue of what is to be reconciled: each key at most once, one worker a key at a time, failures further apart."""

import asyncio
import heapq
import logging
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 120.0

log = logging.getLogger("moorage.queue")


class WorkQueue(Generic[K]):
    """A key that comes again while it waits is done once; while it is worked on, once more afterwards.

    `work(key)` returns the seconds after which the key is due again by itself, or None; whatever it raises is
    logged (an `expected` error in one line) and the key is due again after a growing pause.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[float | None]],
        workers: int = 4,
        monotonic: Callable[[], float] = time.monotonic,
        spread: Callable[[], float] = lambda: random.uniform(0.8, 1.2),  # noqa: S311
        expected: type[Exception] = ConnectionError,
    ) -> None:
        self._expected = expected
        self._work = work
        self._workers = workers
        self._monotonic = monotonic
        self._spread = spread
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0
        self._active: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()

    def add(self, key: K, after: float = 0.0) -> None:
        """Due in `after` seconds, or earlier when it is due earlier already."""
        due = self._monotonic() + after
        known = self._due.get(key)
        if known is not None and known <= due:
            return
        self._due[key] = due
        self._order += 1
        heapq.heappush(self._heap, (due, self._order, key))
        self._changed.set()

    def clear(self) -> None:
        """Nothing is due any more, and failures of the past do not count."""
        self._due.clear()
        self._failures.clear()

    def __len__(self) -> int:
        """Keys that are due or worked on."""
        now = self._monotonic()
        return len(self._active) + sum(due <= now for due in self._due.values())

    def oldest_seconds(self) -> float:
        """How long the key has been due, or worked on, that waits longest; 0 when none does."""
        now = self._monotonic()
        since = [now - due for due in self._due.values() if due <= now]
        since += [now - began for began in self._active.values()]
        return max(since, default=0.0)

    async def run(self) -> None:
        """Work until cancelled; what is being worked on is cancelled too."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work_on())

    async def _work_on(self) -> None:
        while True:
            key = await self._next()
            self._active[key] = self._monotonic()
            try:
                again = await self._work(key)
            except Exception as error:
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                again = self._pause(failures)
                trace = None if isinstance(error, self._expected) else error
                said = {"key": str(key), "failures": failures, "reason": str(error)}
                log.warning("work failed", extra=said, exc_info=trace)
            else:
                self._failures.pop(key, None)
            finally:
                del self._active[key]
                self._changed.set()
            if again is not None:
                self.add(key, again)

    def _pause(self, failures: int) -> float:
        grown = FIRST_RETRY_SECONDS * float(2 ** min(failures - 1, 20))
        return min(LONGEST_RETRY_SECONDS, grown) * self._spread()

    async def _next(self) -> K:
        while True:
            self._changed.clear()
            now = self._monotonic()
            blocked: list[tuple[float, int, K]] = []
            found: K | None = None
            wait: float | None = None
            while self._heap:
                due, order, key = heapq.heappop(self._heap)
                if self._due.get(key) != due:
                    continue  # taken, forgotten, or due at another time by now
                if due > now:
                    heapq.heappush(self._heap, (due, order, key))
                    wait = due - now
                    break
                if key in self._active:
                    blocked.append((due, order, key))
                    continue
                del self._due[key]
                found = key
                break
            for entry in blocked:
                heapq.heappush(self._heap, entry)
            if found is not None:
                return found
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass
