"""Group commit on the store in memory, which has etcd's semantics, with outer transactions held back at will."""

import asyncio

import pytest

from moorage.core.errors import OutcomeUnknownError, RequestRefusedError, StoreUnavailableError
from moorage_nodes.stores.contracts import Delete, Put, Range, Txn, absent, unchanged
from moorage_nodes.stores.fanout import LINE_SECONDS
from moorage_nodes.stores.faulty import Fault, FaultyStore, Plan
from moorage_nodes.stores.group import MAX_IN_FLIGHT, MAX_MEMBERS, TransactionGroup
from moorage_nodes.stores.memory import MemoryStore


class GatedStore:
    """Every transaction waits until the gate opens; `sent` is what came, in order."""

    def __init__(self, inner=None):
        self.inner = inner or MemoryStore()
        self.gate = asyncio.Event()
        self.sent: list[Txn] = []

    async def transact(self, txn):
        self.sent.append(txn)
        await self.gate.wait()
        return await self.inner.transact(txn)

    def sizes(self):
        """How many members each outer transaction had; 1 is a transaction that travelled as it was."""
        return [len(txn.then) if txn.then and type(txn.then[0]) is Txn else 1 for txn in self.sent]


class Batches:
    def __init__(self):
        self.sizes: list[tuple[str, int]] = []

    def observe_call(self, operation, outcome, seconds):
        pass

    def observe_batch(self, kind, size):
        self.sizes.append((kind, size))


@pytest.fixture
def gated():
    return GatedStore()


async def occupy(group: TransactionGroup, gated: GatedStore) -> list[asyncio.Task]:
    """Put as many outer transactions under way as may be."""
    busy = []
    for n in range(MAX_IN_FLIGHT):
        busy.append(asyncio.create_task(group.submit(Txn(then=(Put(b"busy%d" % n, b""),)))))
        await settle()
    assert len(gated.sent) == MAX_IN_FLIGHT
    gated.sent.clear()
    return busy


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def start(group, *txns):
    tasks = [asyncio.create_task(group.submit(txn)) for txn in txns]
    await settle()
    return tasks


def create(key: bytes, value: bytes = b"") -> Txn:
    return Txn((absent(key),), (Put(key, value),), (Range(key),))


async def test_a_lone_transaction_travels_as_it_is(gated):
    gated.gate.set()
    result = await TransactionGroup(gated).submit(create(b"k", b"v"))
    assert gated.sent == [create(b"k", b"v")]
    assert result.succeeded
    assert result.results == (None,)


async def test_what_is_submitted_in_one_turn_goes_together(gated):
    gated.gate.set()
    group = TransactionGroup(gated)
    results = await asyncio.gather(*(group.submit(create(b"%d" % n)) for n in range(20)))
    assert gated.sizes() == [20]
    assert all(result.succeeded for result in results)


async def test_what_is_submitted_while_others_are_under_way_waits_and_goes_together(gated):
    group = TransactionGroup(gated)
    busy = await occupy(group, gated)
    waiting = []
    for n in range(10):
        waiting += await start(group, create(b"%d" % n))
    assert gated.sent == []
    gated.gate.set()
    await asyncio.gather(*busy, *waiting)
    assert gated.sizes() == [10]


async def test_each_submitter_gets_its_own_result(gated):
    await gated.inner.transact(create(b"taken", b"first"))
    gated.gate.set()
    group = TransactionGroup(gated)
    won, lost, read = await asyncio.gather(
        group.submit(create(b"free", b"x")),
        group.submit(create(b"taken", b"second")),
        group.submit(Txn(then=(Range(b"other"),))),
    )
    assert gated.sizes() == [3]
    assert won.succeeded
    assert not lost.succeeded
    assert lost.results[0].kvs[0].value == b"first"
    assert read.results[0].kvs == ()
    assert won.revision == lost.revision == (await gated.inner.get(b"free")).mod_revision


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (create(b"k"), create(b"k")),
        (Txn((absent(b"a"),), (Put(b"b", b""),)), Txn((absent(b"b"),), (Put(b"a", b""),))),
        (create(b"k"), Txn(then=(Range(b"a", b"z"),))),
        (Txn(then=(Delete(b"a", b"z"),)), create(b"k")),
        (Txn(then=(Delete(b"k"),)), Txn(then=(Range(b"k"),))),
        (Txn(then=(Txn(then=(Put(b"k", b""),)),)), Txn((unchanged(b"k", 7),))),
        (Txn(orelse=(Put(b"k", b""),)), Txn((absent(b"k"),))),
    ],
)
async def test_those_that_touch_each_others_keys_never_share_an_outer_transaction(gated, one, other):
    for first, second in ((one, other), (other, one)):
        gated.sent.clear()
        gated.gate.clear()
        group = TransactionGroup(gated)
        busy = await occupy(group, gated)
        tasks = await start(group, first, create(b"~free"), second)
        gated.gate.set()
        await asyncio.gather(*busy, *tasks)
        assert gated.sizes() == [2, 1]
        assert gated.sent[0].then[0] == first
        assert gated.sent[1] == second


async def test_those_that_only_read_the_same_keys_go_together(gated):
    gated.gate.set()
    group = TransactionGroup(gated)
    reads = [Txn((absent(b"shared"),), (Put(b"%d" % n, b""), Range(b"s", b"t"))) for n in range(5)]
    results = await asyncio.gather(*map(group.submit, reads))
    assert gated.sizes() == [5]
    assert all(result.succeeded for result in results)


async def test_nobody_overtakes_one_that_it_conflicts_with(gated):
    group = TransactionGroup(gated)
    busy = await occupy(group, gated)
    a, b_after_a, c_after_b = (
        Txn(then=(Put(b"a", b"1"),)),
        Txn((absent(b"a"),), (Put(b"b", b"2"),)),
        Txn((absent(b"b"),), (Put(b"c", b"3"),)),
    )
    tasks = await start(group, a, b_after_a, c_after_b, create(b"free"))
    gated.gate.set()
    await asyncio.gather(*busy, *tasks)
    assert gated.sizes() == [2, 1, 1]
    assert gated.sent[1:] == [b_after_a, c_after_b]


async def test_write_skew_has_one_winner():
    """Two that each look at what the other writes: nested in one, both would pass."""
    store = MemoryStore()
    group = TransactionGroup(store)
    results = await asyncio.gather(
        group.submit(Txn((absent(b"on call: bob"),), (Put(b"on call: ann", b""),))),
        group.submit(Txn((absent(b"on call: ann"),), (Put(b"on call: bob", b""),))),
    )
    assert sorted(result.succeeded for result in results) == [False, True]


async def test_a_batch_keeps_within_the_members_and_the_operations_along_a_path(gated):
    group = TransactionGroup(gated)
    busy = await occupy(group, gated)
    large = Txn(then=tuple(Put(b"large%d" % n, b"") for n in range(100)))
    tasks = await start(
        group, *(create(b"%d" % n) for n in range(10)), large, *(create(b"x%d" % n) for n in range(99))
    )
    gated.gate.set()
    results = await asyncio.gather(*busy, *tasks)
    assert all(result.succeeded for result in results)
    # 128 along a path: 100 of the large one leave room for 28 members, itself one of them.
    assert gated.sizes() == [28, MAX_MEMBERS, 110 - 28 - MAX_MEMBERS]


async def test_a_batch_keeps_within_the_bytes(gated):
    group = TransactionGroup(gated)
    busy = await occupy(group, gated)
    tasks = await start(group, *(create(b"%d" % n, bytes(300_000)) for n in range(7)))
    gated.gate.set()
    results = await asyncio.gather(*busy, *tasks)
    assert all(result.succeeded for result in results)
    assert gated.sizes() == [3, 3, 1]


async def test_what_is_too_large_for_company_goes_alone_and_stops_nobody(gated):
    group = TransactionGroup(gated)
    busy = await occupy(group, gated)
    huge = Txn(then=(Put(b"huge", bytes(1_200_000)),))
    many = Txn(then=tuple(Put(b"many%d" % n, b"") for n in range(127)))
    tasks = await start(group, create(b"1"), huge, create(b"2"), many, create(b"3"))
    gated.gate.set()
    results = await asyncio.gather(*busy, *tasks)
    assert all(result.succeeded for result in results)
    assert gated.sizes() == [3, 1, 1]
    assert gated.sent[1:] == [huge, many]


async def test_what_is_put_under_a_lease_goes_alone(gated):
    lease = await gated.inner.grant_lease(60)
    gated.gate.set()
    group = TransactionGroup(gated)
    leased = Txn(then=(Put(b"leased", b"", lease),))
    await asyncio.gather(group.submit(create(b"1")), group.submit(leased), group.submit(create(b"2")))
    assert gated.sizes() == [2, 1]
    assert gated.sent[1] == leased


async def test_a_refused_batch_is_retried_member_by_member():
    class Fussy(MemoryStore):
        """Refuses before it writes, as etcd does."""

        async def transact(self, txn):
            for member in (txn, *txn.then):
                if type(member) is Txn and Put(b"bad", b"") in member.then:
                    raise RequestRefusedError("bad")
            return await super().transact(txn)

    store = Fussy()
    group = TransactionGroup(store)
    good1, bad, good2 = await asyncio.gather(
        group.submit(create(b"1")),
        group.submit(create(b"bad")),
        group.submit(create(b"2")),
        return_exceptions=True,
    )
    assert good1.succeeded
    assert good2.succeeded
    assert isinstance(bad, RequestRefusedError)
    assert await store.get(b"bad") is None


@pytest.mark.parametrize(
    ("fault", "error", "written"),
    [
        (Fault.UNREACHABLE, StoreUnavailableError, False),
        (Fault.LOST_REQUEST, OutcomeUnknownError, False),
        (Fault.LOST_ANSWER, OutcomeUnknownError, True),
    ],
)
async def test_every_member_hears_what_became_of_its_batch_and_none_is_sent_again(fault, error, written):
    inner = MemoryStore()
    plan = Plan({0: fault})
    group = TransactionGroup(FaultyStore(inner, plan))
    results = await asyncio.gather(
        *(group.submit(create(b"%d" % n)) for n in range(5)), return_exceptions=True
    )
    assert [type(result) for result in results] == [error] * 5
    assert len({id(result) for result in results}) == 5
    assert plan.calls == ["transact"]
    assert (await inner.get(b"3") is not None) is written
    assert (await group.submit(create(b"after"))).succeeded


async def test_a_caller_that_goes_takes_no_other_with_it(gated):
    group = TransactionGroup(gated)
    busy = await occupy(group, gated)
    tasks = await start(group, *(create(b"%d" % n) for n in range(6)))
    tasks[2].cancel()
    await settle()
    gated.gate.set()
    results = await asyncio.gather(*busy, *tasks, return_exceptions=True)
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 1
    assert gated.sizes() == [5]
    assert await gated.inner.get(b"2") is None
    assert await gated.inner.get(b"5") is not None


async def test_a_caller_that_goes_while_its_batch_is_under_way_takes_no_other_with_it(gated):
    group = TransactionGroup(gated)
    tasks = await start(group, *(create(b"%d" % n) for n in range(4)))
    assert gated.sizes() == [4]
    tasks[0].cancel()
    gated.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(result.succeeded for result in results[1:])


async def test_a_line_of_callers_that_have_all_gone_blocks_nobody(gated):
    group = TransactionGroup(gated)
    busy = await occupy(group, gated)
    gone = await start(group, *(create(b"gone%d" % n) for n in range(500)))
    last = await start(group, create(b"last"))
    for task in gone:
        task.cancel()
    await settle()
    gated.gate.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*busy, *last)
    assert await gated.inner.get(b"last") is not None


async def test_thousands_at_once_all_come_through():
    store = MemoryStore()
    batches = Batches()
    group = TransactionGroup(store, batches)
    results = await asyncio.gather(*(group.submit(create(b"%d" % (n % 700))) for n in range(2000)))
    assert sum(result.succeeded for result in results) == 700
    assert sum(size for _, size in batches.sizes) == 2000
    assert {kind for kind, _ in batches.sizes} == {"commit"}
    assert max(size for _, size in batches.sizes) == MAX_MEMBERS


async def test_who_has_waited_long_behind_a_store_that_does_not_answer_is_told_with_the_first():
    gates: list[asyncio.Future] = []

    class Mute:
        async def transact(self, txn):
            gates.append(asyncio.get_running_loop().create_future())
            return await gates[-1]

    group = TransactionGroup(Mute())
    first = [(await start(group, Txn(then=(Put(b"%d" % n, b""),))))[0] for n in range(MAX_IN_FLIGHT)]
    late = await start(group, create(b"late"))
    await asyncio.sleep(LINE_SECONDS)
    young = await start(group, create(b"young"))
    gates[0].set_exception(OutcomeUnknownError("no answer"))
    await settle()
    # Nothing of it was sent, so nothing is unknown.
    assert [type(task.exception()) for task in (first[0], *late)] == [
        OutcomeUnknownError,
        StoreUnavailableError,
    ]
    assert not young[0].done()
    assert len(gates) == MAX_IN_FLIGHT + 1
    for gate in gates[1:]:
        gate.set_exception(StoreUnavailableError("gone"))
    await asyncio.gather(first[1], *young, return_exceptions=True)
