"""What is deleted can be brought back, to its place or to another one, until the trash lets go."""

import asyncio

import pytest
from namespace_checks import check_namespace
from upload_bed import NAMESPACE, Bed

from moorage.core.errors import (
    GoneError,
    InvalidFieldError,
    NameTakenError,
    NotADirectoryInTheWayError,
    NotDeletedError,
    NotFoundError,
    PendingDeletionError,
    PlaceGoneError,
)
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.moves import Move, plan_move
from moorage_nodes.metadata.l1.trash import build_cursor, parse_cursor, plan_list_trash
from moorage_nodes.metadata.l2.contents import Contents
from moorage_nodes.metadata.records import LIVE


async def trash(bed: Bed, after: str | None = None, limit: int = 10):
    return await bed.engine.read(NAMESPACE, lambda view: plan_list_trash(view, after, limit))


@pytest.mark.parametrize("end", [False, True], ids=["while pending", "from the trash"])
async def test_a_file_comes_back_with_its_content_one_version_on(bed, end):
    await bed.write("f", 0, {"a": b"1"})
    await bed.write("f", 1, {"a": b"2"})
    await bed.delete("f", 2, end=end)
    answer = await bed.undelete("f")
    assert (answer.id, answer.path, answer.version, answer.state) == ("f", "/f", 4, "live")
    assert (await Contents(bed.store, bed.engine).find(NAMESPACE, "f")).number == 4
    assert [await bed.read("f"), await bed.read("f", 1)] == [b"2", b"1"]
    entry = (await bed.journal())[-1]
    assert (entry.type, entry.id, entry.version, entry.state) == ("undelete", "f", 4, LIVE)
    assert await bed.undelete("f") == answer
    await bed.write("f", 4, {"a": b"3"})
    assert await bed.read("f") == b"3"
    await check_namespace(bed.store)


async def test_bringing_back_cancels_what_is_pending_and_later_steps_change_nothing(bed):
    await bed.write("f", 0, {"a": b"1"})
    deleted = await bed.delete("f", 1)
    await bed.undelete("f")
    before = await bed.journal()
    await bed.deletions.advance(NAMESPACE, deleted.notification_id)
    assert await bed.journal() == before
    again = await bed.delete("f", 3)
    await bed.deletions.advance(NAMESPACE, deleted.notification_id)
    assert (await bed.node("f")).deletion == again.notification_id
    await check_namespace(bed.store)


async def test_of_the_end_and_its_cancelling_at_once_one_comes_first(bed, other_bed):
    for number in range(10):
        await bed.write(f"f{number}", 0, {"a": b"1"})
        deleted = await bed.delete(f"f{number}", 1)
        await asyncio.gather(
            bed.deletions.advance(NAMESPACE, deleted.notification_id), other_bed.undelete(f"f{number}")
        )
        assert (await bed.node(f"f{number}")).state == LIVE
    await check_namespace(bed.store)


async def test_an_empty_file_that_never_had_a_version_comes_back_readable(bed):
    await bed.mkdir("d", "/d")
    begun = await bed.begin("f")
    await bed.commit(begun.id, "f", 1, [])
    await bed.delete("f", 1, end=True)
    await bed.undelete("f", "d", "back")
    found = await Contents(bed.store, bed.engine).find(NAMESPACE, "f")
    assert (found.number, found.size, found.name) == (3, 0, "back")
    await check_namespace(bed.store)


async def test_a_taken_or_vanished_place_is_a_conflict_and_another_one_can_be_named(bed):
    await bed.mkdir("d", "/d")
    begun = await bed.begin("f", parent="d", name="x")
    await bed.store_chunks(begun.id, {"a": b"1"})
    await bed.commit(begun.id, "f", 1)
    await bed.delete("f", 1, end=True)
    begun = await bed.begin("g", parent="d", name="x")
    await bed.commit(begun.id, "g", 1, [])
    with pytest.raises(NameTakenError) as refused:
        await bed.undelete("f")
    assert refused.value.extra == {"id": "g"}
    await bed.delete_directory("d")
    with pytest.raises(PlaceGoneError) as refused:
        await bed.undelete("f")
    assert refused.value.extra == {"old_parent_dir_id": "d"}
    for parent, error in (("d", PendingDeletionError), ("nowhere", NotFoundError)):
        with pytest.raises(error):
            await bed.undelete("f", parent)
    await bed.write("h", 0, {"a": b"2"})
    with pytest.raises(NotADirectoryInTheWayError):
        await bed.undelete("f", "h")
    answer = await bed.undelete("f", "root:ns", "back")
    assert (answer.path, answer.version, answer.meta_version) == ("/back", 3, 1)
    assert await bed.undelete("f", "root:ns", "back") == answer
    assert await bed.read("f") == b"1"


async def test_what_is_not_deleted_is_not_moved_by_bringing_it_back(bed):
    await bed.write("f", 0, {"a": b"1"})
    before = await bed.journal()
    assert (await bed.undelete("f")).version == 1
    assert await bed.journal() == before
    with pytest.raises(NotDeletedError):
        await bed.undelete("f", None, "elsewhere")
    with pytest.raises(NotDeletedError):
        await bed.undelete("root:ns")
    with pytest.raises(NotFoundError):
        await bed.undelete("nothing")


async def test_what_the_trash_has_let_go_is_gone(bed):
    await bed.write("f", 0, {"a": b"1"})
    await bed.delete("f", 1, end=True)
    await bed.engine.change(NAMESPACE, lambda view: view.delete(keys.trash(NAMESPACE, "f")))
    with pytest.raises(GoneError):
        await bed.undelete("f")


async def test_a_replaced_file_is_in_the_trash(bed):
    for node_id in ("old", "new"):
        await bed.write(node_id, 0, {"a": node_id.encode()})
    move = Move("new", "root:ns", "old", replace_id="old")
    await bed.engine.change(NAMESPACE, lambda view: plan_move(view, move))
    assert [entry.id for entry in (await trash(bed)).trash] == ["old"]
    with pytest.raises(NameTakenError):
        await bed.undelete("old")
    await bed.undelete("old", None, "kept")
    assert await bed.read("old") == b"old"
    await check_namespace(bed.store)


async def test_the_trash_is_listed_in_pages(bed):
    for number in range(5):
        await bed.write(f"f{number}", 0, {"a": b"123"})
        await bed.delete(f"f{number}", 1, end=True)
    await bed.undelete("f2")
    page = await trash(bed, limit=3)
    assert [entry.id for entry in page.trash] == ["f0", "f1", "f3"]
    entry = page.trash[0]
    assert (entry.type, entry.name, entry.parent_dir_id, entry.version, entry.size) == (
        *("file", "f0", "root:ns"),
        *(2, 3),
    )
    after = parse_cursor(page.next_cursor)
    page = await trash(bed, after, limit=3)
    assert ([entry.id for entry in page.trash], page.next_cursor) == (["f4"], None)


@pytest.mark.parametrize("text", ["", "x", "=", "dA", "Zm9v", "dC8", build_cursor("a/b"), "é", "t" * 300])
def test_a_cursor_is_one_that_was_answered(text):
    with pytest.raises(InvalidFieldError):
        parse_cursor(text)
