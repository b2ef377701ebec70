"""A process dies, or its answer is lost, at any call to the store while a version is made: whoever tries again, in
the same process or another, ends with that version, made once, and nothing damaged.
"""

from collections.abc import Awaitable, Callable

import pytest
from namespace_checks import check_namespace
from upload_bed import NAMESPACE, Bed, commit_of, entry, make_cluster

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage_nodes.metadata.l1 import commit as commit_module
from moorage_nodes.metadata.l1 import preparation, segments, targets, uploads
from moorage_nodes.metadata.l1.uploads import FileUpdate
from moorage_nodes.metadata.l1.versions import plan_restore
from moorage_nodes.stores.faulty import Fault, FaultyStore, Plan
from moorage_nodes.stores.memory import MemoryStore

Step = Callable[[Bed], Awaitable[object]]
LONG = 40


class Client:
    """Asks each step of the first process until it fails, from then on of the next."""

    def __init__(self, *processes: Bed) -> None:
        self.processes = list(processes)

    async def __call__(self, step: Step):
        while True:
            try:
                return await step(self.processes[0])
            except StoreUnavailableError:
                if len(self.processes) > 1:
                    del self.processes[0]


async def short_form(ask: Client) -> None:
    for base, chunks in enumerate([{"a": b"1", "b": b"2"}, {"b": b"3", "c": b"4"}]):
        begun = await ask(lambda bed, base=base: bed.begin("f", base))
        await ask(lambda bed, b=begun, c=chunks: bed.store_chunks(b.id, c))
        version = await ask(lambda bed, b=begun, base=base: bed.commit(b.id, "f", base + 1, mode=base))
        assert version == base + 1


async def check_short_form(bed: Bed) -> None:
    assert await bed.read("f") == b"134"
    assert await bed.read("f", 1) == b"12"
    assert await bed.listing("f") == ["a", "b", "c"]


PARTS = [f"part {number};".encode() for number in range(LONG)]


async def long_form(ask: Client) -> None:
    planned = [entry(part, f"chunk_{n}") for n, part in enumerate(PARTS)]
    begun = await ask(lambda bed: bed.begin("f", planned=planned))
    pairs = [(f"chunk_{n}", part) for n, part in enumerate(PARTS)]
    await ask(lambda bed: bed.store_chunks(begun.id, pairs))
    ids = [f"chunk_{n}" for n in reversed(range(LONG))]
    assert await ask(lambda bed: bed.commit(begun.id, "f", 1, ids)) == 1


async def check_long_form(bed: Bed) -> None:
    assert await bed.read("f") == b"".join(reversed(PARTS))
    assert await bed.listing("f") == [f"chunk_{n}" for n in reversed(range(LONG))]


FILES = 40


async def batch(ask: Client) -> None:
    texts = [f"text {number}".encode() for number in range(FILES)]
    updates = [FileUpdate(f"f{n}", 0, [entry(text, f"c{n}")]) for n, text in enumerate(texts)]
    begun = await ask(lambda bed: bed.begin_batch(*updates))
    pairs = [(f"c{n}", text) for n, text in enumerate(texts)]
    await ask(lambda bed: bed.store_chunks(begun.upload_id, pairs))
    commits = [commit_of(f"f{n}", 1) for n in range(FILES)]
    assert await ask(lambda bed: bed.commit_batch(begun.upload_id, *commits)) == [1] * FILES


async def check_batch(bed: Bed) -> None:
    for number in range(FILES):
        assert await bed.read(f"f{number}") == f"text {number}".encode()


async def restoring(ask: Client) -> None:
    await short_form(ask)
    assert await ask(lambda bed: bed.engine.change(NAMESPACE, plan_restore("f", 1, 2))) == 3


async def check_restoring(bed: Bed) -> None:
    assert await bed.read("f") == b"12"
    assert (await bed.node("f")).version == 3


SCENARIOS = {
    "short form": (short_form, check_short_form),
    "long form": (long_form, check_long_form),
    "batch": (batch, check_batch),
    "restore": (restoring, check_restoring),
}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that make a small case take as many steps as a large one."""
    for module in (commit_module, preparation, targets, uploads):
        monkeypatch.setattr(module, "INLINE_ENTRIES", LONG - 1)
    monkeypatch.setattr(segments, "SEGMENT_ENTRIES", 10)
    monkeypatch.setattr(segments, "MAX_WRITE_BYTES", 1200)
    monkeypatch.setattr(commit_module, "MAX_PLAN_FILES", 10)
    monkeypatch.setattr(preparation, "MAX_PLAN_NAMES", 10)
    monkeypatch.setattr(preparation, "BOUND_TOGETHER", 15)
    monkeypatch.setattr(preparation, "CHECKED_TOGETHER", 15)


async def carry_out(scenario: str, faults: dict[int, Fault], *, elsewhere: bool) -> list[str]:
    """Which calls the scenario made to the store, by the process that the faults are for."""
    act, check = SCENARIOS[scenario]
    store = MemoryStore()
    await make_cluster(store)
    plan = Plan(faults)
    faulty = Bed(FaultyStore(store, plan))
    other = Bed(store, seed=2, blobs=faulty.blobs)
    await act(Client(faulty, other) if elsewhere else Client(faulty))
    await check_namespace(store)
    await check(other)
    return plan.calls


@pytest.mark.parametrize("elsewhere", [True, False], ids=["elsewhere", "there"])
@pytest.mark.parametrize("fault", [Fault.LOST_REQUEST, Fault.LOST_ANSWER])
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_version_is_made_once_whatever_is_lost(scenario: str, fault: Fault, elsewhere: bool):
    calls = await carry_out(scenario, {}, elsewhere=elsewhere)
    assert calls.count("transact") >= 3
    for number in range(len(calls)):
        try:
            await carry_out(scenario, {number: fault}, elsewhere=elsewhere)
        except (AssertionError, MoorageError) as error:
            error.add_note(f"{fault} at call {number} ({calls[number]})")
            raise


async def test_whoever_gives_up_leaves_what_was_there(bed: Bed):
    """Every step of a second version but its commit: nothing of it is to be seen."""
    await bed.write("f", 0, {"a": b"1", "b": b"2"})
    begun = await bed.begin("f", 1, planned=[entry(part, f"c{n}") for n, part in enumerate(PARTS)])
    await bed.store_chunks(begun.id, [(f"c{n}", part) for n, part in enumerate(PARTS)])
    await bed.store_chunks(begun.id, {"a": b"other"})
    commit = commit_of("f", 2, ["a", *(f"c{n}" for n in range(LONG - 1, 0, -1))])
    assert await preparation.prepare_commit(bed.server, NAMESPACE, begun.id, commit) is not None
    assert await bed.read("f") == b"12"
    assert await bed.listing("f") == ["a", "b"]
    assert await bed.meaning("c1") is None
    assert (await bed.begin("f", 1)).required == ["a", "b"]
    await check_namespace(bed.store, open_uploads=2)
