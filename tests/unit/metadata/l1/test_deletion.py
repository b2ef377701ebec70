"""Deleting files: the mark, what it refuses, the steps to the trash (PROTOCOL.md, Deletion)."""

import asyncio

import pytest
from namespace_checks import check_namespace
from upload_bed import NAMESPACE, Bed

from moorage.core.errors import (
    ConflictError,
    GoneError,
    NotFoundError,
    PendingDeletionError,
    StoreUnavailableError,
)
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.devices import UNSEEN_DROPPED, plan_register
from moorage_nodes.metadata.l2.contents import Contents
from moorage_nodes.metadata.records import (
    CHUNK_LIVE,
    CHUNK_SOFT_DELETED,
    DELETED,
    PENDING_DELETION,
    Deletion,
    Trash,
)


async def deletion_of(bed: Bed, notification_id: str) -> Deletion | None:
    kv = await bed.store.get(keys.deletion(NAMESPACE, notification_id))
    return None if kv is None else records.decode(Deletion, kv.value)


async def test_a_deleted_file_is_pending_one_version_on_and_its_name_is_free(bed):
    await bed.write("f", 0, {"a": b"1"})
    answer = await bed.delete("f", 1)
    assert (answer.status, answer.server_version) == ("pending_deletion", 2)
    node = await bed.node("f")
    assert (node.state, node.version, node.deletion) == (PENDING_DELETION, 2, answer.notification_id)
    entry = (await bed.journal())[-1]
    assert (entry.type, entry.id, entry.version, entry.state) == ("delete", "f", 2, PENDING_DELETION)
    await check_namespace(bed.store)
    begun = await bed.begin("g", parent="root:ns", name="f")
    await bed.commit(begun.id, "g", 1, [])
    await check_namespace(bed.store)


async def test_the_same_deletion_again_answers_the_same_before_and_after_its_end(bed, other_bed):
    await bed.write("f", 0, {"a": b"1"})
    answer = await bed.delete("f", 1)
    assert await other_bed.delete("f", 1) == answer
    await bed.deletions.advance(NAMESPACE, answer.notification_id)
    assert await other_bed.delete("f", 1) == answer
    assert len(await bed.journal()) == 3


async def test_of_many_deletions_at_once_there_is_one(bed, other_bed):
    await bed.write("f", 0, {"a": b"1"})
    answers = await asyncio.gather(*(each.delete("f", 1) for each in [bed, other_bed] * 5))
    assert len({answer.notification_id for answer in answers}) == 1
    await check_namespace(bed.store)


@pytest.mark.parametrize("version", [0, 2, 7])
async def test_a_stale_version_is_a_conflict_that_says_the_present_one(bed, version):
    await bed.write("f", 0, {"a": b"1"})
    with pytest.raises(ConflictError) as refused:
        await bed.delete("f", version)
    assert refused.value.server_version == 1


async def test_a_deletion_of_what_is_being_deleted_at_another_version_is_a_conflict(bed):
    await bed.write("f", 0, {"a": b"1"})
    answer = await bed.delete("f", 1)
    with pytest.raises(ConflictError) as refused:
        await bed.delete("f", 2)
    assert refused.value.server_version == 2
    await bed.deletions.advance(NAMESPACE, answer.notification_id)
    with pytest.raises(GoneError):
        await bed.delete("f", 2)


async def test_what_is_no_file_is_not_found(bed):
    await bed.mkdir("d", "/d")
    for node_id in ("nothing", "d", "root:ns"):
        with pytest.raises(NotFoundError):
            await bed.delete(node_id, 0)


async def test_a_file_that_is_being_deleted_is_read_by_nobody_and_changed_by_nobody(bed):
    await bed.write("f", 0, {"a": b"1"})
    begun = await bed.begin("f", 1)
    await bed.store_chunks(begun.id, {"a": b"2"})
    contents = Contents(bed.store, bed.engine)
    assert (await contents.find(NAMESPACE, "f")).number == 1
    answer = await bed.delete("f", 1)
    for change in (bed.commit(begun.id, "f", 2), bed.begin("f", 2), bed.begin("f", 1)):
        with pytest.raises(PendingDeletionError) as refused:
            await change
        assert refused.value.extra["ways_out"] == ["undelete", "save_as"]
    for number in (None, 1):
        with pytest.raises(GoneError):
            await contents.find(NAMESPACE, "f", number)
    await bed.deletions.advance(NAMESPACE, answer.notification_id)
    with pytest.raises(GoneError):
        await bed.commit(begun.id, "f", 2)
    with pytest.raises(GoneError):
        await contents.find(NAMESPACE, "f", 1)


async def test_the_end_is_a_tombstone_in_the_feed_and_a_record_in_the_trash(bed):
    await bed.write("f", 0, {"a": b"1"})
    answer = await bed.delete("f", 1, end=True)
    assert (await bed.node("f")).state == DELETED
    entry = (await bed.journal())[-1]
    assert (entry.type, entry.version, entry.state) == ("delete", 2, DELETED)
    kv = await bed.store.get(keys.trash(NAMESPACE, "f"))
    assert records.decode(Trash, kv.value).sequence == 3
    assert await deletion_of(bed, answer.notification_id) is None
    await check_namespace(bed.store)
    before = await bed.journal()
    await bed.deletions.advance(NAMESPACE, answer.notification_id)
    assert await bed.journal() == before


async def test_chunks_of_all_versions_are_marked_and_revived_by_who_needs_them(bed):
    await bed.write("f", 0, {"a": b"1"})
    await bed.write("f", 1, {"a": b"2", "b": b"3"})
    await bed.write("other", 0, {"c": b"live"})
    await bed.delete("f", 2, end=True)
    assert [(await bed.chunk(data)).state for data in (b"1", b"2", b"3")] == [CHUNK_SOFT_DELETED] * 3
    assert (await bed.chunk(b"live")).state == CHUNK_LIVE
    await bed.write("g", 0, {"d": b"1"})
    assert (await bed.chunk(b"1")).state == CHUNK_LIVE
    await check_namespace(bed.store)


async def test_long_lists_are_marked_in_parts(bed):
    parts = {f"c{number}": f"part {number}".encode() for number in range(2100)}
    begun = await bed.begin("f")
    await bed.store_chunks(begun.id, parts)
    await bed.commit(begun.id, "f", 1, list(parts))
    assert (await bed.manifest("f")).segments
    marked: list[int] = []

    async def mark(namespace: str, hashes: list[str]) -> None:
        marked.append(len(hashes))
        await bed.registry.mark_soft(namespace, hashes)

    bed.deletions._mark = mark
    await bed.delete("f", 1, end=True)
    assert marked == [1000, 1000, 100]
    for data in parts.values():
        assert (await bed.chunk(data)).state == CHUNK_SOFT_DELETED


async def test_a_deletion_waits_until_its_chunks_can_be_marked(bed):
    await bed.write("f", 0, {"a": b"1"})

    async def mark(_namespace: str, _hashes: list[str]) -> None:
        raise StoreUnavailableError("the block servers are away")

    real, bed.deletions._mark = bed.deletions._mark, mark
    with pytest.raises(StoreUnavailableError):
        await bed.delete("f", 1, end=True)
    assert (await bed.node("f")).state == PENDING_DELETION
    bed.deletions._mark = real
    await bed.delete("f", 1, end=True)
    assert (await bed.node("f")).state == DELETED


async def test_a_file_without_content_is_deleted_too(bed):
    begun = await bed.begin("f")
    await bed.commit(begun.id, "f", 1, [])
    await bed.delete("f", 1, end=True)
    await check_namespace(bed.store)


async def test_a_scan_takes_up_what_another_process_left(bed, other_bed):
    await bed.write("f", 0, {"a": b"1"})
    await bed.delete("f", 1)
    await other_bed.deletions.scan()
    assert not other_bed.deletions.under_way, "what is young is in the hands of who began it"
    await other_bed.deletions.scan()
    while other_bed.deletions.under_way:
        await asyncio.sleep(0)
    assert (await bed.node("f")).state == DELETED
    await check_namespace(bed.store)


async def test_those_devices_are_to_be_told_that_were_seen_of_late_but_not_who_deletes(bed):
    async def register(client_id: str) -> None:
        await bed.engine.change(NAMESPACE, lambda view: plan_register(view, client_id, "a laptop"))

    await register("long-ago")
    bed.time += UNSEEN_DROPPED / 1000
    for client_id in ("phone", "laptop", "desk"):
        await register(client_id)
    await bed.write("f", 0, {"a": b"1"})
    answer = await bed.delete("f", 1, client="desk")
    deletion = await deletion_of(bed, answer.notification_id)
    assert deletion is not None
    assert (deletion.clients, deletion.client) == (["laptop", "phone"], "desk")
