"""Files of very many chunks, and batches of very many files, within the limits of a real etcd."""

import secrets
from collections.abc import AsyncIterator

import pytest
from namespace_checks import check_namespace
from upload_bed import Bed, commit_of, entry, hash_of, make_cluster

from moorage_nodes.metadata.l1.commit import MAX_PLAN_NAMES
from moorage_nodes.metadata.l1.uploads import FileUpdate
from moorage_nodes.metadata.records import INLINE_ENTRIES, SEGMENT_ENTRIES
from moorage_nodes.peer_api import MAX_CALL_CHUNKS
from moorage_nodes.stores.etcd import EtcdStore

LONG = 3 * SEGMENT_ENTRIES + 1


@pytest.fixture
async def bed(etcd_endpoint: str) -> AsyncIterator[Bed]:
    store = EtcdStore.open([etcd_endpoint], prefix=f"/long-{secrets.token_hex(6)}/")
    await make_cluster(store)
    yield Bed(store)
    await store.close()


def name_of(number: int) -> str:
    """As long as a name may be."""
    return f"{number:0128}"


async def store_all(bed: Bed, upload: str, pairs: list[tuple[str | None, bytes]]) -> None:
    for start in range(0, len(pairs), MAX_CALL_CHUNKS):
        await bed.store_chunks(upload, pairs[start : start + MAX_CALL_CHUNKS])


async def test_a_long_file_of_long_names_is_stored_changed_and_listed(bed: Bed):
    parts = [f"{number};".encode() for number in range(LONG)]
    begun = await bed.begin("f")
    await store_all(bed, begun.id, [(name_of(n), part) for n, part in enumerate(parts)])
    assert await bed.commit(begun.id, "f", 1) == 1
    assert await bed.listing("f") == [name_of(number) for number in range(LONG)]
    begun = await bed.begin("f", 1)
    assert begun.required == [name_of(number) for number in range(LONG)]
    await bed.store_chunks(begun.id, {name_of(7): b"changed;", "tail": b"end"})
    assert await bed.commit(begun.id, "f", 2) == 2
    assert await bed.read("f") == b"".join([*parts[:7], b"changed;", *parts[8:], b"end"])
    assert await bed.read("f", 1) == b"".join(parts)
    await check_namespace(bed.store)


async def test_a_planned_long_file_is_copied_without_storing(bed: Bed):
    parts = [f"{number};".encode() for number in range(LONG)]
    begun = await bed.begin("f", planned=[entry(part) for part in parts])
    assert begun.required == [hash_of(part) for part in parts]
    await store_all(bed, begun.id, [(None, part) for part in parts])
    assert await bed.commit(begun.id, "f", 1, [hash_of(part) for part in parts]) == 1
    begun = await bed.begin("g", planned=[entry(part, name_of(n)) for n, part in enumerate(parts)])
    assert begun.required == []
    assert await bed.commit(begun.id, "g", 1) == 1
    assert await bed.read("g") == b"".join(parts)
    await check_namespace(bed.store)


async def test_the_largest_commit_that_is_one_transaction(bed: Bed):
    """As many names, as long as may be, as a plan binds itself."""
    pairs = [(name_of(number), b"%d" % number) for number in range(MAX_PLAN_NAMES)]
    begun = await bed.begin("f")
    await store_all(bed, begun.id, pairs)
    assert await bed.commit(begun.id, "f", 1) == 1
    assert await bed.listing("f") == [name for name, _ in pairs]
    await check_namespace(bed.store)


async def test_a_batch_of_a_thousand_files_with_long_ids_and_names(bed: Bed):
    """Every record as large as it may be, and a few files as large as a plan takes."""
    files = [f"{number:0128}" for number in range(1000)]
    counts = [INLINE_ENTRIES if number % 250 == 1 else 3 for number in range(1000)]
    updates = [
        FileUpdate(
            each,
            0,
            [entry(f"{n}.{part}".encode(), name_of(part)) for part in range(counts[n])],
            name=f"{n:0255}",
        )
        for n, each in enumerate(files)
    ]
    begun = await bed.begin_batch(*updates)
    pairs = [(None, f"{n}.{part}".encode()) for n in range(1000) for part in range(counts[n])]
    await store_all(bed, begun.upload_id, pairs)
    assert await bed.commit_batch(begun.upload_id, *(commit_of(each, 1) for each in files)) == [1] * 1000
    assert await bed.read(files[320]) == b"320.0320.1320.2"
    assert (await bed.manifest(files[251])).count == INLINE_ENTRIES
    await check_namespace(bed.store)
