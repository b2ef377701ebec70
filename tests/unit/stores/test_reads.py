"""Read batching, with a store that answers only when told."""

import asyncio

import pytest

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.stores.contracts import MAX_TXN_OPS, KeyValue, Snapshot
from moorage_nodes.stores.fanout import LINE_SECONDS
from moorage_nodes.stores.observer import NullObserver
from moorage_nodes.stores.reads import MAX_IN_FLIGHT, ReadBatcher, select


class Backend:
    """Every fetch waits for `answer`; the answer holds each key with its own name as value."""

    def __init__(self):
        self.fetched: list[list[bytes]] = []
        self.gates: list[asyncio.Future] = []

    async def fetch(self, keys):
        self.fetched.append(list(keys))
        gate = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        await gate
        return Snapshot(len(self.fetched), {key: KeyValue(key, key, 1, 1, 1) for key in keys})

    async def answer(self, number, error=None):
        if error is None:
            self.gates[number].set_result(None)
        else:
            self.gates[number].set_exception(error)
        await settle()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def start(batcher, *reads):
    tasks = [asyncio.create_task(batcher.read(keys)) for keys in reads]
    await settle()
    return tasks


@pytest.fixture
async def busy():
    """A batcher with as many reads under way as may be."""
    backend = Backend()
    batcher = ReadBatcher(backend.fetch, NullObserver())
    first = []
    for n in range(MAX_IN_FLIGHT):
        first += await start(batcher, [b"first%d" % n])
    assert len(backend.fetched) == MAX_IN_FLIGHT
    yield backend, batcher
    for gate in backend.gates:
        if not gate.done():
            gate.set_result(None)
    await asyncio.gather(*first, return_exceptions=True)


async def test_idle_reads_of_one_turn_go_together():
    backend = Backend()
    tasks = await start(ReadBatcher(backend.fetch, NullObserver()), [b"a"], [b"b"])
    assert backend.fetched == [[b"a", b"b"]]
    await backend.answer(0)
    assert [(await task).revision for task in tasks] == [1, 1]


async def test_an_idle_read_goes_at_once():
    backend = Backend()
    [task] = await start(ReadBatcher(backend.fetch, NullObserver()), [b"k"])
    assert backend.fetched == [[b"k"]]
    await backend.answer(0)
    assert (await task).found[b"k"].value == b"k"


async def test_reads_that_come_meanwhile_go_together_with_each_key_once(busy):
    backend, batcher = busy
    tasks = await start(batcher, [b"a"], [b"b", b"a"], [b"c"], [b"a"])
    assert len(backend.fetched) == MAX_IN_FLIGHT
    await backend.answer(0)
    assert backend.fetched[MAX_IN_FLIGHT:] == [[b"a", b"b", b"c"]]
    await backend.answer(MAX_IN_FLIGHT)
    snapshots = await asyncio.gather(*tasks)
    assert [snapshot.found[b"a"].value for snapshot in (snapshots[0], snapshots[1], snapshots[3])] == [
        b"a"
    ] * 3


async def test_a_read_never_joins_a_request_that_was_sent_before_it_began(busy):
    backend, batcher = busy
    early = await start(batcher, [b"a"])
    await backend.answer(0)
    late = await start(batcher, [b"a"])
    await backend.answer(MAX_IN_FLIGHT)
    assert early[0].done()
    assert not late[0].done()
    assert backend.fetched[MAX_IN_FLIGHT:] == [[b"a"], [b"a"]]
    await backend.answer(MAX_IN_FLIGHT + 1)
    assert (await late[0]).revision > (await early[0]).revision


async def test_a_batch_takes_as_many_keys_as_one_request_may_and_keeps_each_read_whole(busy):
    backend, batcher = busy
    reads = [[b"%d-%d" % (n, k) for k in range(50)] for n in range(5)]
    tasks = await start(batcher, *reads)
    for number in range(MAX_IN_FLIGHT):
        await backend.answer(number)
    await backend.answer(MAX_IN_FLIGHT)
    await backend.answer(MAX_IN_FLIGHT + 1)
    await backend.answer(MAX_IN_FLIGHT + 2)
    for keys, task in zip(reads, tasks, strict=True):
        assert set(keys) <= set((await task).found)
    sent = backend.fetched[MAX_IN_FLIGHT:]
    assert [len(keys) for keys in sent] == [100, 100, 50]
    assert all(len(keys) <= MAX_TXN_OPS for keys in sent)


async def test_a_failed_read_fails_all_that_travelled_with_it_and_nobody_else(busy):
    backend, batcher = busy
    failed = await start(batcher, [b"a"], [b"b"])
    await backend.answer(0)
    after = await start(batcher, [b"c"])
    await backend.answer(MAX_IN_FLIGHT, StoreUnavailableError("gone"))
    errors = await asyncio.gather(*failed, return_exceptions=True)
    assert [type(error) for error in errors] == [StoreUnavailableError] * 2
    assert errors[0] is not errors[1]
    await backend.answer(MAX_IN_FLIGHT + 1)
    assert (await after[0]).found[b"c"].value == b"c"


async def test_a_failed_idle_read_leaves_the_way_free():
    backend = Backend()
    batcher = ReadBatcher(backend.fetch, NullObserver(), max_in_flight=1)
    for number in range(3):
        [task] = await start(batcher, [b"k"])
        await backend.answer(number, StoreUnavailableError("gone"))
        with pytest.raises(StoreUnavailableError):
            await task
    assert len(backend.fetched) == 3


async def test_readers_that_have_all_gone_are_not_read_for(busy):
    backend, batcher = busy
    gone = await start(batcher, [b"a"], [b"b"])
    for task in gone:
        task.cancel()
    await settle()
    await backend.answer(0)
    [task] = await start(batcher, [b"c"])
    assert backend.fetched[MAX_IN_FLIGHT:] == [[b"c"]]
    await backend.answer(MAX_IN_FLIGHT)
    assert (await task).found[b"c"].value == b"c"


def test_only_what_was_asked_for_is_selected():
    found = {key: KeyValue(key, b"", 1, 1, 1) for key in (b"a", b"b")}
    assert set(select(Snapshot(1, found), [b"a", b"c"]).found) == {b"a"}
    assert set(select(Snapshot(1, found), [b"b", b"a", b"c"]).found) == {b"a", b"b"}
    assert select(Snapshot(1, {}), [b"a"]).found == {}


async def test_who_has_waited_long_behind_a_store_that_does_not_answer_is_told_with_the_first(busy):
    backend, batcher = busy
    late = await start(batcher, *([b"%d-%d" % (n, k) for k in range(100)] for n in range(2)))
    await asyncio.sleep(LINE_SECONDS)
    young = await start(batcher, [b"young-%d" % k for k in range(100)])
    await backend.answer(0, StoreUnavailableError("gone"))
    errors = await asyncio.gather(*late, return_exceptions=True)
    assert [type(error) for error in errors] == [StoreUnavailableError] * 2
    assert errors[0] is not errors[1]
    assert not young[0].done()
    await backend.answer(MAX_IN_FLIGHT)
    assert (await young[0]).found[b"young-0"].value == b"young-0"
