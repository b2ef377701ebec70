import asyncio
import collections
import random

import pytest

from moorage.core.errors import NameTakenError, OutcomeUnknownError, StoreUnavailableError
from moorage_nodes.metadata import keys, knowledge, namespace, records
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata.records import DIRECTORY, LIVE, Child, Head, JournalEntry
from moorage_nodes.metadata.view import NotLoaded, RangeKey, View
from moorage_nodes.stores.contracts import MetadataStore, Put, Txn, TxnResult, absent
from moorage_nodes.stores.fanout import LINE_SECONDS
from moorage_nodes.stores.faulty import Fault, FaultyStore, Plan
from moorage_nodes.stores.memory import MemoryStore

INCARNATION = b"first"


class Direct:
    """Submits each transaction by itself and counts them."""

    def __init__(self, store: MetadataStore) -> None:
        self.store = store
        self.count = 0

    async def submit(self, txn: Txn) -> TxnResult:
        self.count += 1
        return await self.store.transact(txn)


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await store.transact(Txn(then=(Put(keys.INCARNATION, INCARNATION),)))
    return store


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def engine_through(group) -> Namespaces:
    return Namespaces(group.store, group, incarnation=INCARNATION, clock=lambda: 1000.0, rng=random.Random(1))


def engine_on(store: MetadataStore, seed: int = 1) -> Namespaces:
    return Namespaces(
        store, Direct(store), incarnation=INCARNATION, clock=lambda: 1000.0, rng=random.Random(seed)
    )


def make(name: str, node_id: str):
    def plan(view: View) -> str:
        key = keys.child("ns", "root:ns", name)
        taken = view.record(Child, key)
        if taken is not None:
            raise NameTakenError(f"{name} is {taken.id}")
        view.put(key, Child(1, DIRECTORY, node_id))
        view.append(JournalEntry(1, "create", node_id, DIRECTORY, "root:ns", name, 0, LIVE))
        return node_id

    return plan


def names(view: View) -> list[str]:
    found = view.range(RangeKey(*keys.children_range("ns", "root:ns")))
    return [keys.parse_child_name("ns", "root:ns", kv.key) for kv in found]


async def test_requests_that_arrive_together_are_one_transaction_with_a_gapless_journal(store) -> None:
    engine = engine_on(store)
    await asyncio.gather(*(engine.change("ns", make(f"d{n}", f"id{n}")) for n in range(50)))
    assert engine._group.count == 1
    head = records.decode(Head, (await store.get(keys.head("ns"))).value)
    assert (head.sequence, head.generation) == (50, 0)
    found, _ = await store.range(*keys.journal_range("ns", 0))
    assert [kv.key for kv in found.kvs] == [keys.journal("ns", n) for n in range(1, 51)]


async def test_later_requests_of_a_batch_see_what_earlier_ones_wrote(store) -> None:
    engine = engine_on(store)
    results = await asyncio.gather(
        engine.change("ns", make("a", "one")), engine.change("ns", make("a", "two")), return_exceptions=True
    )
    assert results[0] == "one"
    assert isinstance(results[1], NameTakenError)
    assert records.decode(Child, (await store.get(keys.child("ns", "root:ns", "a"))).value).id == "one"


async def test_two_processes_on_one_namespace_have_one_winner_per_name(store) -> None:
    engines = [engine_on(store), engine_on(store)]
    wanted = [(engines[n % 2], f"d{n // 2}", f"id{n}") for n in range(60)]
    results = await asyncio.gather(
        *(engine.change("ns", make(name, node)) for engine, name, node in wanted), return_exceptions=True
    )
    won = [r for r in results if isinstance(r, str)]
    assert len(won) == 30
    assert all(isinstance(r, (str, NameTakenError)) for r in results)
    assert records.decode(Head, (await store.get(keys.head("ns"))).value).sequence == 30


async def test_a_read_sees_what_another_process_has_just_written(store) -> None:
    here, there = engine_on(store), engine_on(store)
    assert await here.read("ns", names) == []
    for n in range(5):
        await there.change("ns", make(f"d{n}", f"id{n}"))
        assert await here.read("ns", names) == [f"d{i}" for i in range(n + 1)]


async def test_a_refusal_is_judged_on_the_present_head(store) -> None:
    here, there = engine_on(store), engine_on(store)
    await here.change("ns", make("a", "one"))

    def free(view: View) -> None:
        view.delete(keys.child("ns", "root:ns", "a"))
        view.append(JournalEntry(1, "delete", "one", DIRECTORY, "root:ns", "a", 0, LIVE))

    await there.change("ns", free)
    assert await here.change("ns", make("a", "two")) == "two"


async def test_a_restored_cluster_is_not_written_by_servers_of_the_old_incarnation(store) -> None:
    engine = engine_on(store)
    await engine.change("ns", make("a", "one"))
    await store.transact(Txn(then=(Put(keys.INCARNATION, b"second"),)))
    with pytest.raises(StoreUnavailableError):
        await engine.change("ns", make("b", "two"))
    assert await store.get(keys.child("ns", "root:ns", "b")) is None


async def test_a_plan_that_breaks_does_not_break_its_neighbours(store) -> None:
    engine = engine_on(store)

    def broken(view: View) -> str:
        view.put(keys.child("ns", "root:ns", "x"), Child(1, DIRECTORY, "x"))
        raise ZeroDivisionError

    results = await asyncio.gather(
        engine.change("ns", broken), engine.change("ns", make("a", "one")), return_exceptions=True
    )
    assert isinstance(results[0], ZeroDivisionError)
    assert results[1] == "one"
    assert await store.get(keys.child("ns", "root:ns", "x")) is None


async def test_a_thousand_changes_split_into_transactions_of_bounded_size(store) -> None:
    engine = engine_on(store)
    await asyncio.gather(*(engine.change("ns", make(f"d{n}", f"id{n}")) for n in range(1000)))
    assert engine._group.count == 4  # 256 plans each
    assert len(await engine.read("ns", names)) == 1000


class SlowReads:
    """Holds back the answers of bulk reads until told, as a slow network would."""

    def __init__(self, store: MetadataStore) -> None:
        self.inner = store
        self.held: list[asyncio.Event] = []

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    async def get_many(self, wanted, *, revision: int = 0):
        snapshot = await self.inner.get_many(wanted, revision=revision)
        if self.held:
            await self.held[0].wait()
        return snapshot


async def test_a_read_that_was_overtaken_by_a_write_does_not_bring_old_values_back(store) -> None:
    slow = SlowReads(store)
    engine = Namespaces(
        slow, Direct(store), incarnation=INCARNATION, clock=lambda: 1000.0, rng=random.Random(1)
    )
    key = keys.child("ns", "root:ns", "a")

    def look(view: View) -> str | None:
        child = view.record(Child, key)
        return None if child is None else child.id

    def write(view: View) -> None:
        # Blind: it needs no read, so it is not held back.
        view.put(key, Child(1, DIRECTORY, "new"))
        view.append(JournalEntry(1, "create", "new", DIRECTORY, "root:ns", "a", 0, LIVE))

    gate = asyncio.Event()
    slow.held.append(gate)
    reader = asyncio.create_task(engine.read("ns", look))
    await asyncio.sleep(0.01)
    await engine.change("ns", write)
    gate.set()
    assert await reader in {None, "new"}  # both are linearizable: it began before the write
    assert await engine.read("ns", look) == "new"


class Meddled(MemoryStore):
    """Before every read of the present, somebody else changes the namespace."""

    def __init__(self) -> None:
        super().__init__()
        self.meddle: Namespaces | None = None
        self.count = 0

    async def get_many(self, keys, *, revision=0):
        other, self.meddle = self.meddle, None
        if other is not None and not revision:
            self.count += 1
            await other.change("ns", make(f"m{self.count}", f"m{self.count}"))
        found = await super().get_many(keys, revision=revision)
        self.meddle = other
        return found


async def test_a_read_ends_however_fast_others_write_and_is_of_one_head() -> None:
    store = Meddled()
    await store.transact(Txn(then=(Put(keys.INCARNATION, INCARNATION),)))
    here, there = engine_on(store), engine_on(store)
    await there.change("ns", make("a", "one"))
    store.meddle = there

    def look(view: View) -> tuple[int, list[str]]:
        found = names(view)
        view.need([keys.child("ns", "root:ns", name) for name in found])
        return view.state.head.sequence, found

    sequence, found = await here.read("ns", look)
    assert len(found) == sequence > 1


async def test_who_has_waited_long_behind_a_store_that_does_not_answer_is_told_with_the_first(store) -> None:
    gate = asyncio.Event()

    class Mute(Direct):
        async def submit(self, txn: Txn) -> TxnResult:
            self.count += 1
            await gate.wait()
            raise OutcomeUnknownError("no answer")

    mute = Mute(store)
    engine = engine_through(mute)
    tasks = [asyncio.create_task(engine.change("ns", make("a", "one")))]
    await until(lambda: mute.count == 1)
    tasks.append(asyncio.create_task(engine.change("ns", make("b", "two"))))
    await until(lambda: mute.count == 2)
    tasks.append(asyncio.create_task(engine.change("ns", make("c", "late"))))
    await asyncio.sleep(LINE_SECONDS)
    tasks.append(asyncio.create_task(engine.change("ns", make("d", "young"))))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait(tasks)
    errors = [type(task.exception()) for task in tasks]
    # Nothing of the late one was sent, so nothing is unknown; the young one was tried.
    unknown = OutcomeUnknownError
    assert errors == [unknown, unknown, StoreUnavailableError, unknown]
    assert mute.count == 3


class Held(Direct):
    """Transactions wait until they are let through, in any order; `lost` ones are carried out unheard."""

    def __init__(self, store) -> None:
        super().__init__(store)
        self.gates: list[asyncio.Event] = []
        self.lost: set[int] = set()
        self.free = False

    async def submit(self, txn: Txn) -> TxnResult:
        number, gate = self.count, asyncio.Event()
        self.gates.append(gate)
        self.count += 1
        if not self.free:
            await gate.wait()
        result = await self.store.transact(txn)
        if number in self.lost:
            raise OutcomeUnknownError("no answer")
        return result

    def let_all_through(self) -> None:
        self.free = True
        for gate in self.gates:
            gate.set()


async def hold_two(held: Held, *plans) -> tuple[Namespaces, list[asyncio.Task]]:
    """Each plan is sent in a transaction of its own, the second behind the first."""
    engine = engine_through(held)
    tasks = []
    for number, plan in enumerate(plans, start=1):
        tasks.append(asyncio.create_task(engine.change("ns", plan)))
        await until(lambda number=number: held.count == number)
    return engine, tasks


async def test_the_next_transaction_is_sent_behind_one_that_is_under_way_and_sees_its_writes(store) -> None:
    held = Held(store)
    engine, tasks = await hold_two(held, make("a", "one"), make("b", "two"))
    third = asyncio.create_task(engine.change("ns", make("b", "three")))
    held.let_all_through()
    assert await asyncio.gather(*tasks) == ["one", "two"]
    with pytest.raises(NameTakenError):
        await third
    assert await engine.read("ns", names) == ["a", "b"]
    assert (await engine.read("ns", lambda view: view.state.head.sequence)) == 2


async def test_what_is_refused_for_the_sake_of_a_transaction_under_way_waits_for_its_end(store) -> None:
    held = Held(store)
    engine, tasks = await hold_two(held, make("a", "one"))
    second = asyncio.create_task(engine.change("ns", make("a", "two")))
    await asyncio.sleep(0.01)
    # Another process takes the head, and no name: what was refused is judged anew.
    await engine_on(store).change("ns", make("x", "other"))
    assert not second.done()
    held.let_all_through()
    results = await asyncio.gather(*tasks, second, return_exceptions=True)
    assert sorted(map(type, results), key=str) == [NameTakenError, str]  # either may be the first now


async def test_when_another_process_comes_between_both_that_are_under_way_are_made_anew(store) -> None:
    held = Held(store)
    engine, tasks = await hold_two(held, make("a", "one"), make("b", "two"))
    await engine_on(store).change("ns", make("a", "other"))
    held.let_all_through()
    first, second = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, NameTakenError)
    assert second == "two"
    assert await engine.read("ns", names) == ["a", "b"]


async def test_one_that_overtakes_the_one_before_is_made_anew(store) -> None:
    held = Held(store)
    engine, tasks = await hold_two(held, make("a", "one"), make("b", "two"))
    held.gates[1].set()
    await until(lambda: held.count == 3)
    held.let_all_through()
    assert await asyncio.gather(*tasks) == ["one", "two"]
    assert await engine.read("ns", names) == ["a", "b"]


async def test_behind_one_whose_outcome_is_unknown_the_next_still_counts(store) -> None:
    held = Held(store)
    held.lost.add(0)
    engine, tasks = await hold_two(held, make("a", "one"), make("b", "two"))
    held.let_all_through()
    first, second = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, OutcomeUnknownError)
    assert second == "two"
    with pytest.raises(NameTakenError):
        await engine.change("ns", make("a", "three"))
    assert await engine.change("ns", make("c", "four")) == "four"
    assert await engine.read("ns", names) == ["a", "b", "c"]


async def test_a_plan_that_reads_a_range_waits_for_the_transaction_under_way(store) -> None:
    held = Held(store)
    engine, tasks = await hold_two(held, make("a", "one"))

    def count_and_make(view: View) -> int:
        found = names(view)
        make("b", "two")(view)
        return len(found)

    second = asyncio.create_task(engine.change("ns", count_and_make))
    await asyncio.sleep(0.01)
    assert held.count == 1
    held.let_all_through()
    assert await asyncio.gather(*tasks, second) == ["one", 1]


async def test_nobody_is_lost_when_plans_find_out_one_after_the_other_that_they_must_wait(store) -> None:
    """Each load lets one more of the batch see that it needs the end of the transaction under way."""
    held = Held(store)
    engine, tasks = await hold_two(held, make("a", "one"))

    def make_knowing(count: int, name: str):
        def plan(view: View) -> str:
            for number in range(count):
                view.get(keys.child("ns", "root:ns", f"unknown {number}"))
            names(view)
            return make(name, name)(view)

        return plan

    def make_plainly(view: View) -> str:
        view.get(keys.child("ns", "root:ns", "unknown 9"))
        return make("b", "b")(view)

    plans = [make_plainly, *(make_knowing(count, f"c{count}") for count in (3, 2, 1, 0))]
    behind = [asyncio.create_task(engine.change("ns", plan)) for plan in plans]
    await asyncio.sleep(0.01)
    held.let_all_through()
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*tasks, *behind)
    assert answers == ["one", "b", "c3", "c2", "c1", "c0"]
    assert sorted(await engine.read("ns", names)) == ["a", "b", "c0", "c1", "c2", "c3"]


async def test_nobody_is_lost_before_a_plan_that_fills_a_transaction_alone(store) -> None:
    engine = engine_on(store)
    await engine.change("ns", make("a", "one"))

    def fill(view: View) -> int:
        for number in range(namespace.FULL_PUTS + 1):
            key = keys.child("ns", "root:ns", f"full {number:04}")
            view.put(key, Child(1, DIRECTORY, f"f{number}"))
            view.append(
                JournalEntry(1, "create", f"f{number}", DIRECTORY, "root:ns", f"full {number:04}", 0, LIVE)
            )
        return 0

    plans = (make("unknown", "u"), fill, make("b", "b"), make("c", "c"))
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(engine.change("ns", plan) for plan in plans))
    assert answers == ["u", 0, "b", "c"]
    found = await engine.read("ns", names)
    assert len(found) == namespace.FULL_PUTS + 1 + 4
    head = records.decode(Head, (await store.get(keys.head("ns"))).value)
    assert head.sequence == len(found)


@pytest.mark.parametrize("seed", range(40))
async def test_everybody_is_answered_whatever_their_plans_need_and_in_which_order(
    seed, store, monkeypatch
) -> None:
    """Any mix of loads, ranges, large plans, refusals and bugs, behind transactions that are held up at random."""
    rng = random.Random(seed)
    monkeypatch.setattr(namespace, "FULL_PUTS", 12)
    monkeypatch.setattr(namespace, "MAX_BATCH_PUTS", 20)
    held = Held(store)
    engine = engine_through(held)

    def draw_plan(number: int):
        unknown = [rng.randrange(30) for _ in range(rng.randrange(4))]
        size, reads_range, breaks = rng.choice([1, 1, 1, 5, 14]), rng.random() < 0.3, rng.random() < 0.1

        def plan(view: View) -> int:
            for other in unknown:
                view.get(keys.child("ns", "root:ns", f"unknown {other}"))
            if reads_range:
                names(view)
            if breaks:
                raise ZeroDivisionError
            for part in range(size):
                make(f"{number}-{part}", f"{number}-{part}")(view)
            return size

        return plan, breaks

    async def let_through() -> None:
        while True:
            await asyncio.sleep(0)
            closed = [gate for gate in held.gates if not gate.is_set()]
            if closed and rng.random() < 0.3:
                rng.choice(closed).set()

    letting = asyncio.create_task(let_through())
    drawn, tasks = [draw_plan(number) for number in range(25)], []
    try:
        async with asyncio.timeout(20):
            for plan, _ in drawn:
                tasks.append(asyncio.create_task(engine.change("ns", plan)))
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
            answers = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        letting.cancel()
    assert [isinstance(answer, ZeroDivisionError) for answer in answers] == [breaks for _, breaks in drawn]
    made = sum(answer for answer in answers if isinstance(answer, int))
    assert len(await engine.read("ns", names)) == made


class SlowAnswers(MemoryStore):
    """Reads are made when they are asked for; their answers wait while `gate` is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0

    async def get_many(self, wanted, **options):
        answer = await super().get_many(wanted, **options)
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        return answer


@pytest.mark.parametrize("what", ["a range", "an upload"])
async def test_what_was_read_before_the_one_under_way_was_carried_out_is_read_again_behind_it(what) -> None:
    """The answer comes when that one has landed, and is older than what it left."""
    store = SlowAnswers()
    await store.transact(Txn(then=(Put(keys.INCARNATION, INCARNATION),)))
    held, key = Held(store), keys.upload("ns", "u1")
    held.free = True
    engine = engine_through(held)
    await engine.change("ns", make("a", "one"))
    assert await begin(engine, key)
    children = RangeKey(*keys.children_range("ns", "root:ns"))

    def look(view: View) -> list[str] | bool:
        if what == "an upload":
            view.need_fresh([key])
            return view.fresh(key) is not None
        if children not in view.state.ranges:
            raise NotLoaded((children,))
        return names(view)

    held.free = False
    first = asyncio.create_task(engine.change("ns", finish(key, "b")))
    await until(lambda: held.count == 3)
    store.gate.clear()
    second = asyncio.create_task(engine.change("ns", look))
    await until(lambda: store.waiting)
    held.let_all_through()
    assert await first is True
    store.gate.set()
    assert await second == (["a", "b"] if what == "a range" else False)
    assert await engine.change("ns", finish(key, "c")) is False


async def test_an_upload_that_the_one_under_way_leaves_open_must_still_be_so_when_the_next_one_is_written(
    store,
) -> None:
    held = Held(store)
    key = keys.upload("ns", "u1")

    def leave_open(view: View) -> str:
        view.put(key, Child(1, DIRECTORY, "left"))
        return make("a", "one")(view)

    def go_on(view: View) -> bool:
        data = view.upload(key)
        if data is None:
            return False
        view.put(key, Child(1, DIRECTORY, records.decode(Child, data).id + " again"))
        make("b", "two")(view)
        return True

    engine, (first, second) = await hold_two(held, leave_open, go_on)
    held.gates[0].set()
    assert await first == "one"
    await end_elsewhere(store, key)
    held.let_all_through()
    assert await second is False
    assert await store.get(key) is None
    assert await engine.read("ns", names) == ["a"]


# --- open uploads, which are made without the head and end with it


async def end_elsewhere(store, key: bytes) -> None:
    """By another process, the collector say."""

    def end(view: View) -> None:
        if view.upload(key) is not None:
            view.delete(key)

    await engine_on(store, seed=2).change("ns", end)  # marks of its own


async def begin(engine: Namespaces, key: bytes) -> bool:
    return await engine.write_aside("ns", [absent(key)], [Put(key, records.encode(Child(1, DIRECTORY, "u")))])


def finish(key: bytes, name: str):
    def plan(view: View) -> bool:
        if view.upload(key) is None:
            return False
        view.delete(key)
        make(name, name)(view)
        return True

    return plan


class Counted(MemoryStore):
    """Counts the reads of a key."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: collections.Counter[bytes] = collections.Counter()

    async def get_many(self, wanted, **options):
        self.reads.update(key for key in wanted if isinstance(key, bytes))
        return await super().get_many(wanted, **options)


async def test_an_upload_that_was_begun_here_is_committed_without_reading_it() -> None:
    store = Counted()
    await store.transact(Txn(then=(Put(keys.INCARNATION, INCARNATION),)))
    engine, key = engine_on(store), keys.upload("ns", "u1")
    await engine.change("ns", make("a", "a"))
    assert await begin(engine, key)
    assert await engine.change("ns", finish(key, "b")) is True
    assert store.reads[key] == 0
    assert await engine.change("ns", finish(key, "c")) is False, "an absence is read anew"
    assert store.reads[key] == 1
    assert await engine.read("ns", names) == ["a", "b"]


async def test_an_upload_that_has_ended_elsewhere_is_not_committed(store) -> None:
    engine, key = engine_on(store), keys.upload("ns", "u1")
    await engine.change("ns", make("a", "a"))
    assert await begin(engine, key)
    await end_elsewhere(store, key)
    assert await engine.change("ns", finish(key, "b")) is False
    assert await engine.read("ns", names) == ["a"]


async def test_an_upload_that_ended_before_its_beginning_was_heard_of_is_not_committed(store) -> None:
    """The answer to its beginning comes late: by then a later head is known, at which it has ended."""
    engine, key = engine_on(store), keys.upload("ns", "u1")
    await engine.change("ns", make("a", "a"))
    real, heard = engine._group.submit, asyncio.Event()

    async def slow(txn: Txn) -> TxnResult:
        result = await real(txn)
        await heard.wait()
        return result

    engine._group.submit = slow
    beginning = asyncio.create_task(begin(engine, key))
    await asyncio.sleep(0.01)
    engine._group.submit = real
    await end_elsewhere(store, key)
    assert await engine.read("ns", names) == ["a"]
    heard.set()
    assert await beginning
    assert await engine.change("ns", finish(key, "b")) is False
    assert await engine.read("ns", names) == ["a"]


async def test_large_records_of_uploads_are_forgotten_when_they_are_too_many(store, monkeypatch) -> None:
    monkeypatch.setattr(knowledge, "MAX_CACHED_ENTRIES", 1000)
    engine = engine_on(store)
    await engine.change("ns", make("a", "a"))
    for number in range(40):
        key = keys.upload("ns", f"u{number}")
        large = records.encode(Child(1, DIRECTORY, "u" * 30_000))
        assert await engine.write_aside("ns", [absent(key)], [Put(key, large)])
        await engine.change("ns", make(f"d{number}", f"d{number}"))
        state = engine._known.kept("ns")
        assert state is None or sum(map(len, state.uploads.values())) <= 600_000
    assert await engine.change("ns", finish(keys.upload("ns", "u0"), "b")) is True


@pytest.mark.parametrize("call", range(3))
async def test_when_the_store_is_closed_below_a_change_everybody_is_told(store, call) -> None:
    """Its client says that by CancelledError, though nobody cancelled anything."""
    faulty = FaultyStore(store, Plan({call: Fault.CANCELLED_BEFORE}))
    engine = engine_on(faulty)
    tasks = [asyncio.create_task(engine.change("ns", make(name, name))) for name in ("a", "b")]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(engine.change("ns", make("c", "c"))))
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[0], OutcomeUnknownError)
    assert all(isinstance(answer, str | StoreUnavailableError) for answer in answers)
    assert await engine.change("ns", make("d", "d")) == "d"
