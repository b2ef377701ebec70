import asyncio

import msgspec
import pytest
from rewriting import rewrite
from upload_bed import NAMESPACE, Bed, digest_of, entry, hash_of

from moorage.core.errors import (
    ConflictError,
    DamagedTreeError,
    EmptyCommitError,
    GoneError,
    IdempotencyKeyReusedError,
    InvalidFieldError,
    InvalidVersionError,
    MissingChunksError,
    NameTakenError,
    NotFoundError,
    PendingDeletionError,
    UploadEndedError,
)
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.moves import Move, plan_move
from moorage_nodes.metadata.l1.repeats import parse_repeat
from moorage_nodes.metadata.records import (
    CHUNK_CONDEMNED,
    CHUNK_DAMAGED,
    CHUNK_LIVE,
    CHUNK_SOFT_DELETED,
    DELETED,
    FILE,
    LIVE,
    PENDING_DELETION,
    Head,
    JournalEntry,
)
from moorage_nodes.stores.contracts import Delete, Put, Txn


async def put(bed: Bed, key: bytes, record: object) -> None:
    await rewrite(bed.store, NAMESPACE, {key: record})


async def mark(bed: Bed, data: bytes, state: int) -> None:
    await put(
        bed,
        keys.chunk(NAMESPACE, digest_of(data)),
        msgspec.structs.replace(await bed.chunk(data), state=state),
    )


async def collect(bed: Bed, data: bytes) -> None:
    """Remove a chunk's record as the collector does: the generation of the head moves with it."""
    head = await bed.store.get(keys.head(NAMESPACE))
    moved = records.decode(Head, head.value)
    moved = msgspec.structs.replace(moved, generation=moved.generation + 1)
    writes = (
        Delete(keys.chunk(NAMESPACE, digest_of(data))),
        Put(keys.head(NAMESPACE), records.encode(moved)),
    )
    await bed.store.transact(Txn(then=writes))


# --- what a commit makes


async def test_a_new_file_comes_into_being_with_its_first_version(bed: Bed):
    begun = await bed.begin("f", name="photo.jpg")
    await bed.store_chunks(begun.id, {"a": b"one", "b": b"three"})
    bed.time += 5
    assert await bed.commit(begun.id, "f", 1, mtime="t", mode=0o600) == 1
    node, manifest = await bed.node("f"), await bed.manifest("f", 1)
    assert (node.kind, node.parent, node.name, node.state) == (FILE, "root:ns", "photo.jpg", LIVE)
    assert (node.version, node.size, node.meta_version) == (1, 8, 0)
    assert node.digest == manifest.digest == digest_of(digest_of(b"one") + digest_of(b"three"))
    assert node.attrs == manifest.attrs == {"mtime": "t", "mode": 0o600}
    assert node.modified == manifest.modified == int(bed.time * 1000)
    assert (manifest.upload, manifest.size, manifest.count) == (begun.id, 8, 2)
    assert await bed.journal() == [JournalEntry(1, "commit", "f", FILE, "root:ns", "photo.jpg", 1, LIVE)]


async def test_nothing_is_left_of_an_upload_once_it_is_committed(bed: Bed):
    begun = await bed.begin("f")
    await bed.store_chunks(begun.id, {"a": b"1"})
    await bed.store_chunks(begun.id, {"b": b"2"})
    await bed.commit(begun.id, "f", 1)
    assert await bed.open_uploads() == {}
    assert await bed.stored_keys(begun.id) == 0


async def test_versions_rise_by_one_and_old_manifests_stay(bed: Bed):
    for version in range(5):
        await bed.write("f", version, {"a": str(version).encode()})
    assert [await bed.read("f", version) for version in range(1, 6)] == [b"0", b"1", b"2", b"3", b"4"]
    assert [entry.version for entry in await bed.journal()] == [1, 2, 3, 4, 5]


async def test_a_version_without_attrs_has_none(bed: Bed):
    begun = await bed.begin("f", planned=[])
    await bed.commit(begun.id, "f", 1, mtime="t")
    begun = await bed.begin("f", 1, planned=[])
    await bed.commit(begun.id, "f", 2)
    assert (await bed.node("f")).attrs == {}
    assert (await bed.manifest("f", 1)).attrs == {"mtime": "t"}


async def test_a_file_made_beforehand_keeps_its_place(bed: Bed, tree):
    tree.engine = bed.engine
    await tree.mkdir("dir", "/dir")
    await tree.mkfile("f", "/name", "dir")
    await bed.write("f", 0, {"a": b"1"})
    node = await bed.node("f")
    assert (node.parent, node.name, node.version) == ("dir", "name", 1)
    assert await tree.names("dir") == {"name": "f"}


async def test_a_file_that_was_moved_meanwhile_is_committed_where_it_is(bed: Bed, tree):
    tree.engine = bed.engine
    await tree.mkdir("dir", "/dir")
    await bed.write("f", 0, {"a": b"1"})
    begun = await bed.begin("f", 1)
    await bed.store_chunks(begun.id, {"a": b"2"})
    await bed.engine.change(NAMESPACE, lambda view: plan_move(view, Move("f", "dir", "moved")))
    assert await bed.commit(begun.id, "f", 2) == 2
    node = await bed.node("f")
    assert (node.parent, node.name, node.meta_version) == ("dir", "moved", 1)


# --- which chunks


async def test_a_planned_manifest_is_the_new_version(bed: Bed):
    await bed.write("f", 0, {"a": b"1", "b": b"2"})
    begun = await bed.begin("f", 1, planned=[entry(b"3", "c"), entry(b"1", "a"), entry(b"3", "c")])
    assert begun.required == ["c"]
    await bed.store_chunks(begun.id, {"c": b"3"})
    await bed.commit(begun.id, "f", 2)
    assert await bed.read("f") == b"313"
    assert await bed.listing("f") == ["c", "a", "c"]


async def test_named_chunks_append_shrink_and_reorder(bed: Bed):
    await bed.write("f", 0, {"a": b"1", "b": b"2"})
    for version, (stored, ids, expected) in enumerate(
        [
            ({"c": b"3"}, ["a", "b", "c"], b"123"),
            ({}, ["c", "a"], b"31"),
            ({"a": b"4"}, ["a", hash_of(b"2"), "a"], b"424"),
            ({}, [], b""),
        ],
        start=1,
    ):
        begun = await bed.begin("f", version)
        if stored:
            await bed.store_chunks(begun.id, stored)
        await bed.commit(begun.id, "f", version + 1, ids)
        assert await bed.read("f") == expected


async def test_a_file_appends_to_its_own_chunks_though_another_took_their_names(bed: Bed):
    await bed.write("f", 0, {"chunk_1": b"mine 1,", "chunk_2": b"mine 2,"})
    await bed.write("g", 0, {"chunk_1": b"other 1,", "chunk_2": b"other 2,"})
    begun = await bed.begin("f", 1)
    await bed.store_chunks(begun.id, {"chunk_3": b"mine 3"})
    await bed.commit(begun.id, "f", 2, ["chunk_1", "chunk_2", "chunk_3"])
    assert await bed.read("f") == b"mine 1,mine 2,mine 3"


async def test_a_name_of_another_file_means_what_it_means_now(bed: Bed):
    await bed.write("f", 0, {"shared": b"old"})
    await bed.write("f", 1, {"shared": b"new"})
    begun = await bed.begin("g")
    await bed.commit(begun.id, "g", 1, ["shared"])
    assert await bed.read("g") == b"new"
    assert (await bed.manifest("g")).size == 3


async def test_chunks_are_ordered_by_call_accepted_then_by_place(bed: Bed):
    bed.calls = iter(["call3", "call1", "call2"])
    begun = await bed.begin("f")
    for chunks in ({"z": b"1", "y": b"2"}, {"x": b"3"}, {"z": b"4", "a": b"5"}):
        await bed.store_chunks(begun.id, chunks)
    await bed.commit(begun.id, "f", 1)
    assert await bed.read("f") == b"4235"


async def test_nothing_stored_and_nothing_named_is_refused(bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    begun = await bed.begin("f", 1)
    with pytest.raises(EmptyCommitError):
        await bed.commit(begun.id, "f", 2)
    assert await bed.read("f") == b"1"


async def test_empty_chunks_have_no_bytes_and_stay(bed: Bed):
    begun = await bed.begin("f")
    await bed.store_chunks(begun.id, {"a": b"", "b": b"x"})
    await bed.commit(begun.id, "f", 1)
    assert (await bed.manifest("f")).count == 2
    assert await bed.read("f") == b"x"


# --- refusals


@pytest.mark.parametrize("wrong", [0, 1, 3, 2**53 - 1])
async def test_the_new_version_must_be_the_base_and_one(bed: Bed, wrong: int):
    await bed.write("f", 0, {"a": b"1"})
    begun = await bed.begin("f", 1)
    await bed.store_chunks(begun.id, {"a": b"2"})
    with pytest.raises(InvalidVersionError):
        await bed.commit(begun.id, "f", wrong)
    assert await bed.commit(begun.id, "f", 2) == 2


async def test_of_two_uploads_on_one_base_one_wins(bed: Bed, other_bed: Bed):
    for base in range(30):
        uploads = []
        for each in (bed, other_bed):
            begun = await each.begin("f", base)
            await each.store_chunks(begun.id, {"a": f"{each.seed} on {base}".encode()})
            uploads.append(begun.id)
        results = await asyncio.gather(
            bed.commit(uploads[0], "f", base + 1),
            other_bed.commit(uploads[1], "f", base + 1),
            return_exceptions=True,
        )
        (lost,) = [each for each in results if isinstance(each, ConflictError)]
        won = results.index(base + 1)
        assert lost.server_version == base + 1
        assert await bed.read("f") == f"{won + 1} on {base}".encode()
    assert [each.version for each in await bed.journal()] == list(range(1, 31))


async def test_a_lost_race_leaves_the_upload_open_and_the_file_alone(bed: Bed):
    first = await bed.begin("f")
    await bed.store_chunks(first.id, {"a": b"1"})
    await bed.write("f", 0, {"a": b"2"})
    with pytest.raises(ConflictError):
        await bed.commit(first.id, "f", 1)
    assert list(await bed.open_uploads()) == [first.id]
    assert await bed.read("f") == b"2"


async def test_chunks_that_are_not_stored_are_named_and_may_follow(bed: Bed):
    begun = await bed.begin("f", planned=[entry(b"1"), entry(b"2", "n"), entry(b"3")])
    await bed.store_chunks(begun.id, {None: b"1"})
    with pytest.raises(MissingChunksError) as refusal:
        await bed.commit(begun.id, "f", 1)
    assert refusal.value.extra["missing_chunks"] == ["n", hash_of(b"3")]
    assert await bed.node("f") is None
    await bed.store_chunks(begun.id, {"n": b"2", None: b"3"})
    assert await bed.commit(begun.id, "f", 1) == 1


async def test_unknown_names_are_missing_chunks(bed: Bed):
    begun = await bed.begin("f")
    with pytest.raises(MissingChunksError) as refusal:
        await bed.commit(begun.id, "f", 1, ["nobody", hash_of(b"x")])
    assert refusal.value.extra["missing_chunks"] == ["nobody", hash_of(b"x")]


async def test_a_planned_size_that_is_not_what_was_stored_is_refused(bed: Bed):
    begun = await bed.begin("f", planned=[(None, digest_of(b"abc"), 4)])
    await bed.store_chunks(begun.id, {None: b"abc"})
    with pytest.raises(InvalidFieldError, match="has 3 bytes, not 4"):
        await bed.commit(begun.id, "f", 1)


async def test_a_name_taken_meanwhile_is_a_conflict(bed: Bed, other_bed: Bed):
    begun = await bed.begin("f", name="prize")
    await bed.store_chunks(begun.id, {"a": b"1"})
    other = await other_bed.begin("g", name="prize")
    await other_bed.store_chunks(other.id, {"a": b"2"})
    await other_bed.commit(other.id, "g", 1)
    with pytest.raises(NameTakenError):
        await bed.commit(begun.id, "f", 1)
    assert await bed.node("f") is None


async def test_a_file_made_meanwhile_at_version_zero_is_the_one(bed: Bed, tree):
    tree.engine = bed.engine
    begun = await bed.begin("f", name="here")
    await bed.store_chunks(begun.id, {"a": b"1"})
    await tree.mkfile("f", "/there")
    assert await bed.commit(begun.id, "f", 1) == 1
    assert await tree.names() == {"there": "f"}


@pytest.mark.parametrize(("state", "error"), [(PENDING_DELETION, PendingDeletionError), (DELETED, GoneError)])
async def test_a_file_deleted_meanwhile_is_not_committed(bed: Bed, state: int, error: type):
    await bed.write("f", 0, {"a": b"1"})
    begun = await bed.begin("f", 1)
    await bed.store_chunks(begun.id, {"a": b"2"})
    await put(bed, keys.node(NAMESPACE, "f"), msgspec.structs.replace(await bed.node("f"), state=state))
    with pytest.raises(error):
        await bed.commit(begun.id, "f", 2)


async def test_a_file_below_a_directory_deleted_meanwhile_is_not_committed(bed: Bed, tree):
    tree.engine = bed.engine
    await tree.mkdir("dir", "/dir")
    begun = await bed.begin("f", parent="dir")
    await bed.store_chunks(begun.id, {"a": b"2"})
    await tree.put_record("dir", state=PENDING_DELETION)
    with pytest.raises(PendingDeletionError):
        await bed.commit(begun.id, "f", 1)


async def test_a_file_whose_record_is_gone_is_not_made_again(bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    begun = await bed.begin("f", 1)
    await bed.store_chunks(begun.id, {"a": b"2"})
    await rewrite(bed.store, NAMESPACE, {keys.node(NAMESPACE, "f"): None})
    with pytest.raises(NotFoundError):
        await bed.commit(begun.id, "f", 2)


async def test_a_file_whose_manifest_is_gone_is_damage_that_no_commit_hides(bed: Bed):
    await bed.write("f", 0, {"a": b"1", "b": b"2"})
    begun = await bed.begin("f", 1)
    await bed.store_chunks(begun.id, {"a": b"3"})
    await rewrite(bed.store, NAMESPACE, {keys.manifest(NAMESPACE, "f", 1): None})
    with pytest.raises(DamagedTreeError):
        await bed.commit(begun.id, "f", 2)
    with pytest.raises(DamagedTreeError):
        await bed.begin("f", 1)


async def test_an_upload_is_for_its_own_file(bed: Bed):
    begun = await bed.begin("f")
    await bed.store_chunks(begun.id, {"a": b"1"})
    with pytest.raises(UploadEndedError):
        await bed.commit(begun.id, "g", 1)
    assert await bed.node("g") is None


async def test_an_upload_that_never_was_has_ended(bed: Bed):
    with pytest.raises(UploadEndedError):
        await bed.commit("f" + "0" * 32, "f", 1)


# --- the same commit again


async def test_the_same_commit_again_answers_the_same(bed: Bed, other_bed: Bed):
    begun = await bed.begin("f")
    await bed.store_chunks(begun.id, {"a": b"1"})
    assert await bed.commit(begun.id, "f", 1) == 1
    await bed.write("f", 1, {"a": b"2"})
    for each in (bed, other_bed):
        assert await each.commit(begun.id, "f", 1) == 1
    assert await bed.read("f") == b"2"
    assert len(await bed.journal()) == 2


async def test_one_commit_asked_for_many_times_at_once_happens_once(bed: Bed, other_bed: Bed):
    begun = await bed.begin("f")
    await bed.store_chunks(begun.id, {"a": b"1"})
    results = await asyncio.gather(*((bed, other_bed)[n % 2].commit(begun.id, "f", 1) for n in range(20)))
    assert results == [1] * 20
    assert len(await bed.journal()) == 1


async def test_a_used_upload_commits_nothing_more(bed: Bed):
    begun = await bed.begin("f")
    await bed.store_chunks(begun.id, {"a": b"1"})
    await bed.commit(begun.id, "f", 1)
    with pytest.raises(UploadEndedError):
        await bed.commit(begun.id, "f", 2)
    assert (await bed.node("f")).version == 1


async def test_an_idempotency_key_is_in_the_journal_and_answers_the_same(bed: Bed):
    repeat = parse_repeat("key", "commit", "f", 1)
    begun = await bed.begin("f")
    await bed.store_chunks(begun.id, {"a": b"1"})
    for _ in range(2):
        assert await bed.commit(begun.id, "f", 1, repeat=repeat) == 1
    assert [each.request for each in await bed.journal()] == [repeat.key]
    with pytest.raises(IdempotencyKeyReusedError):
        await bed.commit(begun.id, "f", 1, repeat=parse_repeat("key", "commit", "f", 2))


# --- chunks and the collector


@pytest.mark.parametrize("state", [CHUNK_CONDEMNED, CHUNK_SOFT_DELETED])
async def test_a_commit_revives_the_marked_chunks_that_it_needs(bed: Bed, other_bed: Bed, state: int):
    await bed.write("f", 0, {"a": b"1", "b": b"2"})
    begun = await other_bed.begin("g", planned=[entry(b"1"), entry(b"2")])
    await mark(bed, b"1", state)
    await other_bed.commit(begun.id, "g", 1)
    assert (await bed.chunk(b"1")).state == CHUNK_LIVE


async def test_many_marked_chunks_are_revived_beforehand(bed: Bed):
    parts = [str(number).encode() for number in range(100)]
    await bed.write("f", 0, {f"c{number}": part for number, part in enumerate(parts)})
    begun = await bed.begin("g", planned=[entry(part) for part in parts])
    for part in parts[10:]:
        await mark(bed, part, CHUNK_CONDEMNED)
    assert await bed.commit(begun.id, "g", 1) == 1
    assert {(await bed.chunk(part)).state for part in parts} == {CHUNK_LIVE}
    assert await bed.read("g") == b"".join(parts)


async def test_a_revival_does_not_undo_what_was_written_in_that_moment(bed: Bed):
    """Between our look at a condemned record and our commit, its bytes are stored anew somewhere else."""
    await bed.write("f", 0, {"a": b"1"})
    begun = await bed.begin("g", planned=[entry(b"1")])
    await mark(bed, b"1", CHUNK_CONDEMNED)
    other = await bed.begin("h")
    group, raced = bed.engine._group, []

    class Racing:
        async def submit(self, txn):
            if not raced:
                raced.append(True)
                await bed.store_chunks(other.id, {None: b"1"})
            return await group.submit(txn)

    bed.engine._group = Racing()
    assert await bed.commit(begun.id, "g", 1) == 1
    chunk = await bed.chunk(b"1")
    assert chunk.state == CHUNK_LIVE
    assert chunk.object.startswith(other.id)


@pytest.mark.parametrize("gone", ["removed", "damaged"])
async def test_a_chunk_that_is_gone_is_missing_however_it_was_known(bed: Bed, gone: str):
    await bed.write("f", 0, {"a": b"1"})
    begun = await bed.begin("g", planned=[entry(b"1")])
    assert begun.required == []
    if gone == "removed":
        await collect(bed, b"1")
    else:
        await mark(bed, b"1", CHUNK_DAMAGED)
    with pytest.raises(MissingChunksError):
        await bed.commit(begun.id, "g", 1)


async def test_a_damaged_chunk_that_is_uploaded_again_is_healed_at_once(bed: Bed):
    """Also for a server that has seen the damage, while nothing moves the head."""
    await bed.write("f", 0, {"a": b"1"})
    await mark(bed, b"1", CHUNK_DAMAGED)
    begun = await bed.begin("g", planned=[entry(b"1")])
    assert begun.required == [hash_of(b"1")]
    with pytest.raises(MissingChunksError):
        await bed.commit(begun.id, "g", 1)
    await bed.store_chunks(begun.id, [(None, b"1")])
    await bed.commit(begun.id, "g", 1)
    assert (await bed.chunk(b"1")).state == CHUNK_LIVE
    assert await bed.read("g") == b"1"


async def test_chunks_of_the_version_before_need_no_look(bed: Bed):
    """The collector lets a live version keep its chunks; a damaged one must not stop work on the others."""
    await bed.write("f", 0, {"a": b"1", "b": b"2"})
    await mark(bed, b"1", CHUNK_DAMAGED)
    await bed.write("f", 1, {"b": b"3"})
    assert await bed.read("f") == b"13"
    begun = await bed.begin("f", 2)
    await bed.commit(begun.id, "f", 3, [hash_of(b"1")])
    assert await bed.read("f") == b"1"


# --- names


async def test_a_name_means_the_bytes_of_the_commit_that_stored_them_last(bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    await bed.write("g", 0, {"a": b"2"})
    assert await bed.meaning("a") == b"2"
    assert await bed.listing("f") == [hash_of(b"1")]
    await bed.write("f", 1, {"a": b"3"})
    assert await bed.meaning("a") == b"3"
    assert await bed.listing("g") == [hash_of(b"2")]


async def test_a_name_keeps_its_meaning_until_the_commit(bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    begun = await bed.begin("f", 1)
    await bed.store_chunks(begun.id, {"a": b"2"})
    assert await bed.meaning("a") == b"1"


async def test_a_planned_name_means_its_hash_though_nothing_was_stored(bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    await bed.write("g", 0, {"a": b"2"})
    begun = await bed.begin("f", 1, planned=[entry(b"1", "a"), entry(b"2", "b")])
    assert begun.required == []
    await bed.commit(begun.id, "f", 2)
    assert await bed.listing("f") == ["a", "b"]
    assert await bed.meaning("a") == b"1"


async def test_a_name_that_is_only_kept_or_only_named_does_not_change_its_meaning(bed: Bed):
    await bed.write("f", 0, {"a": b"1", "b": b"2"})
    await bed.write("g", 0, {"a": b"3"})
    await bed.write("f", 1, {"b": b"4"})
    assert await bed.meaning("a") == b"3"
    begun = await bed.begin("f", 2)
    await bed.commit(begun.id, "f", 3, ["a", "b"])
    assert await bed.read("f") == b"14"
    assert await bed.meaning("a") == b"3"


async def test_names_that_are_hashes_have_no_record(bed: Bed):
    begun = await bed.begin("f")
    await bed.store_chunks(begun.id, {None: b"1"})
    await bed.commit(begun.id, "f", 1)
    found, _ = await bed.store.range(b"n/ns/x/", b"n/ns/x0")
    assert found.kvs == ()
