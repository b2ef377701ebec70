"""What only the store in memory has: a clock that a test may turn."""

import asyncio

from moorage_nodes.stores.contracts import Put, Txn
from moorage_nodes.stores.memory import MemoryStore


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


async def test_a_lease_ends_by_the_given_clock_and_no_other():
    clock = Clock()
    store = MemoryStore(clock=clock)
    lease = await store.grant_lease(10)
    await store.transact(Txn(then=(Put(b"k", b"", lease),)))
    clock.now = 9.9
    assert await store.get(b"k") is not None
    assert await store.keep_alive(lease)
    clock.now = 19.8
    assert await store.get(b"k") is not None
    clock.now = 20.0
    assert await store.get(b"k") is None
    assert not await store.keep_alive(lease)


async def test_a_watch_notices_a_lease_that_ends_while_nobody_calls():
    clock = Clock()
    store = MemoryStore(clock=clock, progress_interval=0.01)
    lease = await store.grant_lease(10)
    written = await store.transact(Txn(then=(Put(b"k", b"", lease),)))
    async with store.watch(b"a", b"z", from_revision=written.revision + 1) as batches, asyncio.timeout(5):
        assert (await anext(batches)).events == ()
        clock.now = 11.0
        async for batch in batches:
            if batch.events:
                assert [(event.kv.key, event.deleted) for event in batch.events] == [(b"k", True)]
                break


async def test_a_key_moves_to_the_lease_that_it_was_last_put_under():
    store = MemoryStore()
    first, second = await store.grant_lease(60), await store.grant_lease(60)
    await store.transact(Txn(then=(Put(b"k", b"", first),)))
    await store.transact(Txn(then=(Put(b"k", b"", second),)))
    await store.revoke_lease(first)
    assert (await store.get(b"k")).lease == second
    await store.revoke_lease(second)
    assert await store.get(b"k") is None
