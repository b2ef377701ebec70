"""Reading no faster than so many bytes a second."""

import asyncio
from collections.abc import Awaitable, Callable

BURST_SECONDS = 1.0  # what may be made good after a pause


class Pace:
    """`clock` gives seconds that only rise."""

    def __init__(
        self,
        bytes_per_second: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    async def spend(self, count: int) -> None:
        """`count` bytes were read: wait until the next may be."""
        now = self._clock()
        self._due = max(self._due, now - BURST_SECONDS) + count / self._rate
        if self._due > now:
            await self._sleep(self._due - now)
