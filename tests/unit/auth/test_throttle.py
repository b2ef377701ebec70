"""The throttle: what passes is counted one by one, over all replicas, and forgotten in time."""

import asyncio

import pytest

from moorage.core.errors import StoreUnavailableError, ThrottledError
from moorage_nodes.auth import keys
from moorage_nodes.auth.throttle import Throttle
from moorage_nodes.stores.contracts import MetadataStore, Txn, TxnResult
from moorage_nodes.stores.memory import MemoryStore

NOW = 1_800_000_000.0
LIMIT = 5


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(store: MetadataStore, clock: Clock) -> Throttle:
    return Throttle(store, limit=LIMIT, window=60, clock=clock)


async def attempt(throttle: Throttle, store: MetadataStore, name: str = "ann") -> int:
    return await throttle.admit(name, await store.get(keys.throttle(name)))


async def test_so_many_attempts_pass_and_no_more(throttle: Throttle, store: MetadataStore, clock: Clock):
    for _ in range(LIMIT):
        await attempt(throttle, store)
    clock.now += 20
    with pytest.raises(ThrottledError) as refused:
        await attempt(throttle, store)
    assert refused.value.retry_after == 40
    await attempt(throttle, store, "another")


async def test_a_success_forgives(throttle: Throttle, store: MetadataStore):
    for _ in range(LIMIT - 1):
        await attempt(throttle, store)
    await throttle.forgive(await attempt(throttle, store))
    assert await store.get(keys.throttle("ann")) is None
    for _ in range(LIMIT):
        await attempt(throttle, store)


async def test_a_burst_over_two_replicas_passes_exactly_the_limit(
    throttle: Throttle, store: MetadataStore, clock: Clock
):
    other = Throttle(store, limit=LIMIT, window=60, clock=clock)
    results = await asyncio.gather(
        *(attempt(one, store) for one in (throttle, other) * 20), return_exceptions=True
    )
    passed = [result for result in results if isinstance(result, int)]
    assert len(passed) == LIMIT
    assert {type(result) for result in results} == {int, ThrottledError}


async def test_all_attempts_of_a_window_share_its_lease(throttle: Throttle, store: MetadataStore):
    assert await attempt(throttle, store) == await attempt(throttle, store)


async def test_the_window_ends_by_the_lease_and_not_by_a_clock(store: MetadataStore, clock: Clock):
    throttle = Throttle(store, limit=1, window=1, clock=clock)
    await attempt(throttle, store)
    clock.now += 3600
    with pytest.raises(ThrottledError) as refused:
        await attempt(throttle, store)
    assert refused.value.retry_after == 1
    for _ in range(100):
        await asyncio.sleep(0.1)
        if await store.get(keys.throttle("ann")) is None:
            break
    await attempt(throttle, store)


async def test_a_record_whose_lease_is_gone_starts_a_new_window(throttle: Throttle, store: MetadataStore):
    """The lease ends between the read and the write: the attempt is neither lost nor refused."""
    await attempt(throttle, store)
    seen = await store.get(keys.throttle("ann"))
    assert seen is not None
    await store.revoke_lease(seen.lease)
    lease = await throttle.admit("ann", seen)
    found = await store.get(keys.throttle("ann"))
    assert found is not None
    assert found.lease == lease != seen.lease
    assert keys.decode(keys.ThrottleRecord, found.value).attempts == 1


async def test_a_store_that_is_away_lets_nobody_guess():
    class Away(MemoryStore):
        async def transact(self, txn: Txn) -> TxnResult:
            raise StoreUnavailableError("away")

    with pytest.raises(StoreUnavailableError):
        await Throttle(Away(), limit=LIMIT, window=60, clock=lambda: NOW).admit("ann", None)
