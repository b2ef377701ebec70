"""Read batching: reads that come while one is under way go to the store together, as one linearizable read.

Linearizable because a read only ever joins a request that is sent after the read began. Idle reads go in the same
turn of the event loop.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from moorage_nodes.stores.contracts import MAX_TXN_OPS, KeyValue, Range, RangeResult, Snapshot
from moorage_nodes.stores.fanout import build_own, should_fail_too
from moorage_nodes.stores.observer import Observer

Read = bytes | Range  # a key, or a bounded range
Fetch = Callable[[Sequence[Read]], Awaitable[Snapshot]]
MAX_IN_FLIGHT = 2


class _Batch:
    __slots__ = ("keys", "since", "waiters")

    def __init__(self, since: float) -> None:
        self.since = since  # by the event loop's clock
        self.keys: dict[Read, None] = {}  # in order, each once
        self.waiters: list[asyncio.Future[Snapshot]] = []

    def has_room(self, keys: Sequence[Read]) -> bool:
        if len(self.keys) + len(keys) <= MAX_TXN_OPS:
            return True
        return len(self.keys) + sum(key not in self.keys for key in keys) <= MAX_TXN_OPS

    def fail(self, error: Exception) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(build_own(error))


class ReadBatcher:
    """`fetch` reads up to `MAX_TXN_OPS` keys at one revision, linearizably."""

    def __init__(self, fetch: Fetch, observer: Observer, *, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self._fetch = fetch
        self._observer = observer
        self._free = max_in_flight
        self._start_due = False
        self._waiting: deque[_Batch] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, keys: Sequence[Read]) -> Snapshot:
        """`keys` (at most `MAX_TXN_OPS`) at one revision; the snapshot may hold other keys as well."""
        loop = asyncio.get_running_loop()
        if not self._waiting or not self._waiting[-1].has_room(keys):
            self._waiting.append(_Batch(loop.time()))
        batch = self._waiting[-1]
        batch.keys.update(dict.fromkeys(keys))
        waiter: asyncio.Future[Snapshot] = loop.create_future()
        batch.waiters.append(waiter)
        if self._free and not self._start_due:
            # Not at once: what else comes in this turn of the loop goes along.
            self._start_due = True
            loop.call_soon(self._start)
        return await waiter

    def _start(self) -> None:
        """Send waiting batches while there is room for them in flight."""
        self._start_due = False
        while self._free and self._waiting:
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._fly(self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _land(self) -> None:
        """A request has ended: the oldest waiting batch takes its place."""
        self._free += 1
        self._start()

    async def _fly(self, batch: _Batch) -> None:
        waiters = batch.waiters
        self._observer.observe_batch("read", len(waiters))
        try:
            if any(not waiter.done() for waiter in waiters):
                snapshot = await self._fetch(list(batch.keys))
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(snapshot)
        except Exception as error:  # noqa: BLE001 - whatever it is, the readers must hear of it
            batch.fail(error)
            now = asyncio.get_running_loop().time()
            while self._waiting and should_fail_too(error, self._waiting[0].since, now):
                self._waiting.popleft().fail(error)
        except BaseException:
            for waiter in waiters:
                waiter.cancel()
            raise
        finally:
            self._land()


def select(snapshot: Snapshot, keys: Sequence[Read]) -> Snapshot:
    """Only `keys` of what was read."""
    found: dict[bytes, KeyValue] = {}
    ranges: dict[Range, RangeResult] = {}
    for key in keys:
        if isinstance(key, Range):
            ranges[key] = snapshot.ranges[key]
        elif key in snapshot.found:
            found[key] = snapshot.found[key]
    return Snapshot(snapshot.revision, found, ranges)
