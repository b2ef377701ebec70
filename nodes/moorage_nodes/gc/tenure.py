"""Of several collectors of a cluster one works: who holds a key under a lease of etcd's.

The key's creation fences every transaction of the collector, so one that lost its lease while it slept can write
nothing any more. Safety does not rest on it: each step would be right with two at work.
"""

from collections.abc import Callable

from moorage.core.errors import MoorageError, RequestRefusedError, StoreUnavailableError
from moorage_nodes.metadata import keys
from moorage_nodes.stores.contracts import Compare, MetadataStore, Put, Target, Txn, absent

TENURE_SECONDS = 60


class CollectorBusyError(MoorageError):
    """Another collector of this cluster is at work."""

    word = "collector_busy"


class TenureLostError(MoorageError):
    """We were silent for too long, and another collector may be at work."""

    word = "collector_replaced"


class Tenure:
    """Held from `begin` to `end`, if it is renewed in time. `monotonic` gives seconds; `began` is etcd's revision."""

    def __init__(
        self, store: MetadataStore, lease: int, revision: int, ttl: int, monotonic: Callable[[], float]
    ) -> None:
        self._store = store
        self._lease = lease
        self._ttl = ttl
        self._monotonic = monotonic
        self._renewed = monotonic()
        self.began = revision
        self.written = 0
        self.fence = Compare(keys.COLLECTOR_TENURE, Target.CREATE, revision)

    @classmethod
    async def begin(
        cls, store: MetadataStore, holder: str, monotonic: Callable[[], float], ttl: int = TENURE_SECONDS
    ) -> "Tenure":
        """`CollectorBusyError`; `TenureLostError` when we were silent for too long even here; StoreUnavailableError.
        A lost answer leaves a lease that ends by itself.
        """
        asked = monotonic()
        lease = await store.grant_lease(ttl)
        key = keys.COLLECTOR_TENURE
        try:
            done = await store.transact(Txn((absent(key),), (Put(key, holder.encode(), lease),)))
        except RequestRefusedError:
            if monotonic() - asked < ttl:
                raise
            raise TenureLostError("This collector was silent for too long; it stops.") from None
        if not done.succeeded:
            await store.revoke_lease(lease)
            found = await store.get(key)
            who = "" if found is None else f" ({found.value.decode()})"
            raise CollectorBusyError(f"Another collector{who} is at work.")
        return cls(store, lease, done.revision, ttl, monotonic)

    async def renew(self) -> None:
        """Renew when a quarter of the time has passed. To be called often. `TenureLostError`."""
        if self._monotonic() - self._renewed < self._ttl / 4:
            return
        if not await self._store.keep_alive(self._lease):
            raise TenureLostError("This collector was silent for too long; it stops.")
        self._renewed = self._monotonic()

    async def check(self, incarnation: bytes) -> None:
        """Why a transaction with the fence did not succeed, if that is why: raises."""
        found = (await self._store.get_many([keys.COLLECTOR_TENURE, keys.INCARNATION])).found
        kv = found.get(keys.COLLECTOR_TENURE)
        if kv is None or kv.create_revision != self.fence.operand:
            raise TenureLostError("This collector was silent for too long; it stops.")
        kv = found.get(keys.INCARNATION)
        if kv is None or kv.value != incarnation:
            raise StoreUnavailableError("This metadata cluster was restored; the collector must start anew.")

    async def end(self) -> None:
        """Let others begin at once. Idempotent."""
        await self._store.revoke_lease(self._lease)
