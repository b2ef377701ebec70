"""A collector dies, or an answer is lost, at any call to a store: nothing that anybody holds is harmed, and the next
collections end what it began.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from collector_bed import HOUR, CollectorBed, DirectPools
from collector_story import check_held, check_nothing_else, prepare, take_small_steps
from upload_bed import make_cluster

from moorage.core.errors import MoorageError
from moorage_nodes.stores.faulty import Fault, FaultyObjects, FaultyStore, Plan
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.objects_memory import MemoryObjects


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    take_small_steps(monkeypatch)


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


async def carry_out(wrap: Wrap) -> None:
    """Two collections, then quiet ones."""
    store, objects = MemoryStore(), MemoryObjects()
    await make_cluster(store)
    bed = CollectorBed(store, objects=objects)
    await prepare(bed)
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
