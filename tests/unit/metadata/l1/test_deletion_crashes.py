"""A process dies, or its answer is lost, at any call to the store from the deletion to the trash and back: whoever
tries again, there or elsewhere, ends with one deletion, and nothing damaged.
"""

from collections.abc import Awaitable, Callable

import pytest
from namespace_checks import check_namespace
from upload_bed import NAMESPACE, Bed, make_cluster

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage_nodes.metadata.l1 import deletion as deletion_module
from moorage_nodes.metadata.l1 import let_go
from moorage_nodes.metadata.records import CHUNK_SOFT_DELETED, DELETED, LIVE, PENDING_DELETION
from moorage_nodes.stores.faulty import Fault, FaultyStore, Plan
from moorage_nodes.stores.memory import MemoryStore

Ask = Callable[[Callable[[Bed], Awaitable[object]]], Awaitable[object]]


async def prepare(bed: Bed) -> None:
    await bed.write("f", 0, {"a": b"1"})
    await bed.write("f", 1, {"a": b"2", "b": b"3"})
    await bed.mkdir("d", "/d")
    await bed.mkdir("e", "/e/e", "d")
    for node_id, parent in (("below", "d"), ("deep", "e"), ("deeper", "e")):
        begun = await bed.begin(node_id, parent=parent, name=node_id)
        await bed.store_chunks(begun.id, {node_id: node_id.encode()})
        await bed.commit(begun.id, node_id, 1)


async def to_the_end(ask: Ask, notification_id: str) -> None:
    await ask(lambda bed: bed.deletions.advance(NAMESPACE, notification_id))


async def delete_file(ask: Ask) -> None:
    answer = await ask(lambda bed: bed.delete("f", 2))
    await to_the_end(ask, answer.notification_id)


async def check_delete_file(bed: Bed) -> None:
    node = await bed.node("f")
    assert (node.state, node.version) == (DELETED, 3)
    for data in (b"1", b"2", b"3"):
        assert (await bed.chunk(data)).state == CHUNK_SOFT_DELETED


async def undelete_file(ask: Ask) -> None:
    await delete_file(ask)
    await ask(lambda bed: bed.undelete("f"))


async def check_undelete_file(bed: Bed) -> None:
    node = await bed.node("f")
    assert (node.state, node.version) == (LIVE, 4)
    assert await bed.read("f") == b"23"


async def cancel(ask: Ask) -> None:
    answer = await ask(lambda bed: bed.delete("f", 2))
    await ask(lambda bed: bed.undelete("f"))
    await to_the_end(ask, answer.notification_id)


async def delete_directory(ask: Ask) -> None:
    answer = await ask(lambda bed: bed.delete_directory("d"))
    await to_the_end(ask, answer.notification_id)


async def check_delete_directory(bed: Bed) -> None:
    assert (await bed.node("d")).state == DELETED
    for node_id in ("below", "deep", "deeper"):
        node = await bed.node(node_id)
        assert (node.state, node.version) == (LIVE, 2)
        assert await bed.read(node_id) == node_id.encode()
        assert (await bed.chunk(node_id.encode())).state == CHUNK_SOFT_DELETED


SCENARIOS = {
    "delete a file": (delete_file, check_delete_file),
    "bring a file back": (undelete_file, check_undelete_file),
    "cancel": (cancel, check_undelete_file),
    "delete a directory": (delete_directory, check_delete_directory),
}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion_module, "WALKED_TOGETHER", 1)
    monkeypatch.setattr(let_go, "CHILDREN_TOGETHER", 1)
    monkeypatch.setattr(let_go, "MARKED_TOGETHER", 2)
    monkeypatch.setattr(let_go, "MANIFESTS_TOGETHER", 1)
    monkeypatch.setattr(let_go, "FILES_TOGETHER", 2)


async def carry_out(scenario: str, faults: dict[int, Fault], *, elsewhere: bool) -> list[str]:
    act, check = SCENARIOS[scenario]
    store = MemoryStore()
    await make_cluster(store)
    other = Bed(store, seed=2)
    await prepare(other)
    plan = Plan(faults)
    processes = [Bed(FaultyStore(store, plan), blobs=other.blobs)]
    if elsewhere:
        processes.append(other)

    async def ask(step: Callable[[Bed], Awaitable[object]]) -> object:
        while True:
            try:
                return await step(processes[0])
            except StoreUnavailableError:
                if len(processes) > 1:
                    del processes[0]

    await act(ask)
    await check_namespace(store)
    await check(other)
    return plan.calls


@pytest.mark.parametrize("elsewhere", [True, False], ids=["elsewhere", "there"])
@pytest.mark.parametrize("fault", [Fault.LOST_REQUEST, Fault.LOST_ANSWER])
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_deletion_is_made_once_whatever_is_lost(scenario: str, fault: Fault, elsewhere: bool):
    calls = await carry_out(scenario, {}, elsewhere=elsewhere)
    assert calls.count("transact") >= 2
    for number in range(len(calls)):
        try:
            await carry_out(scenario, {number: fault}, elsewhere=elsewhere)
        except (AssertionError, MoorageError) as error:
            error.add_note(f"{fault} at call {number} ({calls[number]})")
            raise


@pytest.mark.parametrize("scenario", ["delete a file", "delete a directory"])
async def test_what_a_dead_process_left_is_whole_and_is_taken_up_by_the_scans(scenario: str):
    act, check = SCENARIOS[scenario]
    store = MemoryStore()
    await make_cluster(store)
    bed = Bed(store)
    await prepare(bed)

    async def alone(step: Callable[[Bed], Awaitable[object]]) -> object:
        return await step(dying)

    number = 0
    while True:
        plan = Plan({number: Fault.UNREACHABLE})
        dying = Bed(FaultyStore(store, plan), seed=number, blobs=bed.blobs)
        try:
            await act(alone)
        except StoreUnavailableError:
            await check_namespace(store)
        else:
            break
        number += 1
    await check(bed)
    assert number > 5


async def test_pending_is_what_everybody_sees_in_between(bed):
    await prepare(bed)
    await bed.delete("f", 2)
    assert (await bed.node("f")).state == PENDING_DELETION
