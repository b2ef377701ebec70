"""How the collector stands back for others: it rests the longer, the more they write (docs/adr/0019-collector.md).

What others do is told by the store's revision, which every transaction moves: those of the collector are counted and
taken off. So it needs no idea of how fast a store ought to be, and one that is slow for the collector alone makes it
no slower.
"""

import asyncio
from collections.abc import Awaitable, Callable

from moorage_nodes.gc.tenure import Tenure
from moorage_nodes.metadata import keys
from moorage_nodes.stores.contracts import MetadataStore

ALONE_SECONDS = 0.5  # of work between two looks while nobody writes
BESIDE_SECONDS = 0.1  # and while somebody does: others wait behind a short piece of work only
EQUAL_RATE = 10.0  # of others' transactions a second at which the collector rests as long as it works
MAX_REST = 4.0  # a collection takes five times as long at most
LONGEST_WORK = (
    1.0  # seconds that a rest is measured by: what one call holds up is not made up for all at once
)

Sleep = Callable[[float], Awaitable[None]]


def plan_rest(moved: int, seconds: float) -> float:
    """Seconds to rest for each second of work, when others made `moved` transactions in `seconds`. Pure."""
    return min(MAX_REST, max(moved, 0) / seconds / EQUAL_RATE)


class Pacing:
    """Of one run. `monotonic` gives seconds."""

    def __init__(
        self,
        store: MetadataStore,
        tenure: Tenure,
        monotonic: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._store = store
        self._tenure = tenure
        self._monotonic = monotonic
        self._sleep = sleep
        self._rested = monotonic()
        self._looked = 0.0
        self._revision = 0
        self._written = 0
        self._share = 0.0  # of rest, for each second of work

    async def stand_back(self) -> None:
        """To be called often. Rests when it is time to. StoreUnavailableError."""
        worked = self._monotonic() - self._rested
        if worked < (BESIDE_SECONDS if self._share else ALONE_SECONDS):
            return
        await self._look()
        if self._share:
            await self._sleep(min(worked, LONGEST_WORK) * self._share)
        self._rested = self._monotonic()

    async def _look(self) -> None:
        """What others did since the last look, which was before the last rest."""
        revision = (await self._store.get_many([keys.COLLECTOR_TENURE])).revision
        now, written = self._monotonic(), self._tenure.written
        if self._revision and now > self._looked:
            moved = revision - self._revision - (written - self._written)
            self._share = plan_rest(moved, now - self._looked)
        self._revision, self._looked, self._written = revision, now, written
