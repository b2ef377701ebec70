import asyncio

import pytest
from rewriting import rewrite
from upload_bed import NAMESPACE, Bed, entry, hash_of

from moorage.core.errors import (
    ConflictError,
    GoneError,
    InvalidVersionError,
    NotFoundError,
    PendingDeletionError,
)
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.versions import plan_newest_version, plan_restore, read_versions
from moorage_nodes.metadata.records import INLINE_ENTRIES, PENDING_DELETION
from moorage_nodes.stores.contracts import Delete, Txn


async def restore(bed: Bed, version: int, client_version: int, file_id: str = "f") -> int:
    return await bed.engine.change(NAMESPACE, plan_restore(file_id, version, client_version))


async def versions(bed: Bed, limit: int = 50, newest: int | None = None):
    if newest is None:
        newest = await bed.engine.read(NAMESPACE, plan_newest_version("f"))
    return await read_versions(bed.store, NAMESPACE, "f", newest, limit)


async def drop(bed: Bed, version: int) -> None:
    await rewrite(bed.store, NAMESPACE, {keys.manifest(NAMESPACE, "f", version): None})


async def test_kept_versions_are_listed_newest_first(bed: Bed):
    for version in range(3):
        begun = await bed.begin("f", version, planned=[entry(b"x" * version)])
        await bed.store_chunks(begun.id, {None: b"x" * version})
        bed.time += 60
        await bed.commit(begun.id, "f", version + 1, mtime=str(version))
    entries, following = await versions(bed)
    assert [(each.version, each.size, each.attrs["mtime"]) for each in entries] == [
        (3, 2, "2"),
        (2, 1, "1"),
        (1, 0, "0"),
    ]
    assert entries[0].modified > entries[1].modified > entries[2].modified
    assert len({each.hash for each in entries}) == 3
    assert following is None


async def test_versions_come_in_pages(bed: Bed):
    for version in range(7):
        await bed.write("f", version, {"a": str(version).encode()})
    found, newest = [], 7
    while newest is not None:
        entries, newest = await versions(bed, 3, newest)
        found.append([each.version for each in entries])
    assert found == [[7, 6, 5], [4, 3, 2], [1]]


async def test_a_page_may_end_where_the_versions_do(bed: Bed):
    for version in range(4):
        await bed.write("f", version, {"a": str(version).encode()})
    entries, following = await versions(bed, 2)
    assert following == 2
    entries, following = await versions(bed, 2, following)
    assert ([each.version for each in entries], following) == ([2, 1], None)


async def test_dropped_versions_are_left_out_and_numbers_stay(bed: Bed):
    for version in range(4):
        await bed.write("f", version, {"a": str(version).encode()})
    await drop(bed, 1)
    await drop(bed, 3)
    assert [each.version for each in (await versions(bed))[0]] == [4, 2]


async def test_an_unknown_file_has_no_versions(bed: Bed):
    with pytest.raises(NotFoundError):
        await versions(bed)


async def test_a_file_without_content_has_none(bed: Bed, tree):
    tree.engine = bed.engine
    await tree.mkfile("f", "/f")
    assert await versions(bed) == ([], None)


# --- restoring


async def test_an_old_content_becomes_the_next_version(bed: Bed):
    begun = await bed.begin("f", planned=[entry(b"old", "a")])
    await bed.store_chunks(begun.id, {"a": b"old"})
    await bed.commit(begun.id, "f", 1, mtime="then")
    await bed.write("f", 1, {"a": b"newer"})
    bed.time += 60
    assert await restore(bed, 1, 2) == 3
    node = await bed.node("f")
    assert (node.version, node.size, node.attrs, node.modified) == (
        3,
        3,
        {"mtime": "then"},
        int(bed.time * 1000),
    )
    assert await bed.read("f") == b"old"
    assert await bed.read("f", 2) == b"newer"
    entry_3 = (await bed.journal())[-1]
    assert (entry_3.type, entry_3.id, entry_3.version) == ("restore", "f", 3)


async def test_a_restored_name_keeps_the_meaning_that_it_has(bed: Bed):
    await bed.write("f", 0, {"a": b"old"})
    await bed.write("f", 1, {"a": b"newer"})
    await restore(bed, 1, 2)
    assert await bed.meaning("a") == b"newer"
    assert await bed.listing("f") == [hash_of(b"old")]
    await bed.write("f", 3, {"a": b"newest"})
    assert await bed.read("f") == b"newest"


async def test_a_long_content_is_restored_without_copying_it(bed: Bed):
    parts = [f"{number};".encode() for number in range(INLINE_ENTRIES + 1)]
    begun = await bed.begin("f", planned=[entry(part) for part in parts])
    await bed.store_chunks(begun.id, [(None, part) for part in parts])
    await bed.commit(begun.id, "f", 1)
    await bed.write("f", 1, {"a": b"short"})
    await restore(bed, 1, 2)
    assert (await bed.manifest("f", 3)).segments == (await bed.manifest("f", 1)).segments
    assert await bed.read("f") == b"".join(parts)


async def test_the_newest_content_may_be_restored_too(bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    assert await restore(bed, 1, 1) == 2
    assert await bed.read("f") == b"1"


async def test_the_same_restore_again_answers_the_same(bed: Bed, other_bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    await bed.write("f", 1, {"a": b"2"})
    assert [await restore(each, 1, 2) for each in (bed, other_bed, bed)] == [3, 3, 3]
    assert len(await bed.journal()) == 3
    with pytest.raises(ConflictError):
        await restore(bed, 2, 2)
    await bed.write("f", 3, {"a": b"4"})
    with pytest.raises(ConflictError) as conflict:
        await restore(bed, 1, 2)
    assert conflict.value.server_version == 4


async def test_a_commit_that_stands_is_not_taken_for_a_restore(bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    await bed.write("f", 1, {"a": b"2"})
    with pytest.raises(ConflictError):
        await restore(bed, 1, 1)


async def test_restores_asked_for_at_once_happen_once(bed: Bed, other_bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    await bed.write("f", 1, {"a": b"2"})
    assert await asyncio.gather(*(restore((bed, other_bed)[n % 2], 1, 2) for n in range(10))) == [3] * 10
    assert (await bed.node("f")).version == 3


async def test_restores_of_versions_that_are_not_there(bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    await bed.write("f", 1, {"a": b"2"})
    await drop(bed, 1)
    with pytest.raises(GoneError):
        await restore(bed, 1, 2)
    with pytest.raises(NotFoundError):
        await restore(bed, 3, 2)
    with pytest.raises(InvalidVersionError):
        await restore(bed, 0, 2)
    with pytest.raises(NotFoundError):
        await restore(bed, 1, 1, "unknown")
    assert (await bed.node("f")).version == 2


async def test_a_file_in_deletion_is_not_restored(bed: Bed, tree):
    tree.engine = bed.engine
    await bed.write("f", 0, {"a": b"1"})
    await tree.put_record("f", state=PENDING_DELETION)
    with pytest.raises(PendingDeletionError):
        await restore(bed, 1, 1)


async def test_a_commit_goes_on_from_a_restored_version(bed: Bed):
    await bed.write("f", 0, {"a": b"1", "b": b"2"})
    await bed.write("f", 1, {"a": b"3"})
    await restore(bed, 1, 2)
    await bed.write("f", 3, {"b": b"4"})
    assert await bed.read("f") == b"14"


async def test_reading_pages_needs_no_head(bed: Bed):
    """A version dropped between two pages leaves the others as they are."""
    for version in range(4):
        await bed.write("f", version, {"a": str(version).encode()})
    _, following = await versions(bed, 2)
    await bed.store.transact(Txn(then=(Delete(keys.manifest(NAMESPACE, "f", 2)),)))
    assert [each.version for each in (await versions(bed, 2, following))[0]] == [1]
