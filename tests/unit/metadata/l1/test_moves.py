import asyncio

import pytest

from moorage.core.errors import (
    ConflictError,
    CycleError,
    GoneError,
    NameTakenError,
    NotADirectoryInTheWayError,
    NotFoundError,
    PendingDeletionError,
    ReplaceTargetError,
    TooDeepError,
)
from moorage_nodes.metadata.records import DELETED, PENDING_DELETION, JournalEntry


async def test_a_rename_changes_name_and_meta_version_alone(tree) -> None:
    await tree.mkfile("f", "/old")
    await tree.put_record("f", version=3, size=7)
    before = await tree.node("f")
    tree.time += 60
    moved = await tree.move("f", tree.root, "new")
    assert await tree.names() == {"new": "f"}
    assert (moved.name, moved.path, moved.meta_version) == ("new", "/new", before.meta_version + 1)
    assert (moved.version, moved.size, moved.modified) == (3, 7, before.modified)


async def test_a_directory_moves_with_all_below_it(tree) -> None:
    await tree.mkfile("f", "/a/b/f")
    await tree.mkdir("to", "/to")
    await tree.move((await tree.names())["a"], "to", "moved")
    assert (await tree.node("f")).path == "/to/moved/b/f"
    assert await tree.names() == {"to": "to"}


async def test_moving_to_where_it_is_answers_the_same_and_writes_nothing(tree) -> None:
    await tree.mkdir("d", "/d")
    await tree.mkfile("f", "/f")
    first = await tree.move("f", "d", "g", meta_version=0)
    before = await tree.journal()
    assert await tree.move("f", "d", "g", meta_version=0) == first
    assert await tree.move("f", "d", "g", meta_version=1) == first
    assert await tree.move("f", "d", "g") == first
    assert await tree.journal() == before


async def test_a_stale_meta_version_is_a_conflict_that_says_the_present_one(tree) -> None:
    await tree.mkfile("f", "/f")
    await tree.move("f", tree.root, "g")
    await tree.move("f", tree.root, "h")
    for stale in (0, 1, 3):
        with pytest.raises(ConflictError) as refused:
            await tree.move("f", tree.root, "i", meta_version=stale)
        assert refused.value.extra["meta_version"] == 2
    with pytest.raises(ConflictError):
        await tree.move("f", tree.root, "h", meta_version=0)
    assert await tree.names() == {"h": "f"}


async def test_a_taken_name_is_a_conflict_and_nothing_moves(tree) -> None:
    await tree.mkfile("one", "/one")
    await tree.mkfile("two", "/two")
    with pytest.raises(NameTakenError) as refused:
        await tree.move("one", tree.root, "two")
    assert refused.value.extra == {"id": "two"}
    assert await tree.names() == {"one": "one", "two": "two"}


async def test_a_directory_never_goes_into_itself(tree) -> None:
    await tree.mkdir("leaf", "/top/middle/leaf")
    top = (await tree.names())["top"]
    for parent in ("leaf", top):
        with pytest.raises(CycleError):
            await tree.move(top, parent, "x")
    with pytest.raises(CycleError):
        await tree.move(tree.root, "leaf", "x")


async def test_two_moves_at_once_make_no_cycle_over_two_servers(tree, other) -> None:
    for n in range(20):
        await tree.mkdir(f"a{n}", f"/a{n}")
        await tree.mkdir(f"b{n}", f"/b{n}")
        answers = await asyncio.gather(
            tree.move(f"a{n}", f"b{n}", "in"), other.move(f"b{n}", f"a{n}", "in"), return_exceptions=True
        )
        assert sorted(isinstance(answer, CycleError) for answer in answers) == [False, True]
        assert {(await tree.node(f"a{n}")).path, (await tree.node(f"b{n}")).path} in (
            {f"/a{n}", f"/a{n}/in"},
            {f"/b{n}", f"/b{n}/in"},
        )


async def test_two_moves_of_one_batch_make_no_cycle(tree) -> None:
    await tree.mkdir("a", "/a")
    await tree.mkdir("b", "/b")
    answers = await asyncio.gather(
        tree.move("a", "b", "in"), tree.move("b", "a", "in"), return_exceptions=True
    )
    assert answers[0].path == "/b/in"
    assert isinstance(answers[1], CycleError)


async def test_what_is_unknown_or_no_directory_is_refused(tree) -> None:
    await tree.mkfile("f", "/f")
    await tree.mkfile("g", "/g")
    with pytest.raises(NotFoundError):
        await tree.move("nothing", tree.root, "x")
    with pytest.raises(NotFoundError):
        await tree.move("f", "nowhere", "x")
    with pytest.raises(NotADirectoryInTheWayError):
        await tree.move("f", "g", "x")


@pytest.mark.parametrize(("state", "error"), [(PENDING_DELETION, PendingDeletionError), (DELETED, GoneError)])
async def test_what_is_deleted_is_neither_moved_nor_moved_into(tree, state, error) -> None:
    await tree.mkdir("gone", "/gone")
    await tree.mkdir("inner", "/inner", parent="gone")
    await tree.mkfile("f", "/f")
    await tree.put_record("gone", state=state)
    for node, parent in (("gone", tree.root), ("inner", tree.root), ("f", "gone"), ("f", "inner")):
        with pytest.raises(error) as refused:
            await tree.move(node, parent, "x")
        assert refused.value.extra["deleted_id"] == "gone"


async def test_replace_puts_a_file_over_another_and_deletes_that_one(tree) -> None:
    await tree.mkfile("doc", "/doc.txt")
    await tree.put_record("doc", version=4, size=9)
    await tree.mkfile("temp", "/.doc.swp")
    moved = await tree.move("temp", tree.root, "doc.txt", replace_id="doc")
    assert await tree.names() == {"doc.txt": "temp"}
    assert moved.meta_version == 1
    with pytest.raises(GoneError):
        await tree.metadata("doc")
    old = await tree.record("doc")
    assert (old.state, old.version, old.size, old.name) == (DELETED, 5, 9, "doc.txt")
    assert (await tree.journal())[-2:] == [
        JournalEntry(1, "replace", "doc", 1, tree.root, "doc.txt", 5, DELETED),
        JournalEntry(1, "move", "temp", 1, tree.root, "doc.txt", 0, 0, "", tree.root, ".doc.swp"),
    ]


async def test_replacing_again_answers_the_same_and_deletes_nothing_more(tree) -> None:
    await tree.mkfile("doc", "/doc.txt")
    await tree.mkfile("temp", "/temp")
    first = await tree.move("temp", tree.root, "doc.txt", replace_id="doc", meta_version=0)
    assert await tree.move("temp", tree.root, "doc.txt", replace_id="doc", meta_version=0) == first
    assert (await tree.record("doc")).version == 1


async def test_only_the_named_file_is_replaced_and_only_by_a_file(tree) -> None:
    await tree.mkfile("doc", "/doc.txt")
    await tree.mkfile("temp", "/temp")
    await tree.mkdir("dir", "/dir")
    before = await tree.names()
    for name, replaced in (("doc.txt", "dir"), ("doc.txt", "temp"), ("doc.txt", "nothing"), ("dir", "doc")):
        with pytest.raises(NameTakenError):
            await tree.move("temp", tree.root, name, replace_id=replaced)
    with pytest.raises(ReplaceTargetError):
        await tree.move("temp", tree.root, "free", replace_id="doc")
    with pytest.raises(ReplaceTargetError):
        await tree.move("temp", tree.root, "dir", replace_id="dir")
    with pytest.raises(ReplaceTargetError):
        await tree.move("dir", tree.root, "doc.txt", replace_id="doc")
    assert await tree.names() == before


async def test_of_two_saves_over_one_file_one_wins(tree, other) -> None:
    for n in range(10):
        await tree.mkfile(f"doc{n}", f"/doc{n}")
        await tree.mkfile(f"x{n}", f"/x{n}")
        await tree.mkfile(f"y{n}", f"/y{n}")
        answers = await asyncio.gather(
            tree.move(f"x{n}", tree.root, f"doc{n}", replace_id=f"doc{n}"),
            other.move(f"y{n}", tree.root, f"doc{n}", replace_id=f"doc{n}"),
            return_exceptions=True,
        )
        assert sorted(isinstance(answer, NameTakenError) for answer in answers) == [False, True]
        assert (await tree.record(f"doc{n}")).version == 1


async def test_deep_trees_moved_into_one_another_are_refused_at_the_bound_and_can_be_moved_out(tree) -> None:
    def chain(length: int) -> str:
        return "/".join(["x"] * length)

    for name in "abc":
        await tree.mkdir(f"{name}-leaf", f"{name}/{chain(254)}")
    tops = await tree.names()
    with pytest.raises(TooDeepError):
        await tree.mkdir("over", chain(3), parent="a-leaf")
    await tree.move(tops["b"], "a-leaf", "b")
    assert len((await tree.node("b-leaf")).path.split("/")) - 1 == 510
    # Nothing more is put below what already lies deeper than paths reach.
    with pytest.raises(TooDeepError):
        await tree.move(tops["c"], "b-leaf", "c")
    assert set(await tree.names()) == {"a", "c"}
    # A directory that holds deep ones may itself be moved deeper: then they are out of reach until it is moved up.
    await tree.mkdir("d-leaf", f"d/{chain(9)}")
    await tree.move(tops["a"], "d-leaf", "a")
    with pytest.raises(TooDeepError):
        await tree.node("b-leaf")
    await tree.move(tops["a"], tree.root, "a")
    assert (await tree.node("b-leaf")).type == "directory"
