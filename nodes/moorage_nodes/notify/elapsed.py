"""A clock that only ever runs late: time that has certainly passed, counted in etcd (docs/adr/0018-notification-servers.md).

`q/c` holds elapsed milliseconds. A server that has seen one value stand for a while, by its own monotonic clock, adds
that while, comparing that the value still stands. So each addition is time that really passed after the value before
it was written, whatever wall clocks do, however many servers add, and when one was asleep. What passes while no server
runs, or etcd is away, is not counted: deadlines come late then, never early.

An addition is at most the record's `step`. Of the first one after a reading, up to a step may have passed before that
reading: `due_after` adds it.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage_nodes.notify import keys
from moorage_nodes.notify.keys import Clock
from moorage_nodes.stores.contracts import Compare, KeyValue, MetadataStore, Put, Txn, unchanged

log = logging.getLogger("moorage.elapsed")
STEPS = 50  # a deadline comes late by one or two of so many parts of it
SHORTEST_STEP, LONGEST_STEP = 100, 60_000  # ms
SLOWER = 0.999  # monotonic clocks may be slewed by 0.05 %
RETRY_SECONDS = 1.0


def choose_step(ack_deadline: int) -> int:
    """Milliseconds that are counted at once, for deadlines of so many seconds."""
    return max(SHORTEST_STEP, min(LONGEST_STEP, ack_deadline * 1000 // STEPS))


@dataclass(frozen=True, slots=True)
class Reading:
    """The clock as it stood at the revision `revision` of its key."""

    elapsed: int
    step: int
    revision: int

    def due_after(self, seconds: float) -> int:
        """The elapsed milliseconds at which `seconds` have certainly passed, if the clock still stands like this."""
        return self.elapsed + self.step + int(seconds * 1000)

    def stands(self) -> Compare:
        return unchanged(keys.CLOCK, self.revision)


def parse_reading(kv: KeyValue) -> Reading:
    record = keys.decode(Clock, kv.value)
    return Reading(record.elapsed, record.step, kv.mod_revision)


class ElapsedClock:
    """One per process. `observe` tells it what stands in etcd; `run` adds to it."""

    def __init__(self, store: MetadataStore, *, step: int, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._step = step
        self._monotonic = monotonic
        self._watchers: list[Callable[[bool], None]] = []
        self._reading = Reading(0, step, 0)
        self._seen = 0.0  # monotonic; the reading certainly stood then

    @property
    def elapsed(self) -> int:
        """What is known here: never more than what stands in etcd."""
        return self._reading.elapsed

    def subscribe(self, watcher: Callable[[bool], None]) -> None:
        """Call `watcher` whenever more has elapsed, with whether it was this process that wrote so."""
        self._watchers.append(watcher)

    async def open(self) -> None:
        """Read the clock; the first server of a notifier makes it."""
        if await self._read() is None:
            first = Put(keys.CLOCK, keys.encode(Clock(1, 0, self._step)))
            await self._store.transact(Txn((unchanged(keys.CLOCK, 0),), (first,)))
            if await self._read() is None:
                raise StoreUnavailableError("The notifier's clock could not be made.")

    def observe(self, kv: KeyValue, *, mine: bool = False) -> None:
        """The key as it stands or stood in etcd. Older news than what is known changes nothing."""
        reading = parse_reading(kv)
        if reading.revision <= self._reading.revision:
            return
        self._reading, self._seen = reading, self._monotonic()
        for watcher in self._watchers:
            watcher(mine)

    async def run(self) -> None:
        """Count for ever."""
        while True:
            step = self._reading.step / 1000 / SLOWER
            await asyncio.sleep(max(0.001, self._seen + step - self._monotonic()))
            try:
                await self.advance()
            except MoorageError as error:
                log.warning("elapsed time is not counted", extra={"reason": error.detail})
                await asyncio.sleep(RETRY_SECONDS)

    async def advance(self) -> None:
        """Add what has passed since the reading was seen, if it still stands; at most one step."""
        reading = self._reading
        passed = min(reading.step, int((self._monotonic() - self._seen) * 1000 * SLOWER))
        if passed <= 0:
            return
        record = Clock(1, reading.elapsed + passed, self._step)
        put = Put(keys.CLOCK, keys.encode(record))
        result = await self._store.transact(Txn((reading.stands(),), (put,)))
        if result.succeeded:
            self.observe(KeyValue(keys.CLOCK, put.value, 0, result.revision, 0), mine=True)
        else:
            await self._read()

    async def _read(self) -> KeyValue | None:
        kv = await self._store.get(keys.CLOCK)
        if kv is not None:
            self.observe(kv)
        return kv
