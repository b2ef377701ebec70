"""A name has one meaning at each head, though many are bound by one key."""

import itertools

import pytest
from upload_bed import NAMESPACE, Bed, make_cluster

from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.names import (
    MAX_PENDING,
    bind,
    bind_pending,
    meaning,
    observe_meanings,
    read_names,
)
from moorage_nodes.metadata.records import FILE, LIVE, Bound, ChunkName, JournalEntry
from moorage_nodes.stores.memory import MemoryStore

ONE, TWO, THREE = b"1" * 32, b"2" * 32, b"3" * 32


@pytest.fixture
async def bed() -> Bed:
    store = MemoryStore()
    await make_cluster(store)
    return Bed(store)


async def change(bed: Bed, *steps) -> None:
    """One transaction with a journal entry, as a commit has."""

    def plan(view) -> None:
        view.need([keys.chunk_name(NAMESPACE, "n"), keys.chunk_name(NAMESPACE, "m")])
        for step in steps:
            step(view)
        view.append(JournalEntry(1, "commit", "f", FILE, "root:ns", "f", 1, LIVE))

    await bed.engine.change(NAMESPACE, plan)


def stand(binding: str):
    return lambda view: view.put(keys.bound(NAMESPACE, binding), Bound(1, view.last_sequence() + 1))


async def now(bed: Bed) -> bytes | None:
    """What `n` means, which a plan and a reader must tell alike."""
    planned = await bed.engine.read(NAMESPACE, lambda view: observe_meanings(view, ["n"]))
    read = await read_names(bed.store, NAMESPACE, ["n"])
    assert planned["n"] == read.get("n")
    return read.get("n")


async def record(bed: Bed) -> ChunkName:
    return records.decode(ChunkName, (await bed.store.get(keys.chunk_name(NAMESPACE, "n"))).value)


async def test_a_name_never_bound_means_nothing(bed: Bed):
    assert await now(bed) is None


async def test_a_bound_name_means_the_last_binding(bed: Bed):
    for digest in (ONE, TWO, ONE):
        await change(bed, lambda view, digest=digest: bind(view, "n", digest))
        assert await now(bed) == digest


async def test_binding_what_stands_writes_nothing(bed: Bed):
    await change(bed, lambda view: bind(view, "n", ONE))
    before = await bed.store.get(keys.chunk_name(NAMESPACE, "n"))
    await change(bed, lambda view: bind(view, "n", ONE))
    assert await bed.store.get(keys.chunk_name(NAMESPACE, "n")) == before


async def test_pending_names_count_from_the_one_key_on_all_at_once(bed: Bed):
    await change(bed, lambda view: bind(view, "n", ONE))
    await change(bed, lambda v: bind_pending(v, "n", TWO, "b"), lambda v: bind_pending(v, "m", THREE, "b"))
    assert await read_names(bed.store, NAMESPACE, ["n", "m"]) == {"n": ONE}
    await change(bed, stand("b"))
    assert await read_names(bed.store, NAMESPACE, ["n", "m"]) == {"n": TWO, "m": THREE}


async def test_a_name_bound_while_another_binding_is_pending_gives_way_when_that_stands(bed: Bed):
    await change(bed, lambda view: bind_pending(view, "n", TWO, "b"))
    await change(bed, lambda view: bind(view, "n", ONE))
    assert await now(bed) == ONE
    await change(bed, stand("b"))
    assert await now(bed) == TWO


async def test_a_name_bound_after_a_binding_stands_is_the_newer(bed: Bed):
    await change(bed, lambda view: bind_pending(view, "n", TWO, "b"))
    await change(bed, stand("b"))
    await change(bed, lambda view: bind(view, "n", ONE))
    assert await now(bed) == ONE
    assert (await record(bed)).pending == []


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
async def test_of_several_bindings_the_one_that_stands_last_counts(bed: Bed, order: tuple[str, ...]):
    digests = {"a": ONE, "b": TWO, "c": THREE}
    for binding, digest in digests.items():
        await change(bed, lambda view, b=binding, d=digest: bind_pending(view, "n", d, b))
    for binding in order:
        await change(bed, stand(binding))
        assert await now(bed) == digests[binding]


async def test_bindings_given_up_do_not_pile_up(bed: Bed):
    await change(bed, lambda view: bind(view, "n", ONE))
    for number in range(3 * MAX_PENDING):
        await change(bed, lambda view, n=number: bind_pending(view, "n", TWO, f"b{n}"))
    assert len((await record(bed)).pending) == MAX_PENDING
    assert await now(bed) == ONE


async def test_a_binding_written_again_counts_once(bed: Bed):
    for digest in (ONE, TWO):
        await change(bed, lambda view, digest=digest: bind_pending(view, "n", digest, "b"))
    assert (await record(bed)).pending == [("b", TWO)]


def test_a_name_that_only_ever_was_pending_means_nothing():
    assert meaning(ChunkName(1, b"", [("b", ONE)]), {}) is None
