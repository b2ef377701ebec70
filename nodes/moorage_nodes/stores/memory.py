"""A metadata store in memory, with etcd's semantics (moorage_nodes.stores.mvcc): for tests and simulations."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

from moorage.core.errors import CompactedError
from moorage_nodes.stores.contracts import (
    KeyValue,
    Range,
    RangeResult,
    Snapshot,
    Txn,
    TxnResult,
    WatchBatch,
)
from moorage_nodes.stores.mvcc import Keyspace, without_value

SCAN_BATCH = 100


class MemoryStore:
    """`MetadataStore` in one process. `clock` is monotonic seconds and decides when leases end; a lease that has
    ended is noticed at the next call (and by a watch within `progress_interval` seconds).
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, progress_interval: float = 1.0
    ) -> None:
        self._keyspace = Keyspace()
        self._clock = clock
        self._progress_interval = progress_interval
        self._deadlines: dict[int, float] = {}
        self._ttls: dict[int, int] = {}
        self._last_lease = 0
        self._changed = asyncio.Event()

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        await self._pause()
        return self._keyspace.get(key, revision)

    async def get_many(self, keys: Sequence[bytes | Range], *, revision: int = 0) -> Snapshot:
        await self._pause()
        if revision and not keys:
            return Snapshot(revision, {})
        at = self._keyspace.check_revision(revision)
        found: dict[bytes, KeyValue] = {}
        ranges: dict[Range, RangeResult] = {}
        for key in keys:
            if isinstance(key, Range):
                ranges[key] = self._keyspace.range(key, at)
            elif (kv := self._keyspace.get(key, at)) is not None:
                found[key] = kv
        return Snapshot(at, found, ranges)

    async def range(
        self,
        key: bytes,
        end: bytes,
        *,
        revision: int = 0,
        limit: int = 0,
        keys_only: bool = False,
        descending: bool = False,
        by_create_revision: bool = False,
    ) -> tuple[RangeResult, int]:
        await self._pause()
        at = self._keyspace.check_revision(revision)
        op = Range(key, end, limit, keys_only, descending)
        return self._keyspace.range(op, at, by_create_revision=by_create_revision), at

    async def scan(
        self, key: bytes, end: bytes, *, revision: int = 0, keys_only: bool = False
    ) -> AsyncIterator[Sequence[KeyValue]]:
        await self._pause()
        at = self._keyspace.check_revision(revision)
        start = key
        while True:
            page = self._keyspace.range(Range(start, end, SCAN_BATCH), at)
            if page.kvs:
                yield [without_value(kv) for kv in page.kvs] if keys_only else page.kvs
            if not page.more:
                return
            start = page.kvs[-1].key + b"\x00"
            await self._pause()

    async def transact(self, txn: Txn) -> TxnResult:
        await self._pause()
        result = self._keyspace.apply(txn, self._deadlines.keys())
        self._wake_watches()
        return result

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes, *, from_revision: int
    ) -> AsyncIterator[AsyncIterator[WatchBatch]]:
        if from_revision < 1:
            raise ValueError("from_revision is at least 1")
        async with aclosing(self._watch(key, end, from_revision)) as batches:
            yield batches

    async def _watch(self, key: bytes, end: bytes, from_revision: int) -> AsyncGenerator[WatchBatch]:
        following = from_revision
        while True:
            self._end_leases()
            current = self._keyspace.revision
            changed = self._changed
            try:
                events = self._keyspace.events(key, end, following) if following <= current else []
            except CompactedError:
                following = current + 1
                yield WatchBatch(current, resync=True)
                continue
            if events:
                following = current + 1
                yield WatchBatch(current, tuple(events))
                continue
            following = max(following, current + 1)
            try:
                async with asyncio.timeout(self._progress_interval):
                    await changed.wait()
            except TimeoutError:
                yield WatchBatch(current)

    async def grant_lease(self, ttl: int) -> int:
        await self._pause()
        self._last_lease += 1
        lease = self._last_lease
        self._ttls[lease] = ttl
        self._deadlines[lease] = self._clock() + ttl
        return lease

    async def keep_alive(self, lease: int) -> bool:
        await self._pause()
        if lease not in self._deadlines:
            return False
        self._deadlines[lease] = self._clock() + self._ttls[lease]
        return True

    async def revoke_lease(self, lease: int) -> None:
        await self._pause()
        if lease in self._deadlines:
            self._end_lease(lease)

    async def compact(self, revision: int) -> None:
        """Forget the history before `revision`, as an etcd's administrator would."""
        await self._pause()
        self._keyspace.compact(revision)

    async def check(self) -> None:
        await self._pause()

    async def close(self) -> None:
        pass

    async def _pause(self) -> None:
        """Give way before a call takes effect, as a real store's client does; then end what is due."""
        await asyncio.sleep(0)
        self._end_leases()

    def _end_leases(self) -> None:
        if self._deadlines:
            now = self._clock()
            for lease in [lease for lease, deadline in self._deadlines.items() if deadline <= now]:
                self._end_lease(lease)

    def _end_lease(self, lease: int) -> None:
        del self._deadlines[lease]
        del self._ttls[lease]
        self._keyspace.delete_lease(lease)
        self._wake_watches()

    def _wake_watches(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
