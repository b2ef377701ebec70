"""Contents too long for a plan: many chunks, many names, many calls."""

import msgspec
import pytest
from upload_bed import NAMESPACE, Bed, digest_of, entry, hash_of

from moorage.core.errors import ConflictError, InvalidVersionError, MissingChunksError, UploadEndedError
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1 import batch as batch_module
from moorage_nodes.metadata.l1 import preparation
from moorage_nodes.metadata.l1.commit import MAX_PLAN_CALLS, MAX_PLAN_NAMES
from moorage_nodes.metadata.records import CHUNK_CONDEMNED, CHUNK_LIVE, INLINE_ENTRIES, Head
from moorage_nodes.peer_api import MAX_CALL_CHUNKS
from moorage_nodes.stores.contracts import Put, Txn

LONG = INLINE_ENTRIES + 1


def parts_of(count: int, word: str = "part") -> list[bytes]:
    return [f"{word} {number};".encode() for number in range(count)]


async def store_all(bed: Bed, upload: str, pairs: list[tuple[str | None, bytes]]) -> None:
    for start in range(0, len(pairs), MAX_CALL_CHUNKS):
        await bed.store_chunks(upload, pairs[start : start + MAX_CALL_CHUNKS])


async def save(bed: Bed, file_id: str, base: int, parts: list[bytes], names: bool = False) -> str:
    """A long form update; the id of its upload."""
    planned = [entry(part, f"chunk_{n}" if names else None) for n, part in enumerate(parts)]
    begun = await bed.begin(file_id, base, planned=planned)
    wanted = set(begun.required)
    pairs = [(name, part) for (name, _, _), part in zip(planned, parts, strict=True)]
    pairs = [each for each in pairs if (each[0] or hash_of(each[1])) in wanted]
    if pairs:
        await store_all(bed, begun.id, pairs)
    await bed.commit(begun.id, file_id, base + 1)
    return begun.id


async def segments_written(bed: Bed) -> int:
    found, _ = await bed.store.range(b"n/ns/g/", b"n/ns/g0")
    return len(found.kvs)


async def move_generation(bed: Bed) -> None:
    """As the collector does whenever it condemns or removes."""
    kv = await bed.store.get(keys.head(NAMESPACE))
    head = Head() if kv is None else records.decode(Head, kv.value)
    head = msgspec.structs.replace(head, generation=head.generation + 1)
    await bed.store.transact(Txn(then=(Put(keys.head(NAMESPACE), records.encode(head)),)))


async def test_a_long_plan_is_committed_from_its_own_segments(bed: Bed):
    upload = await save(bed, "f", 0, parts_of(LONG))
    manifest = await bed.manifest("f")
    assert (manifest.count, manifest.segments, manifest.entries) == (LONG, f"{upload}.0", [])
    assert await bed.read("f") == b"".join(parts_of(LONG))
    assert await segments_written(bed) == 1
    assert (await bed.node("f")).size == len(b"".join(parts_of(LONG)))


async def test_ids_that_say_the_plan_again_use_its_segments(bed: Bed):
    parts = parts_of(LONG)
    begun = await bed.begin("f", planned=[entry(part) for part in parts])
    await store_all(bed, begun.id, [(None, part) for part in parts])
    await bed.commit(begun.id, "f", 1, [hash_of(part) for part in parts])
    assert (await bed.manifest("f")).segments == f"{begun.id}.0"


async def test_ids_that_say_another_list_than_the_plan_get_segments_of_their_own(bed: Bed):
    parts = parts_of(LONG)
    begun = await bed.begin("f", planned=[entry(part) for part in parts])
    await store_all(bed, begun.id, [(None, part) for part in parts])
    await bed.commit(begun.id, "f", 1, [hash_of(part) for part in reversed(parts)])
    assert await bed.read("f") == b"".join(reversed(parts))


async def test_a_long_plan_may_be_committed_as_a_short_list(bed: Bed):
    parts = parts_of(LONG)
    begun = await bed.begin("f", planned=[entry(part, f"c{n}") for n, part in enumerate(parts)])
    await store_all(bed, begun.id, [("c5", parts[5])])
    await bed.commit(begun.id, "f", 1, ["c5", "c5"])
    manifest = await bed.manifest("f")
    assert (manifest.segments, manifest.entries) == ("", [entry(parts[5], "c5")] * 2)


async def test_one_chunk_of_a_long_file_is_changed_in_place(bed: Bed):
    parts = parts_of(LONG)
    await save(bed, "f", 0, parts, names=True)
    begun = await bed.begin("f", 1)
    assert begun.required == [f"chunk_{number}" for number in range(LONG)]
    await bed.store_chunks(begun.id, {"chunk_700": b"changed", "tail": b"end"})
    await bed.commit(begun.id, "f", 2)
    parts[700] = b"changed"
    assert await bed.read("f") == b"".join([*parts, b"end"])
    assert await bed.read("f", 1) == b"".join(parts_of(LONG))


async def test_a_file_stored_in_very_many_calls_is_in_their_order(bed: Bed):
    bed.calls = (f"call{number:04}" for number in reversed(range(1000)))
    begun = await bed.begin("f")
    parts = parts_of(MAX_PLAN_CALLS + 5)
    for number, part in enumerate(parts):
        await bed.store_chunks(begun.id, {f"chunk_{number}": part})
    await bed.commit(begun.id, "f", 1)
    assert await bed.read("f") == b"".join(parts)
    assert (await bed.manifest("f")).segments == ""
    assert await bed.stored_keys(begun.id) == 0


async def test_more_names_than_a_transaction_holds_mean_the_file_from_its_commit_on(bed: Bed):
    old, new = parts_of(MAX_PLAN_NAMES + 500, "old"), parts_of(MAX_PLAN_NAMES + 500, "new")
    await save(bed, "f", 0, old, names=True)
    names = [f"chunk_{number}" for number in range(len(old))]
    assert await bed.listing("f") == names
    await save(bed, "g", 0, new, names=True)
    assert await bed.listing("g") == names
    assert await bed.listing("f") == [hash_of(part) for part in old]
    await bed.write("h", 0, {"chunk_3": b"newest"})
    assert await bed.meaning("chunk_3") == b"newest"
    assert await bed.meaning("chunk_4") == new[4]


async def test_names_mean_the_old_bytes_until_a_long_commit_is_done(bed: Bed, monkeypatch):
    await bed.write("f", 0, {"chunk_1": b"old"})
    parts = parts_of(MAX_PLAN_NAMES + 500)
    seen = []
    prepare = preparation.prepare_commit

    async def watching(*arguments):
        prepared = await prepare(*arguments)
        seen.append((prepared.binding, await bed.meaning("chunk_1"), await bed.listing("f")))
        return prepared

    monkeypatch.setattr(batch_module, "prepare_commit", watching)
    await save(bed, "g", 0, parts, names=True)
    ((binding, meaning, listing),) = seen
    assert binding
    assert (meaning, listing) == (b"old", ["chunk_1"])
    assert await bed.meaning("chunk_1") == parts[1]


async def test_missing_chunks_of_a_long_file_are_named(bed: Bed):
    parts = parts_of(LONG)
    begun = await bed.begin("f", planned=[entry(part) for part in parts])
    await store_all(bed, begun.id, [(None, part) for part in parts[2:]])
    with pytest.raises(MissingChunksError) as refusal:
        await bed.commit(begun.id, "f", 1)
    assert refusal.value.extra["missing_chunks"] == [hash_of(part) for part in parts[:2]]


async def test_marked_chunks_of_a_long_file_are_revived(bed: Bed):
    parts = parts_of(LONG)
    await save(bed, "f", 0, parts)
    begun = await bed.begin("g", planned=[entry(part) for part in parts])

    def condemn(view) -> None:
        for part in parts[:100]:
            key = keys.chunk(NAMESPACE, digest_of(part))
            (data,) = view.present([key])
            chunk = records.decode(records.Chunk, data)
            view.put(key, msgspec.structs.replace(chunk, state=CHUNK_CONDEMNED))

    await bed.engine.change(NAMESPACE, condemn)
    await bed.commit(begun.id, "g", 1)
    assert {(await bed.chunk(part)).state for part in parts} == {CHUNK_LIVE}


async def test_what_was_checked_is_checked_again_when_the_collector_was_there(bed: Bed, monkeypatch):
    prepare, count = preparation.prepare_commit, []

    async def racing(*arguments):
        prepared = await prepare(*arguments)
        count.append(1)
        if len(count) < 3:
            await move_generation(bed)
        return prepared

    monkeypatch.setattr(batch_module, "prepare_commit", racing)
    await save(bed, "f", 0, parts_of(LONG))
    assert len(count) == 3
    assert await bed.read("f") == b"".join(parts_of(LONG))


async def test_a_chunk_collected_after_the_check_is_missing(bed: Bed, monkeypatch):
    parts = parts_of(LONG)
    begun = await bed.begin("f", planned=[entry(part) for part in parts])
    await store_all(bed, begun.id, [(None, part) for part in parts])
    prepare = preparation.prepare_commit

    async def racing(*arguments):
        prepared = await prepare(*arguments)
        key = keys.chunk(NAMESPACE, digest_of(parts[9]))
        await bed.engine.change(NAMESPACE, lambda view: view.delete(key))
        await move_generation(bed)
        return prepared

    monkeypatch.setattr(batch_module, "prepare_commit", racing)
    with pytest.raises(MissingChunksError) as refusal:
        await bed.commit(begun.id, "f", 1)
    assert refusal.value.extra["missing_chunks"] == [hash_of(parts[9])]


async def test_a_long_commit_may_be_refused_like_any(bed: Bed):
    begun = await bed.begin("f", planned=[entry(part) for part in parts_of(LONG)])
    await store_all(bed, begun.id, [(None, part) for part in parts_of(LONG)])
    with pytest.raises(InvalidVersionError):
        await bed.commit(begun.id, "f", 2)
    await bed.write("f", 0, {"a": b"1"})
    with pytest.raises(ConflictError):
        await bed.commit(begun.id, "f", 1)


async def test_a_long_commit_again_answers_the_same(bed: Bed, other_bed: Bed):
    upload = await save(bed, "f", 0, parts_of(LONG))
    for each in (bed, other_bed):
        assert await each.commit(upload, "f", 1) == 1
    with pytest.raises(UploadEndedError):
        await bed.commit(upload, "f", 2)


@pytest.mark.parametrize("names", [False, True])
async def test_a_long_commit_of_other_chunks_under_a_spent_token_is_a_conflict(bed: Bed, names: bool):
    parts = parts_of(LONG)
    upload = await save(bed, "f", 0, parts, names)
    same = [f"chunk_{number}" if names else hash_of(part) for number, part in enumerate(parts)]
    assert await bed.commit(upload, "f", 1, same) == 1
    with pytest.raises(ConflictError) as conflict:
        await bed.commit(upload, "f", 1, same[1:])
    assert conflict.value.server_version == 1


async def test_a_version_may_go_from_long_to_short_and_back(bed: Bed):
    long, short = parts_of(LONG), parts_of(3, "short")
    for base, parts in enumerate([long, short, long, short]):
        await save(bed, "f", base, parts)
        assert await bed.read("f") == b"".join(parts)


async def test_a_commit_whose_double_was_faster_while_it_was_prepared_answers_as_that_did(
    bed: Bed, other_bed: Bed, monkeypatch: pytest.MonkeyPatch
):
    """What was stored goes with the upload: that it is not there any more is no refusal."""
    parts = parts_of(LONG)
    begun = await bed.begin("f")
    await store_all(bed, begun.id, [(None, part) for part in parts])
    read_stored = preparation._read_stored
    versions = []

    async def read_stored_later(server, namespace, upload_id):
        if server is bed.server:
            versions.append(await other_bed.commit(begun.id, "f", 1))
        return await read_stored(server, namespace, upload_id)

    monkeypatch.setattr(preparation, "_read_stored", read_stored_later)
    assert await bed.commit(begun.id, "f", 1) == 1
    assert versions == [1]
    assert await bed.read("f") == b"".join(parts)
