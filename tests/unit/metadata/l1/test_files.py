import hashlib

import pytest
from rewriting import rewrite

from moorage.core.errors import (
    GoneError,
    IdTakenError,
    InvalidFieldError,
    NameTakenError,
    NotADirectoryInTheWayError,
    NotFoundError,
)
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.files import parse_place
from moorage_nodes.metadata.records import DELETED, Manifest


async def test_a_new_file_has_version_zero_and_no_content(tree) -> None:
    made = await tree.mkfile("f", "/f.txt")
    assert (made.version, made.size, made.type, made.path) == (0, 0, "file", "/f.txt")
    metadata = await tree.metadata("f")
    assert metadata.hash == "sha256_" + hashlib.sha256().hexdigest()
    assert (metadata.version, metadata.size, metadata.attrs) == (0, 0, {})


async def test_making_it_again_answers_the_same_and_writes_nothing(tree) -> None:
    first = await tree.mkfile("f", "/a/f.txt")
    before = await tree.journal()
    tree.time += 9
    assert await tree.mkfile("f", "/a/f.txt") == first
    assert await tree.journal() == before


async def test_what_is_missing_on_the_path_is_made(tree) -> None:
    await tree.mkfile("f", "/a/b/f.txt")
    assert (await tree.node("f")).path == "/a/b/f.txt"
    await tree.mkfile("g", "/a/b/g.txt")
    assert set(await tree.names((await tree.resolve("/a/b")).id)) == {"f.txt", "g.txt"}


async def test_a_taken_name_or_id_is_a_conflict_and_nothing_is_made(tree) -> None:
    await tree.mkfile("one", "/name")
    await tree.mkdir("dir", "/dir")
    for file_id, path, error in (
        ("two", "/name", NameTakenError),
        ("one", "/other", IdTakenError),
        ("one", "/new/name", IdTakenError),
        ("dir", "/other", IdTakenError),
        ("two", "/dir", NameTakenError),
        ("dir", "/dir", IdTakenError),
        ("two", "/name/below", NotADirectoryInTheWayError),
    ):
        with pytest.raises(error):
            await tree.mkfile(file_id, path)
    assert await tree.names() == {"name": "one", "dir": "dir"}


async def test_the_id_of_a_deleted_file_is_in_use(tree) -> None:
    await tree.mkfile("f", "/f")
    await tree.put_record("f", state=DELETED)
    with pytest.raises(IdTakenError):
        await tree.mkfile("f", "/f")


async def test_metadata_of_a_directory_or_of_nothing_is_not_found(tree) -> None:
    await tree.mkdir("d", "/d")
    for unknown in ("d", "nothing", tree.root):
        with pytest.raises(NotFoundError):
            await tree.metadata(unknown)


async def test_an_older_version_is_told_while_it_is_kept(tree) -> None:
    await tree.mkfile("f", "/f")
    digest = hashlib.sha256(b"x").digest()
    await tree.put_record("f", version=3, size=30, digest=digest, attrs={"mode": 0o644})

    manifest = Manifest(1, 20, digest, 1000, "u", {"mode": 0o600}, 0)
    await rewrite(tree.store, "ns", {keys.manifest("ns", "f", 2): manifest})
    kept = await tree.metadata("f", 2)
    assert (kept.version, kept.size, kept.modified, kept.attrs) == (
        2,
        20,
        "1970-01-01T00:00:01.000Z",
        {"mode": 0o600},
    )
    assert kept.hash == "sha256_" + digest.hex()
    assert (await tree.metadata("f", 3)).size == (await tree.metadata("f")).size == 30
    for dropped in (0, 1):
        with pytest.raises(GoneError):
            await tree.metadata("f", dropped)
    with pytest.raises(NotFoundError):
        await tree.metadata("f", 4)


def test_a_place_is_given_one_way() -> None:
    assert parse_place("p", ("n",), None, "root:ns") == ("p", ("n",))
    assert parse_place(None, None, ("a", "b"), "root:ns") == ("root:ns", ("a", "b"))
    assert parse_place("p", None, ("a",), "root:ns") == ("p", ("a",))
    for parent, name, path in (
        (None, None, None),
        ("p", ("n",), ("a",)),
        (None, ("n",), None),
        ("p", None, ()),
    ):
        with pytest.raises(InvalidFieldError):
            parse_place(parent, name, path, "root:ns")
