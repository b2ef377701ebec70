"""What a process knows of a namespace outlives the changes of others, but for what they changed."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from rewriting import rewrite

from moorage_nodes.metadata import keys
from moorage_nodes.metadata.knowledge import MAX_CAUGHT_UP
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata.records import DIRECTORY, LIVE, Child, ChunkName, JournalEntry, Node
from moorage_nodes.metadata.view import RangeKey, View
from moorage_nodes.stores.contracts import Delete, MetadataStore, Put, Range, Txn
from moorage_nodes.stores.group import TransactionGroup
from moorage_nodes.stores.memory import MemoryStore

INCARNATION = b"first"
ROOT = "root:ns"


class Counting(MemoryStore):
    """Remembers which single keys were read in bulk."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[bytes] = []

    async def get_many(self, keys, *, revision=0):
        self.read += [key for key in keys if not isinstance(key, Range)]
        return await super().get_many(keys, revision=revision)


@pytest.fixture
async def store() -> Counting:
    store = Counting()
    await store.transact(Txn(then=(Put(keys.INCARNATION, INCARNATION),)))
    return store


def engine_on(store: MetadataStore) -> Namespaces:
    group = TransactionGroup(store)
    return Namespaces(store, group, incarnation=INCARNATION, clock=lambda: 1000.0, rng=random.Random(1))


@pytest.fixture
def here(store: Counting) -> Namespaces:
    return engine_on(store)


@pytest.fixture
def there(store: Counting) -> Namespaces:
    return engine_on(store)


def place(node_id: str, name: str) -> Callable[[View], None]:
    """Make a directory, or move it, without a look at what is there."""

    def plan(view: View) -> None:
        key = keys.node("ns", node_id)
        old = view.record(Node, key)
        if old is not None:
            view.delete(keys.child("ns", old.parent, old.name))
        view.put(keys.child("ns", ROOT, name), Child(1, DIRECTORY, node_id))
        view.put(key, Node(1, DIRECTORY, ROOT, name, LIVE, 0, view.now))
        left = ("", "") if old is None else (old.parent, old.name)
        view.append(JournalEntry(1, "move", node_id, DIRECTORY, ROOT, name, 0, LIVE, "", *left))

    return plan


def holders(*names: str) -> Callable[[View], list[str | None]]:
    def plan(view: View) -> list[str | None]:
        wanted = [keys.child("ns", ROOT, name) for name in names]
        view.need(wanted)
        found = [view.record(Child, key) for key in wanted]
        return [None if child is None else child.id for child in found]

    return plan


async def test_only_what_another_process_has_changed_is_read_again(store, here, there) -> None:
    for n in range(5):
        await here.change("ns", place(f"d{n}", f"n{n}"))
    every = holders(*(f"n{n}" for n in range(5)), "elsewhere")
    assert await here.read("ns", every) == ["d0", "d1", "d2", "d3", "d4", None]
    await there.change("ns", place("d1", "elsewhere"))
    store.read.clear()
    assert await here.read("ns", every) == ["d0", None, "d2", "d3", "d4", "d1"]
    assert {key for key in store.read if key != keys.head("ns")} == {
        keys.child("ns", ROOT, "n1"),
        keys.child("ns", ROOT, "elsewhere"),
    }


async def test_a_change_that_lost_needs_no_other_reads_than_what_was_changed(store, here, there) -> None:
    await here.change("ns", place("mine", "a"))
    await there.change("ns", place("theirs", "b"))
    store.read.clear()
    await here.change("ns", place("mine", "c"))
    assert set(store.read) <= {keys.head("ns")}
    assert await there.read("ns", holders("a", "b", "c")) == [None, "theirs", "mine"]


async def test_what_the_journal_does_not_tell_is_always_read_again(here, there) -> None:
    name_key = keys.chunk_name("ns", "chunk_1")

    def meaning(view: View) -> bytes | None:
        name = view.record(ChunkName, name_key)
        return None if name is None else name.digest

    assert await here.read("ns", meaning) is None
    await there.change("ns", lambda view: view.put(name_key, ChunkName(1, b"one")))
    assert await here.read("ns", meaning) == b"one"
    await there.change("ns", lambda view: view.put(name_key, ChunkName(1, b"two")))
    assert await here.change("ns", meaning) == b"two"


async def test_a_listing_is_read_again(here, there) -> None:
    every = RangeKey(*keys.children_range("ns", ROOT))
    for n in range(3):
        await there.change("ns", place(f"d{n}", f"n{n}"))
        assert len(await here.read("ns", lambda view: view.range(every))) == n + 1


async def test_who_is_too_far_behind_begins_anew(here, there) -> None:
    await here.change("ns", place("d", "first"))
    names = [f"x{n}" for n in range(MAX_CAUGHT_UP + 2)]
    await asyncio.gather(*(there.change("ns", place("d", name)) for name in names))
    assert await here.read("ns", holders("first", names[-1])) == [None, "d"]


async def test_a_journal_that_was_cut_off_is_not_trusted(store, here, there) -> None:
    await here.change("ns", place("d", "first"))
    await there.change("ns", place("d", "second"))
    await there.change("ns", place("d", "third"))
    await store.transact(Txn(then=(Delete(keys.journal("ns", 2)),)))
    assert await here.read("ns", holders("first", "second", "third")) == [None, None, "d"]


async def test_what_the_collector_did_is_not_in_the_journal_and_all_is_read_again(store, here) -> None:
    await here.change("ns", place("d", "a"))
    await rewrite(store, "ns", {keys.child("ns", ROOT, "a"): None, keys.node("ns", "d"): None})
    assert await here.read("ns", holders("a")) == [None]
    await here.change("ns", place("d", "a"))
    assert await here.read("ns", holders("a")) == ["d"]


async def test_a_plan_that_changes_more_than_it_tells_is_a_bug_and_changes_nothing(here) -> None:
    def silent(view: View) -> None:
        view.put(keys.node("ns", "d"), Node(1, DIRECTORY, ROOT, "d", LIVE, 0, 0))

    def vague(view: View) -> None:
        view.append(JournalEntry(1, "create", "other", DIRECTORY, ROOT, "x", 0, LIVE))
        silent(view)

    for plan in (silent, vague):
        with pytest.raises(RuntimeError):
            await here.change("ns", plan)
    assert await here.read("ns", lambda view: view.record(Node, keys.node("ns", "d"))) is None


class Held(MemoryStore):
    """Holds back answers of one kind of call until told, as a slow network would."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.kind = ""

    def hold(self, kind: str) -> asyncio.Event:
        self.kind, self.gate = kind, asyncio.Event()
        self.arrived.clear()
        return self.gate

    async def _answer(self, kind: str, result: Any) -> Any:
        if self.gate is not None and kind == self.kind:
            gate, self.gate = self.gate, None
            self.arrived.set()
            await gate.wait()
        return result

    async def get_many(self, keys, *, revision=0):
        return await self._answer("get_many", await super().get_many(keys, revision=revision))

    async def transact(self, txn):
        return await self._answer("transact", await super().transact(txn))


async def test_our_own_write_seen_in_the_journal_before_its_answer_came_is_no_harm() -> None:
    store = Held()
    await store.transact(Txn(then=(Put(keys.INCARNATION, INCARNATION),)))
    here, there = engine_on(store), engine_on(store)
    await here.change("ns", place("d", "a"))
    for n in range(2):
        # Written, but the answer is on its way; a read of ours catches up with it, and the second time goes beyond.
        gate = store.hold("transact")
        ours = asyncio.create_task(here.change("ns", place("d", f"b{n}")))
        await store.arrived.wait()
        if n:
            await there.change("ns", place("d", "theirs"))
            assert await here.read("ns", holders(f"b{n}", "theirs")) == [None, "d"]
        else:
            assert await here.read("ns", holders("a", f"b{n}")) == [None, "d"]
        gate.set()
        await ours
        assert await here.read("ns", holders("a", f"b{n}", "theirs")) == (
            [None, None, "d"] if n else [None, "d", None]
        )
    await here.change("ns", place("d", "last"))
    assert await there.read("ns", holders("theirs", "b1", "last")) == [None, None, "d"]


async def test_an_answer_that_was_overtaken_brings_nothing_old_back() -> None:
    store = Held()
    await store.transact(Txn(then=(Put(keys.INCARNATION, INCARNATION),)))
    here, there = engine_on(store), engine_on(store)
    await there.change("ns", place("d", "a"))
    await here.read("ns", lambda view: view.state.head.sequence)
    gate = store.hold("get_many")
    slow = asyncio.create_task(here.read("ns", holders("a")))
    await store.arrived.wait()
    await there.change("ns", place("d", "b"))
    assert await here.read("ns", holders("b")) == ["d"]  # the same process has caught up meanwhile
    gate.set()
    assert await slow in ([None], ["d"])
    assert await here.read("ns", holders("a", "b")) == [None, "d"]
    await here.change("ns", place("d", "c"))
    assert await there.read("ns", holders("a", "b", "c")) == [None, None, "d"]
