"""Guessing passwords is slow: attempts are counted per account, in etcd, before the password is looked at.

One record per name that was tried, known or not, counts attempts by compare-and-swap, so that a burst over all
replicas is counted one by one. It lives under a lease as long as the window and vanishes with it; a success ends it
at once. No clock of ours decides.
"""

from collections.abc import Callable

from moorage.core.errors import RequestRefusedError, StoreUnavailableError, ThrottledError
from moorage_nodes.auth import keys
from moorage_nodes.stores.contracts import KeyValue, MetadataStore, Put, Range, RangeResult, Txn, unchanged

MAX_CONFLICTS = 64  # others counted first so many times in a row: that is a burst


class Throttle:
    """At most `limit` attempts that did not succeed within `window` seconds of the first, per account."""

    def __init__(self, store: MetadataStore, *, limit: int, window: int, clock: Callable[[], float]) -> None:
        self._store = store
        self._limit = limit
        self._window = window
        self._clock = clock

    async def admit(self, username: str, seen: KeyValue | None) -> int:
        """Count an attempt and answer the lease that it is kept under; ThrottledError when there were too many.

        `seen` is the account's record as read for this attempt. Atomic: one compare-and-swap. An attempt whose
        write got no answer is refused (StoreUnavailableError) and may have been counted.
        """
        key = keys.throttle(username)
        granted = 0
        ended = False  # the record is still there and its lease is not: its window is over
        for _ in range(MAX_CONFLICTS):
            record = self._count(None if ended else seen)
            lease = seen.lease if seen is not None and not ended else granted
            if not lease:
                lease = granted = await self._store.grant_lease(self._window)
            txn = Txn(
                compares=(unchanged(key, seen.mod_revision if seen else 0),),
                then=(Put(key, keys.encode(record), lease),),
                orelse=(Range(key),),
            )
            try:
                result = await self._store.transact(txn)
            except RequestRefusedError:
                ended, granted = True, 0
                continue
            if result.succeeded:
                return lease
            (found,) = result.results
            if not isinstance(found, RangeResult):
                raise StoreUnavailableError("The store answered out of turn.")
            seen, ended = (found.kvs[0] if found.kvs else None), False
        raise ThrottledError("Too many attempts at once.", retry_after=1)

    async def forgive(self, lease: int) -> None:
        """Forget the account's attempts: one of them succeeded."""
        await self._store.revoke_lease(lease)

    def _count(self, seen: KeyValue | None) -> keys.ThrottleRecord:
        now = int(self._clock() * 1000)
        if seen is None:
            return keys.ThrottleRecord(1, 1, now)
        record = keys.decode(keys.ThrottleRecord, seen.value)
        if record.attempts >= self._limit:
            left = min(self._window, max(1, self._window - (now - record.first) // 1000))
            raise ThrottledError("Too many failed attempts for this account.", retry_after=left)
        return keys.ThrottleRecord(1, record.attempts + 1, record.first)
