"""Deleting directories: one mark, the walk below it, and bringing all of it back."""

import asyncio

import pytest
from namespace_checks import check_namespace
from upload_bed import NAMESPACE, Bed

from moorage.core.errors import (
    GoneError,
    NotADirectoryInTheWayError,
    NotEmptyError,
    NotFoundError,
    PendingDeletionError,
    RootDirectoryError,
)
from moorage_nodes.metadata.l1 import deletion as deletion_module
from moorage_nodes.metadata.l1.directories import plan_get_node
from moorage_nodes.metadata.l2.contents import Contents
from moorage_nodes.metadata.records import (
    CHUNK_LIVE,
    CHUNK_SOFT_DELETED,
    DELETED,
    PENDING_DELETION,
)


async def write_below(bed: Bed, parent: str, *file_ids: str) -> None:
    for file_id in file_ids:
        begun = await bed.begin(file_id, parent=parent, name=file_id)
        await bed.store_chunks(begun.id, {file_id: file_id.encode()})
        await bed.commit(begun.id, file_id, 1)


async def test_all_below_is_unreadable_at_once_and_unchangeable(bed):
    await bed.mkdir("deep", "/d/deep")
    top = (await bed.engine.read(NAMESPACE, lambda view: plan_get_node(view, "deep"))).parent_dir_id
    await write_below(bed, "deep", "f")
    answer = await bed.delete_directory(top)
    assert (answer.status, answer.server_version) == ("pending_deletion", 1)
    assert await bed.delete_directory(top) == answer
    with pytest.raises(GoneError):
        await Contents(bed.store, bed.engine).find(NAMESPACE, "f")
    with pytest.raises(PendingDeletionError) as refused:
        await bed.delete("f", 1)
    assert refused.value.extra["deleted_id"] == top
    with pytest.raises(PendingDeletionError):
        await bed.mkdir("new", "/new", "deep")
    with pytest.raises(PendingDeletionError):
        await bed.undelete("f")
    await check_namespace(bed.store)


async def test_versions_rise_below_with_their_content_and_chunks_are_marked(bed):
    await bed.mkdir("d", "/d")
    await bed.mkdir("e", "/e", "d")
    await write_below(bed, "d", "f")
    await write_below(bed, "e", "g")
    await bed.write("elsewhere", 0, {"x": b"elsewhere"})
    await bed.delete_directory("d", end=True)
    assert (await bed.node("d")).state == DELETED
    told = [(e.type, e.id, e.version, e.state) for e in (await bed.journal())[-4:]]
    assert told == [
        ("delete", "d", 1, PENDING_DELETION),
        ("delete", "f", 2, PENDING_DELETION),
        ("delete", "g", 2, PENDING_DELETION),
        ("delete", "d", 1, DELETED),
    ]
    states = [(await bed.chunk(data)).state for data in (b"f", b"g", b"elsewhere")]
    assert states == [CHUNK_SOFT_DELETED, CHUNK_SOFT_DELETED, CHUNK_LIVE]
    await check_namespace(bed.store)


@pytest.mark.parametrize("walked", [False, True])
async def test_all_of_it_comes_back_but_what_was_deleted_before(bed, walked):
    await bed.mkdir("d", "/d")
    await write_below(bed, "d", "f", "gone")
    await bed.delete("gone", 1, end=True)
    await bed.delete_directory("d", end=walked)
    answer = await bed.undelete("d")
    assert (answer.path, answer.state) == ("/d", "live")
    found = await Contents(bed.store, bed.engine).find(NAMESPACE, "f")
    assert found.number == (2 if walked else 1)
    assert await bed.read("f") == b"f"
    with pytest.raises(GoneError):
        await Contents(bed.store, bed.engine).find(NAMESPACE, "gone")
    await bed.undelete("gone")
    await bed.write("f", found.number, {"f": b"new"})
    await check_namespace(bed.store)


async def test_a_walk_ends_when_the_deletion_is_cancelled(bed, monkeypatch):
    monkeypatch.setattr(deletion_module, "WALKED_TOGETHER", 2)
    await bed.mkdir("d", "/d")
    await write_below(bed, "d", *(f"f{number}" for number in range(7)))
    answer = await bed.delete_directory("d")
    plan = deletion_module.plan_walk(answer.notification_id)
    assert await bed.engine.change(NAMESPACE, plan)
    await bed.undelete("d")
    assert not await bed.engine.change(NAMESPACE, plan)
    versions = [(await bed.node(f"f{number}")).version for number in range(7)]
    assert versions == [2, 2, 1, 1, 1, 1, 1]
    await check_namespace(bed.store)


async def test_there_is_no_end_before_the_walk_is_done(bed):
    await bed.mkdir("d", "/d")
    await write_below(bed, "d", "f")
    answer = await bed.delete_directory("d")
    await bed.engine.change(NAMESPACE, deletion_module.plan_finalize(answer.notification_id))
    assert (await bed.node("d")).state == PENDING_DELETION
    await bed.deletions.advance(NAMESPACE, answer.notification_id)
    assert (await bed.node("d")).state == DELETED


async def test_two_processes_that_walk_at_once_raise_each_version_once(bed, other_bed, monkeypatch):
    monkeypatch.setattr(deletion_module, "WALKED_TOGETHER", 3)
    await bed.mkdir("d", "/d")
    for number in range(4):
        await bed.mkdir(f"d{number}", f"/d{number}", "d")
        await write_below(bed, f"d{number}", *(f"f{number}{place}" for place in range(4)))
    answer = await bed.delete_directory("d")
    await asyncio.gather(
        *(each.deletions.advance(NAMESPACE, answer.notification_id) for each in (bed, other_bed))
    )
    for number in range(4):
        for place in range(4):
            assert (await bed.node(f"f{number}{place}")).version == 2
    assert [(e.id, e.state) for e in await bed.journal() if e.state == DELETED] == [("d", DELETED)]
    await check_namespace(bed.store)


async def test_a_wide_and_deep_tree_is_walked_with_a_short_list_of_places(bed, monkeypatch):
    monkeypatch.setattr(deletion_module, "WALKED_TOGETHER", 8)
    monkeypatch.setattr(deletion_module, "MAX_PLACES", 6)
    await bed.mkdir("d", "/d")
    await bed.mkdir("chain", "/" + "/".join(f"c{number}" for number in range(20)), "d")
    for number in range(30):
        await bed.mkdir(f"w{number}", f"/w{number}", "d")
    await write_below(bed, "chain", "f")
    await write_below(bed, "w29", "g")
    answer = await bed.delete_directory("d", end=True)
    assert [(await bed.node(node_id)).version for node_id in ("f", "g")] == [2, 2]
    assert (await bed.node("d")).deletion == answer.notification_id
    await check_namespace(bed.store)


async def test_only_an_empty_directory_goes_without_what_is_in_it(bed):
    await bed.mkdir("d", "/d")
    await write_below(bed, "d", "f")
    with pytest.raises(NotEmptyError):
        await bed.delete_directory("d", recursive=False)
    await bed.delete("f", 1)
    await bed.delete_directory("d", recursive=False, end=True)
    assert (await bed.node("d")).state == DELETED


async def test_nothing_is_made_in_a_directory_that_goes_as_empty_in_the_same_instant(bed, other_bed):
    for number in range(20):
        await bed.mkdir(f"d{number}", f"/d{number}")
        creators = (bed, other_bed) if number % 2 else (bed, bed)
        made, deleted = await asyncio.gather(
            creators[0].mkdir(f"c{number}", "/c", f"d{number}"),
            creators[1].delete_directory(f"d{number}", recursive=False),
            return_exceptions=True,
        )
        assert isinstance(made, Exception) != isinstance(deleted, Exception), (made, deleted)


async def test_the_root_and_what_is_no_directory_are_refused(bed):
    await bed.write("f", 0, {"a": b"1"})
    for node_id, error in (
        ("root:ns", RootDirectoryError),
        ("nothing", NotFoundError),
        ("f", NotADirectoryInTheWayError),
    ):
        with pytest.raises(error):
            await bed.delete_directory(node_id)
