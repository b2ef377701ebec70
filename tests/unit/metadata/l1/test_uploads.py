import asyncio

import msgspec
import pytest
from rewriting import rewrite
from upload_bed import NAMESPACE, Bed, digest_of, entry, hash_of

from moorage.core.errors import (
    ConflictError,
    GoneError,
    IdTakenError,
    InvalidFieldError,
    NameTakenError,
    NotADirectoryInTheWayError,
    NotFoundError,
    PendingDeletionError,
    StoreUnavailableError,
    UploadEndedError,
)
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.segments import read_segments
from moorage_nodes.metadata.l1.uploads import FileUpdate
from moorage_nodes.metadata.records import (
    CHUNK_CONDEMNED,
    CHUNK_DAMAGED,
    CHUNK_SOFT_DELETED,
    DELETED,
    DIRECTORY,
    INLINE_ENTRIES,
    LIVE,
    PENDING_DELETION,
    Child,
    Node,
)
from moorage_nodes.stores.contracts import Put, Txn


async def put(bed: Bed, key: bytes, record: object) -> None:
    await rewrite(bed.store, NAMESPACE, {key: record})


async def mark(bed: Bed, data: bytes, state: int) -> None:
    chunk = msgspec.structs.replace(await bed.chunk(data), state=state)
    await put(bed, keys.chunk(NAMESPACE, digest_of(data)), chunk)


async def make_directory(bed: Bed, node_id: str, state: int = LIVE) -> None:
    await put(bed, keys.node(NAMESPACE, node_id), Node(1, DIRECTORY, "root:ns", node_id, state, 0, 0))
    if state == LIVE:
        await put(bed, keys.child(NAMESPACE, "root:ns", node_id), Child(1, DIRECTORY, node_id))


# --- the version check


async def test_a_new_file_asks_for_nothing_and_is_not_there_before_its_commit(bed: Bed):
    begun = await bed.begin("new")
    assert begun.required == []
    assert await bed.node("new") is None
    assert await bed.journal() == []


@pytest.mark.parametrize("base", [0, 1, 3, 2**53 - 1])
async def test_another_version_than_the_newest_is_a_conflict(bed: Bed, base: int):
    await bed.write("f", 0, {"a": b"1"})
    await bed.write("f", 1, {"a": b"2"})
    with pytest.raises(ConflictError) as conflict:
        await bed.begin("f", base)
    assert conflict.value.as_answer()["status"] == "conflict"
    assert conflict.value.server_version == 2


async def test_an_unknown_file_is_made_from_version_zero_only(bed: Bed):
    with pytest.raises(NotFoundError):
        await bed.begin("new", 1)


async def test_the_version_is_the_newest_whichever_process_committed_it(bed: Bed, other_bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    await other_bed.begin("f", 1)
    for version in range(1, 5):
        await bed.write("f", version, {"a": str(version).encode()})
        with pytest.raises(ConflictError):
            await other_bed.begin("f", version)
        await other_bed.begin("f", version + 1)


async def test_a_directory_is_no_file(bed: Bed):
    await make_directory(bed, "dir")
    for node_id in ("dir", "root:ns"):
        with pytest.raises(IdTakenError):
            await bed.begin(node_id)
        with pytest.raises(NotFoundError):
            await bed.begin(node_id, 1)


async def test_the_place_of_a_new_file_is_looked_at_at_once(bed: Bed):
    await bed.write("there", 0, {"a": b"1"})
    with pytest.raises(NameTakenError):
        await bed.begin("new", name="there")
    with pytest.raises(NotFoundError):
        await bed.begin("new", parent="nowhere")
    with pytest.raises(NotADirectoryInTheWayError):
        await bed.begin("new", parent="there")
    with pytest.raises(InvalidFieldError):
        await bed.begin("root:somebody")


@pytest.mark.parametrize(("state", "error"), [(PENDING_DELETION, PendingDeletionError), (DELETED, GoneError)])
async def test_a_deleted_file_is_not_updated(bed: Bed, state: int, error: type):
    await bed.write("f", 0, {"a": b"1"})
    await put(bed, keys.node(NAMESPACE, "f"), msgspec.structs.replace(await bed.node("f"), state=state))
    with pytest.raises(error):
        await bed.begin("f", 1)


async def test_a_pending_deletion_names_the_ways_out(bed: Bed):
    await make_directory(bed, "dir", PENDING_DELETION)
    with pytest.raises(PendingDeletionError) as refusal:
        await bed.begin("new", parent="dir")
    assert refusal.value.extra["ways_out"] == ["undelete", "save_as"]


# --- what is required


async def test_the_short_form_asks_for_the_current_list(bed: Bed):
    await bed.write("f", 0, {"a": b"1", "b": b"2", "c": b"3"})
    assert (await bed.begin("f", 1)).required == ["a", "b", "c"]


async def test_a_name_that_has_moved_on_is_asked_for_by_its_hash(bed: Bed):
    await bed.write("f", 0, {"a": b"1", "b": b"2"})
    await bed.write("g", 0, {"a": b"other"})
    assert (await bed.begin("f", 1)).required == [hash_of(b"1"), "b"]
    assert (await bed.begin("g", 1)).required == ["a"]


async def test_the_long_form_asks_for_what_the_namespace_does_not_hold(bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    planned = [entry(b"2", "x"), entry(b"1", "y"), entry(b"3"), entry(b"2", "z"), entry(b"3")]
    assert (await bed.begin("g", planned=planned)).required == ["x", hash_of(b"3")]


@pytest.mark.parametrize(
    ("state", "required"),
    [(CHUNK_SOFT_DELETED, []), (CHUNK_CONDEMNED, [hash_of(b"1")]), (CHUNK_DAMAGED, [hash_of(b"1")])],
)
async def test_what_may_be_gone_or_damaged_is_asked_for_again(bed: Bed, state: int, required: list[str]):
    await bed.write("f", 0, {"a": b"1"})
    await mark(bed, b"1", state)
    assert (await bed.begin("g", planned=[entry(b"1")])).required == required


async def test_a_size_that_is_not_the_held_chunks_is_refused(bed: Bed):
    await bed.write("f", 0, {"a": b"1"})
    with pytest.raises(InvalidFieldError) as refusal:
        await bed.begin("g", planned=[entry(b"2"), (None, digest_of(b"1"), 7)])
    assert refusal.value.extra["field"] == "chunks[1].size"


# --- the record


async def test_the_plan_in_the_record_pins_its_chunks(bed: Bed):
    begun = await bed.begin("f", planned=[entry(b"1"), entry(b"2", "n")], parent="root:ns", name="name")
    upload = (await bed.open_uploads())[begun.id]
    (file,) = upload.files
    assert (upload.user, upload.pool) == (NAMESPACE, "p1")
    assert (file.file_id, file.base, file.parent, file.name) == ("f", 0, "root:ns", "name")
    assert (file.planned, file.count, file.entries) == (True, 2, [entry(b"1"), entry(b"2", "n")])


async def test_a_long_plan_lies_in_segments_that_were_there_before_the_record(bed: Bed):
    planned = [entry(str(number).encode()) for number in range(INLINE_ENTRIES + 1)]
    begun = await bed.begin("f", planned=planned)
    (file,) = (await bed.open_uploads())[begun.id].files
    assert (file.entries, file.count) == ([], len(planned))
    assert await read_segments(bed.store, NAMESPACE, file.segments, file.count) == planned


async def test_the_plans_of_a_large_batch_go_to_segments_until_the_record_is_small(bed: Bed):
    lists = [[entry(f"{file}.{n}".encode(), f"{n:0100}") for n in range(100)] for file in range(40)]
    begun = await bed.begin_batch(*(FileUpdate(f"f{place}", 0, each) for place, each in enumerate(lists)))
    found, _ = await bed.store.range(*keys.uploads_range(NAMESPACE))
    assert len(found.kvs[0].value) < 420_000
    for file, planned in zip((await bed.open_uploads())[begun.upload_id].files, lists, strict=True):
        if file.segments:
            assert await read_segments(bed.store, NAMESPACE, file.segments, file.count) == planned
        else:
            assert file.entries == planned


async def test_no_pool_for_new_bytes_is_said(bed: Bed):
    cluster = msgspec.structs.replace(bed.server.routing.value.clusters[0], write_pools=())
    bed.server.routing.value = msgspec.structs.replace(bed.server.routing.value, clusters=(cluster,))
    with pytest.raises(StoreUnavailableError, match="No block pool"):
        await bed.begin("f")


async def test_nothing_is_begun_on_a_restored_cluster(bed: Bed):
    await bed.begin("f")
    await bed.store.transact(Txn(then=(Put(keys.INCARNATION, b"second"),)))
    with pytest.raises(StoreUnavailableError):
        await bed.begin("g")
    assert len(await bed.open_uploads()) == 1


# --- replacing


async def test_an_update_takes_the_place_of_an_unused_upload_of_that_file(bed: Bed, other_bed: Bed):
    first = await bed.begin("f")
    second = await other_bed.begin("f")
    assert list(await bed.open_uploads()) == [second.id]
    with pytest.raises(UploadEndedError):
        await bed.store_chunks(first.id, {"a": b"1"})
    await bed.store_chunks(second.id, {"a": b"2"})
    assert await bed.commit(second.id, "f", 1) == 1


async def test_an_upload_that_stored_something_stays(bed: Bed):
    first = await bed.begin("f")
    await bed.store_chunks(first.id, {"a": b"1"})
    second = await bed.begin("f")
    assert set(await bed.open_uploads()) == {first.id, second.id}


async def test_uploads_of_other_files_stay(bed: Bed):
    first = await bed.begin("f")
    batch = await bed.begin_batch(FileUpdate("f", 0), FileUpdate("g", 0))
    again = await bed.begin_batch(FileUpdate("f", 0), FileUpdate("g", 0))
    assert batch.upload_id != again.upload_id
    assert set(await bed.open_uploads()) == {first.id, again.upload_id}


async def test_an_update_among_thousands_of_open_uploads_looks_at_its_own_only(bed: Bed):
    for number in range(300):
        begun = await bed.begin(f"f{number}")
        await bed.store_chunks(begun.id, {"a": b"1"})
    looked: list[int] = []
    inner = bed.store.transact

    async def counting(txn):
        result = await inner(txn)
        looked.extend(len(each.kvs) for each in result.results if hasattr(each, "kvs"))
        return result

    bed.store.transact = counting
    await bed.begin("f7")
    assert sum(looked) < 5


async def test_of_updates_at_once_one_upload_at_the_least_can_be_used(bed: Bed, other_bed: Bed):
    begun = await asyncio.gather(*((bed, other_bed)[n % 2].begin("f") for n in range(10)))
    left = await bed.open_uploads()
    assert left.keys() <= {each.id for each in begun}
    for upload in left:
        await bed.store_chunks(upload, {"a": b"1"})
    await bed.commit(next(iter(left)), "f", 1)


async def test_a_replacement_is_not_in_the_way_of_who_uses_the_upload_in_that_moment(bed: Bed):
    """The unused upload is used between the look at it and the write: both stay."""
    first = await bed.begin("f")
    inner, raced = bed.engine.change, []

    async def racing(namespace, plan, **options):
        if not raced:
            raced.append(True)
            upload = (await bed.open_uploads())[first.id]
            key = keys.upload(NAMESPACE, first.id)
            await bed.store.transact(Txn(then=(Put(key, records.encode(upload)),)))
        return await inner(namespace, plan, **options)

    bed.engine.change = racing
    second = await bed.begin("f")
    assert set(await bed.open_uploads()) == {first.id, second.id}


async def test_who_was_told_of_an_uploads_end_never_sees_its_version_afterwards(bed: Bed, other_bed: Bed):
    """A commit has read its upload when an `/update` ends that; then it is repeated at another server."""
    upload = (await bed.begin("f", planned=[])).id
    inner, ended = bed.engine._group.submit, []

    async def late(txn):
        if not ended:
            ended.append(True)
            await other_bed.begin("f", planned=[])
            with pytest.raises(UploadEndedError):
                await other_bed.commit(upload, "f", 1)
        return await inner(txn)

    bed.engine._group.submit = late
    with pytest.raises(UploadEndedError):
        await bed.commit(upload, "f", 1)
    assert ended


# --- batches


async def test_a_batch_is_one_upload_of_those_files_that_may_be_updated(bed: Bed):
    await bed.write("old", 0, {"a": b"1"})
    begun = await bed.begin_batch(
        FileUpdate("old", 0),
        FileUpdate("new", 0, [entry(b"1"), entry(b"2")]),
        FileUpdate("unknown", 3),
        FileUpdate("wrong", 0, [(None, digest_of(b"1"), 9)]),
        FileUpdate("homeless", 0, [], "nowhere", "n"),
    )
    conflict, new, unknown, wrong, homeless = begun.required
    assert isinstance(conflict, ConflictError)
    assert new == [hash_of(b"2")]
    assert isinstance(unknown, NotFoundError)
    assert isinstance(wrong, InvalidFieldError)
    assert isinstance(homeless, NotFoundError)
    assert [file.file_id for file in (await bed.open_uploads())[begun.upload_id].files] == ["new"]


async def test_a_batch_in_which_no_file_may_be_updated_begins_nothing(bed: Bed):
    begun = await bed.begin_batch(FileUpdate("a", 1), FileUpdate("b", 2))
    assert begun.upload_id is None
    assert await bed.open_uploads() == {}
