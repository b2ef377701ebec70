"""The stores that fail on purpose do what their plan says and nothing else."""

import asyncio

import pytest

from moorage.core.errors import ObjectNotFoundError, OutcomeUnknownError, StoreUnavailableError
from moorage_nodes.stores.contracts import Put, Txn
from moorage_nodes.stores.faulty import Fault, FaultyObjects, FaultyStore, Plan
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.objects_memory import MemoryObjects

PUT = Txn(then=(Put(b"k", b"v"),))


@pytest.mark.parametrize(
    ("fault", "error", "done"),
    [
        (Fault.UNREACHABLE, StoreUnavailableError, False),
        (Fault.LOST_REQUEST, OutcomeUnknownError, False),
        (Fault.LOST_ANSWER, OutcomeUnknownError, True),
        (Fault.CANCELLED_BEFORE, asyncio.CancelledError, False),
        (Fault.CANCELLED_AFTER, asyncio.CancelledError, True),
    ],
)
async def test_a_write_fails_before_or_after_it_is_done(fault, error, done):
    store, objects = MemoryStore(), MemoryObjects()
    with pytest.raises(error) as raised:
        await FaultyStore(store, Plan({0: fault})).transact(PUT)
    assert type(raised.value) is error
    assert (await store.get(b"k") is not None) is done
    with pytest.raises(error):
        await FaultyObjects(objects, Plan({0: fault})).put("k", b"v")
    if done:
        assert await objects.get("k") == b"v"
    else:
        with pytest.raises(ObjectNotFoundError):
            await objects.get("k")


async def test_only_the_chosen_call_fails_and_all_are_told():
    plan = Plan({1: Fault.UNREACHABLE})
    store = FaultyStore(MemoryStore(), plan)
    assert await store.get(b"k") is None
    with pytest.raises(StoreUnavailableError):
        await store.transact(PUT)
    assert (await store.transact(PUT)).succeeded
    assert [kv.value async for page in store.scan(b"a", b"z") for kv in page] == [b"v"]
    assert plan.calls == ["get", "transact", "transact", "scan", "scan"]


async def test_a_lost_answer_of_a_read_is_an_unreachable_store():
    store = FaultyStore(MemoryStore(), Plan({0: Fault.LOST_ANSWER}))
    with pytest.raises(StoreUnavailableError) as raised:
        await store.get_many([b"k"])
    assert type(raised.value) is StoreUnavailableError


async def test_a_delayed_call_lets_others_go_first():
    inner = MemoryStore()
    store = FaultyStore(inner, Plan({0: Fault.DELAYED}))
    delayed = asyncio.create_task(store.transact(PUT))
    await asyncio.sleep(0)
    first = await store.transact(Txn(then=(Put(b"other", b""),)))
    assert (await delayed).revision == first.revision + 1
