"""A collector dies, or an answer is lost, at any call to a store: nothing that anybody holds is harmed, and the next
collections end what it began.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from collector_bed import DAY, HOUR, RULES, CollectorBed, DirectPools
from upload_bed import NAMESPACE, digest_of, hash_of, make_cluster

from moorage.core.errors import MoorageError
from moorage_nodes.gc import letting_go, sweeping
from moorage_nodes.metadata import scan
from moorage_nodes.metadata.l1 import commit as commit_module
from moorage_nodes.metadata.l1 import preparation, segments, targets, uploads
from moorage_nodes.stores.contracts import ObjectStore
from moorage_nodes.stores.faulty import Fault, FaultyObjects, FaultyStore, Plan
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.objects_memory import MemoryObjects

KEPT = [bytes([number]) * 100 for number in range(8)]
LONG = [b"long %d" % number for number in range(6)]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (commit_module, preparation, targets, uploads):
        monkeypatch.setattr(module, "INLINE_ENTRIES", 5)
    monkeypatch.setattr(segments, "SEGMENT_ENTRIES", 3)
    monkeypatch.setattr(scan, "SEGMENT_ENTRIES", 3)
    monkeypatch.setattr(letting_go, "CHILDREN_TOGETHER", 2)
    monkeypatch.setattr(letting_go, "WRITTEN_TOGETHER", 2)
    monkeypatch.setattr(sweeping, "CHANGED_TOGETHER", 4)
    monkeypatch.setattr(sweeping, "GROUP_RECORDS", 2)
    monkeypatch.setattr(sweeping, "REMOVED_TOGETHER", 5)
    monkeypatch.setattr(sweeping, "DELETED_TOGETHER", 2)


class DeadError(Exception):
    """Nothing is heard of this process any more."""


@dataclass
class Life:
    """Of a process: it ends at the call of this number, before or after that is done."""

    ends_at: int
    after: bool
    calls: list[str] = field(default_factory=list)

    def is_over(self) -> bool:
        return len(self.calls) > self.ends_at


class Mortal:
    """Before a store, for as long as the process lives."""

    def __init__(self, inner: Any, life: Life) -> None:
        self._inner = inner
        self._life = life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name in {"scan", "list"}:
            return lambda *args, **options: self._pages(name, method(*args, **options))

        async def call(*args: Any, **options: Any) -> Any:
            return await self._live(name, lambda: method(*args, **options))

        return call

    async def _pages(self, name: str, pages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        while True:
            try:
                page = await self._live(name, lambda: anext(pages))
            except StopAsyncIteration:
                return
            yield page

    async def _live(self, name: str, call: Callable[[], Any]) -> Any:
        life = self._life
        if life.is_over():
            raise DeadError
        life.calls.append(name)
        if not life.is_over() or life.after:
            result = await call()
            if not life.is_over():
                return result
        raise DeadError


Wrap = Callable[[Any, bool], Any]
"""A frail way to a store; True: of objects."""


async def prepare(store: MemoryStore, objects: ObjectStore) -> CollectorBed:
    """A namespace in which every kind of work waits: at the next collection, and at the one after the grace."""
    bed = CollectorBed(store, objects=objects)
    bed.rules = msgspec.structs.replace(RULES, retained_versions=2, retained_feed=5 * DAY)
    for number in range(3):
        begun = await bed.begin("long", number)
        await bed.store_chunks(begun.id, [(f"l{n}", part + b"%d" % number) for n, part in enumerate(LONG)])
        await bed.commit(begun.id, "long", number + 1)
    await bed.mkdir("d", "/d")
    await bed.mkdir("e", "/d/e")
    for number in range(5):
        begun = await bed.begin(f"b{number}", parent="de"[number % 2], name=f"b{number}")
        await bed.store_chunks(begun.id, {f"b{number}": b"below %d" % number})
        await bed.commit(begun.id, f"b{number}", 1)
    await bed.write("gone", 0, {"x": b"gone"})
    await bed.delete("gone", 1, end=True)
    await bed.delete_directory("d", end=True)
    await bed.write("waits", 0, {"y": b"waits"})
    await bed.begin("idle")
    await bed.collect()
    bed.hands.pass_by(1.5 * DAY)
    await bed.delete("waits", 1, end=True)
    begun = await bed.begin("packed")
    await bed.store_chunks(begun.id, [(None, part) for part in [*KEPT, *(bytes(300 + n) for n in range(5))]])
    await bed.commit(begun.id, "packed", 1, [hash_of(part) for part in KEPT[:2]])
    idle = await bed.begin("idle2")
    await bed.store_chunks(idle.id, {"z": b"idle"})
    await bed.collect()
    bed.hands.pass_by(DAY)
    return bed


async def carry_out(wrap: Wrap) -> None:
    """Two collections, then quiet ones."""
    store, objects = MemoryStore(), MemoryObjects()
    await make_cluster(store)
    bed = await prepare(store, objects)
    frail = bed.beside(wrap(store, False), pools=DirectPools({"p1": wrap(objects, True)}))
    for _ in range(2):
        try:
            await frail.collector().run()
        except (DeadError, MoorageError):
            break
        finally:
            bed.hands.pass_by(2 * HOUR)
    for lease in list(store._deadlines):  # a dead collector's tenure ends by itself
        store._end_lease(lease)
    await check_held(bed)
    await bed.undelete("waits")
    await bed.quiet(5)
    await check_held(bed)
    assert await bed.read("waits") == b"waits"
    await check_nothing_else(bed)


async def check_held(bed: CollectorBed) -> None:
    assert await bed.read("packed") == b"".join(KEPT[:2])
    assert await bed.read("long") == b"".join(part + b"2" for part in LONG)
    assert await bed.read("long", 2) == b"".join(part + b"1" for part in LONG)


async def check_nothing_else(bed: CollectorBed) -> None:
    held = [*KEPT[:2], b"waits", *(part + b"%d" % number for number in (1, 2) for part in LONG)]
    assert await bed.digests() == {digest_of(data) for data in held}
    assert len(await bed.object_names()) == 4
    for kind, count in {"g": 4, "m": 5, "c": 3, "t": 0, "l": 0, "u": 0, "s": 0}.items():
        found = [kv async for kvs in _scan(bed, kind) for kv in kvs]
        assert len(found) == count, (kind, found)


def _scan(bed: CollectorBed, kind: str) -> AsyncIterator[Sequence[object]]:
    prefix = f"n/{NAMESPACE}/{kind}/".encode()
    return bed.store.scan(prefix, prefix[:-1] + b"0")


def check_calls(calls: list[str]) -> None:
    """That there is what is to be tried."""
    assert calls.count("transact") > 12
    assert calls.count("delete") >= 2
    assert "put" in calls


@pytest.mark.parametrize("fault", [Fault.UNREACHABLE, Fault.LOST_REQUEST, Fault.LOST_ANSWER])
async def test_whatever_is_lost_nothing_held_is_harmed_and_the_rest_goes(fault: Fault):
    plan = Plan()

    def wrap(store: Any, of_objects: bool) -> Any:
        return FaultyObjects(store, plan) if of_objects else FaultyStore(store, plan)

    await carry_out(wrap)
    calls = plan.calls
    check_calls(calls)
    for number in range(len(calls)):
        plan = Plan({number: fault})
        try:
            await carry_out(wrap)
        except (AssertionError, MoorageError) as error:
            error.add_note(f"{fault} at call {number} ({calls[number]})")
            raise


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_wherever_it_dies_nothing_held_is_harmed_and_the_rest_goes(after: bool):
    life = Life(1 << 30, after)

    def wrap(store: Any, _: bool) -> Any:
        return Mortal(store, life)

    await carry_out(wrap)
    calls = life.calls
    check_calls(calls)
    for number in range(len(calls)):
        life = Life(number, after)
        try:
            await carry_out(wrap)
        except (AssertionError, MoorageError) as error:
            error.add_note(f"death at call {number} ({calls[number]})")
            raise
