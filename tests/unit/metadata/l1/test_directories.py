import asyncio

import pytest

from moorage.core.errors import (
    GoneError,
    IdTakenError,
    InvalidFieldError,
    NameTakenError,
    NotADirectoryInTheWayError,
    NotFoundError,
    PendingDeletionError,
    TooDeepError,
)
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.directories import Page, build_cursor, parse_cursor
from moorage_nodes.metadata.records import DELETED, PENDING_DELETION


async def test_what_is_missing_on_a_path_is_made_and_the_last_part_gets_the_id(tree) -> None:
    made = await tree.mkdir("year", "/photos/2023")
    assert (made.id, made.path, made.type) == ("year", "/photos/2023", "directory")
    photos = (await tree.names())["photos"]
    assert await tree.names(photos) == {"2023": "year"}
    assert (await tree.node(photos)).path == "/photos"


async def test_the_same_request_again_answers_the_same_and_writes_nothing(tree) -> None:
    first = await tree.mkdir("year", "/photos/2023")
    before = await tree.journal()
    tree.time += 100
    assert await tree.mkdir("year", "/photos/2023") == first
    assert await tree.journal() == before


async def test_each_directory_that_is_made_has_a_journal_entry_parents_first(tree) -> None:
    await tree.mkdir("c", "/a/b/c")
    entries = await tree.journal()
    assert [entry.name for entry in entries] == ["a", "b", "c"]
    assert [entry.parent for entry in entries] == [tree.root, entries[0].id, entries[1].id]


async def test_a_directory_of_another_id_at_the_place_is_a_conflict_that_names_it(tree) -> None:
    await tree.mkdir("first", "/here")
    with pytest.raises(NameTakenError) as refused:
        await tree.mkdir("second", "/here")
    assert refused.value.extra == {"id": "first"}


@pytest.mark.parametrize("path", ["/there", "/here/below", "/new/there"])
async def test_an_id_in_use_elsewhere_is_a_conflict_and_nothing_is_made(tree, path) -> None:
    await tree.mkdir("taken", "/here")
    with pytest.raises(IdTakenError):
        await tree.mkdir("taken", path)
    assert await tree.names() == {"here": "taken"}
    assert await tree.names("taken") == {}


@pytest.mark.parametrize("path", ["/plug", "/plug/below", "/plug/below/deeper"])
async def test_a_file_in_the_way_is_a_conflict(tree, path) -> None:
    await tree.mkfile("plug", "/plug")
    with pytest.raises(NotADirectoryInTheWayError):
        await tree.mkdir("d", path)


async def test_a_file_is_no_parent(tree) -> None:
    await tree.mkfile("plug", "/plug")
    with pytest.raises(NotADirectoryInTheWayError):
        await tree.mkdir("d", "/x", parent="plug")


async def test_an_unknown_parent_is_not_found(tree) -> None:
    with pytest.raises(NotFoundError):
        await tree.mkdir("d", "/x", parent="nowhere")
    with pytest.raises(NotFoundError):
        await tree.mkdir("d", "/x", parent="root:other")


async def test_root_ids_are_not_to_be_had(tree) -> None:
    with pytest.raises(IdTakenError):
        await tree.mkdir("root:ns", "/x")
    for reserved in ("root", "root:other"):
        with pytest.raises(InvalidFieldError):
            await tree.mkdir(reserved, "/x")


async def test_directories_are_at_most_as_deep_as_paths_are_long(tree) -> None:
    parent = tree.root
    for level in range(4):
        await tree.mkdir(f"d{level}", "/".join(["x"] * 64), parent=parent)
        parent = f"d{level}"
    with pytest.raises(TooDeepError):
        await tree.mkdir("d", "/x", parent=parent)
    assert (await tree.node(parent)).path == "/x" * 256


@pytest.mark.parametrize(("state", "error"), [(PENDING_DELETION, PendingDeletionError), (DELETED, GoneError)])
async def test_nothing_is_made_below_a_directory_that_is_deleted(tree, state, error) -> None:
    await tree.mkdir("top", "/top")
    await tree.mkdir("inner", "/inner", parent="top")
    await tree.put_record("top", state=state)
    for parent in ("top", "inner"):
        with pytest.raises(error):
            await tree.mkdir("d", "/x", parent=parent)
        with pytest.raises(error):
            await tree.mkfile("f", "/x", parent=parent)


@pytest.mark.parametrize("state", [PENDING_DELETION, DELETED])
async def test_what_lies_below_a_deleted_directory_is_not_read(tree, state) -> None:
    await tree.mkdir("inner", "/top/inner")
    await tree.mkfile("file", "/f", parent="inner")
    await tree.put_record((await tree.names())["top"], state=state)
    for reading in (
        tree.node("inner"),
        tree.node("file"),
        tree.listing("inner"),
        tree.metadata("file"),
        tree.resolve("/top/inner/f"),
    ):
        with pytest.raises(GoneError):
            await reading


async def test_a_deleted_id_is_not_given_again(tree) -> None:
    await tree.mkdir("d", "/d")
    await tree.put_record("d", state=DELETED)
    with pytest.raises(IdTakenError):
        await tree.mkdir("d", "/elsewhere")


async def test_a_listing_is_in_byte_order_of_the_names_and_says_what_each_entry_is(tree) -> None:
    for name in ("b", "a", "Z", "ü", "aa"):
        await tree.mkdir(f"d-{name.encode().hex()}", name)
        await tree.mkfile(f"f-{name.encode().hex()}", name + ".txt")
    listing = await tree.listing()
    assert [entry["name"] for entry in listing["directories"]] == ["Z", "a", "aa", "b", "ü"]
    assert [entry["name"] for entry in listing["files"]] == ["Z.txt", "a.txt", "aa.txt", "b.txt", "ü.txt"]
    assert listing["files"][0] == {
        "id": "f-5a",
        "name": "Z.txt",
        "modified": "2023-11-14T22:13:20.000Z",
        "state": "live",
        "version": 0,
        "size": 0,
    }
    assert "next_cursor" not in listing


async def test_pages_hold_every_entry_once_whatever_their_size(tree) -> None:
    names = [f"{n:02}" for n in range(17)]
    for name in names:
        await (tree.mkdir if int(name) % 3 else tree.mkfile)(f"id{name}", name)
    for limit in (1, 2, 16, 17, 18, 10_000):
        seen, cursor, pages = [], None, 0
        while pages == 0 or cursor is not None:
            page = Page(limit, parse_cursor(cursor, tree.root))
            listing = await tree.listing(page=page)
            entries = [entry["name"] for entry in [*listing["directories"], *listing["files"]]]
            assert len(entries) <= limit
            seen += entries
            cursor, pages = listing["next_cursor"], pages + 1
        assert sorted(seen) == names
        assert pages == -(-17 // limit)


async def test_what_is_there_throughout_is_listed_once_though_others_come_and_go(tree) -> None:
    for n in range(6):
        await tree.mkdir(f"stays{n}", f"m{n}")
    first = await tree.listing(page=Page(3))
    await tree.mkdir("early", "a")
    await tree.mkdir("late", "z")
    await tree.move("stays1", tree.root, "n")
    rest = await tree.listing(page=Page(100, parse_cursor(first["next_cursor"], tree.root)))
    assert [entry["id"] for entry in first["directories"]] == ["stays0", "stays1", "stays2"]
    assert [entry["id"] for entry in rest["directories"]] == ["stays3", "stays4", "stays5", "stays1", "late"]


async def test_a_directory_beyond_one_range_read_is_listed_whole(tree) -> None:
    count = 4096 + 5
    for start in range(0, count, 200):
        await asyncio.gather(
            *(tree.mkfile(f"f{n}", f"/{n:05}") for n in range(start, min(start + 200, count)))
        )
    assert [entry["id"] for entry in (await tree.listing())["files"]] == [f"f{n}" for n in range(count)]
    page = await tree.listing(page=Page(10_000))
    assert len(page["files"]) == count
    assert page["next_cursor"] is None


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "made-up",
        "\0",
        "é",
        "A" * 2000,
        build_cursor("another-directory", "x"),
        build_cursor("root:ns", "x")[:-2],
        build_cursor("root:ns", "a/b"),
    ],
)
def test_a_cursor_that_no_page_gave_is_refused(cursor) -> None:
    with pytest.raises(InvalidFieldError):
        parse_cursor(cursor, "root:ns")


async def test_a_repeated_listing_reads_nothing_but_the_head(tree, monkeypatch) -> None:
    await tree.mkdir("d", "/d")
    first = await tree.listing()
    asked = []
    get = tree.store.get

    async def counted(key, **more):
        asked.append(key)
        return await get(key, **more)

    monkeypatch.setattr(tree.store, "get", counted)
    monkeypatch.setattr(tree.store, "transact", None)
    monkeypatch.setattr(tree.store, "get_many", None)
    assert await tree.listing() == first
    assert asked == [keys.head("ns")]


async def test_a_listing_is_never_of_an_older_head(tree, other) -> None:
    for n in range(5):
        await other.mkdir(f"d{n}", f"/{n}")
        assert len(await tree.names()) == n + 1
    await other.move("d0", "d1", "in")
    assert len(await tree.names()) == 4


async def test_paths_resolve_from_the_root(tree) -> None:
    await tree.mkfile("f", "/a/b/f.txt")
    assert await tree.resolve("/a/b/f.txt") == await tree.node("f")
    assert (await tree.resolve("/")).id == tree.root
    for nothing in ("/x", "/a/x", "/a/b/f.txt/below", "/a/b/c/d"):
        with pytest.raises(NotFoundError):
            await tree.resolve(nothing)


async def test_the_root_is_a_directory_without_a_parent(tree) -> None:
    root = await tree.node(tree.root)
    assert (root.type, root.path, root.parent_dir_id, root.name) == ("directory", "/", None, "")
    assert await tree.names() == {}


async def test_of_many_who_make_one_name_at_once_over_two_servers_one_wins(tree, other) -> None:
    answers = await asyncio.gather(
        *((tree, other)[n % 2].mkdir(f"d{n}", "/prize") for n in range(20)), return_exceptions=True
    )
    won = [answer for answer in answers if not isinstance(answer, Exception)]
    assert len(won) == 1
    assert {type(answer) for answer in answers if isinstance(answer, Exception)} == {NameTakenError}
    assert await tree.names() == {"prize": won[0].id}
