"""What is collected and what is kept, by whole collections on stores in memory."""

from itertools import count
from typing import Any

import msgspec
import pytest
from collector_bed import DAY, HOUR, CollectorBed, DirectPools
from namespace_checks import check_namespace
from upload_bed import NAMESPACE, digest_of, entry, hash_of

from moorage.core.errors import (
    GoneError,
    MissingChunksError,
    NotFoundError,
    StoreUnavailableError,
    UploadEndedError,
)
from moorage_nodes.gc import sweeping
from moorage_nodes.gc.tenure import CollectorBusyError, Tenure
from moorage_nodes.metadata import keys, records, spill
from moorage_nodes.metadata.l1 import commit as commit_module
from moorage_nodes.metadata.l1 import preparation, segments, targets, uploads
from moorage_nodes.metadata.l1.changes import parse_cursor, read_changes
from moorage_nodes.metadata.l1.repeats import Repeat
from moorage_nodes.metadata.l1.tree import observe_live_file
from moorage_nodes.metadata.l1.versions import plan_restore
from moorage_nodes.metadata.l3.pools import read_pools_left
from moorage_nodes.metadata.records import (
    CHUNK_CONDEMNED,
    CHUNK_DAMAGED,
    CHUNK_LIVE,
    DELETED,
    CollectorState,
    Head,
    PoolsLeft,
)
from moorage_nodes.stores.contracts import Delete, Put, Txn
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.objects_memory import MemoryObjects


async def state_of(bed: CollectorBed, data: bytes) -> int | None:
    chunk = await bed.chunk(data)
    return None if chunk is None else chunk.state


async def abandon(bed: CollectorBed, data: bytes, name: str = "junk") -> str:
    """Store a chunk under an upload that is then replaced or ends: nothing holds it."""
    upload = await bed.begin(f"{name}-file")
    await bed.store_chunks(upload.id, {name: data})
    await bed.store.transact(
        Txn(
            then=(
                Delete(keys.upload(NAMESPACE, upload.id)),
                Delete(*keys.stored_range(NAMESPACE, upload.id)),
            )
        )
    )
    return upload.id


async def test_what_nothing_holds_is_condemned_then_removed_then_its_bytes_are_deleted(bed):
    await bed.write("f", 0, {"a": b"kept"})
    await abandon(bed, b"junk")
    report = await bed.collect()
    assert (report.condemned, report.removed, report.objects_deleted) == (1, 0, 0)
    assert await state_of(bed, b"junk") == CHUNK_CONDEMNED
    report = await bed.collect(after=HOUR - 1)
    assert (report.condemned, report.removed, report.kept["chunks_waiting"]) == (0, 0, 1)
    report = await bed.collect(after=2)
    assert (report.removed, report.objects_deleted, report.freed_bytes) == (1, 1, 4)
    assert await state_of(bed, b"junk") is None
    assert len(await bed.object_names()) == 1
    assert await bed.read("f") == b"kept"
    assert report.kept["chunks_held"] == report.kept["objects_named"] == 1
    await check_namespace(bed.store)
    report = await bed.collect(after=DAY)
    assert (report.condemned, report.removed, report.objects_deleted) == (0, 0, 0)


async def left_in_pools(bed: CollectorBed) -> dict[str, Any] | None:
    """As L3 servers tell the operator."""
    collection = (await read_pools_left(bed.store))["collection"]
    return collection and collection["left"]


async def test_a_complete_collection_tells_what_it_left_in_each_pool(bed):
    other = MemoryObjects()
    bed.pools = DirectPools({"p1": bed.objects, "p2": other})
    await bed.write("f", 0, {"a": b"kept", "b": b"too"})
    await abandon(bed, b"junk")
    began = (await read_pools_left(bed.store))["revision"]
    report = await bed.collect()
    nothing = {"chunks": 0, "objects": 0}
    # What is condemned is there still.
    assert await left_in_pools(bed) == {"p1": {"chunks": 3, "objects": 2}, "p2": nothing}
    assert dict(report.rows())["left in p1"] == "3 chunks, 2 objects"
    found = await read_pools_left(bed.store)
    assert began < found["collection"]["began"] < found["revision"]
    await bed.collect(after=2 * HOUR)
    assert await left_in_pools(bed) == {"p1": {"chunks": 2, "objects": 1}, "p2": nothing}
    # An object that no record names counts as well, until it is deleted.
    upload = await bed.begin("g")
    await other.put(f"{NAMESPACE}/{upload.id}/lost.0", b"bytes")
    await bed.collect()
    assert (await left_in_pools(bed))["p2"] == {"chunks": 0, "objects": 1}
    await bed.delete("f", 1, end=True)
    await bed.quiet(4, after=2 * DAY)
    assert await left_in_pools(bed) == {"p1": nothing, "p2": nothing}
    # Of a pool that is not looked at any more nothing is known.
    bed.pools = DirectPools({"p1": bed.objects})
    await bed.collect()
    assert await left_in_pools(bed) == {"p1": nothing}


async def test_a_collection_that_did_not_see_everything_tells_nothing_of_pools(bed):
    rules = bed.rules
    bed.rules = msgspec.structs.replace(rules, dry_run=True)
    await bed.collector().run()
    assert await left_in_pools(bed) is None
    for number in range(3):
        await abandon(bed, b"junk %d" % number, f"junk{number}")
    bed.rules = rules
    await bed.collect()
    bed.hands.pass_by(2 * HOUR)
    before = await read_pools_left(bed.store)
    bed.rules = msgspec.structs.replace(rules, max_deletions=1)
    assert (await bed.collector().run()).outcome == "capped"
    bed.rules = msgspec.structs.replace(rules, dry_run=True)
    assert (await bed.collector().run()).outcome == "complete"
    assert (await read_pools_left(bed.store))["collection"] == before["collection"]


async def test_what_another_etcd_said_of_pools_counts_for_nothing(bed):
    told = PoolsLeft(1, began=10**9, pools={"p1": (0, 0)})
    await bed.store.transact(Txn(then=(Put(keys.COLLECTOR_POOLS, records.encode(told)),)))
    assert (await read_pools_left(bed.store))["collection"] is None


async def test_a_quiet_collection_changes_nothing_but_its_own_state(bed):
    await bed.write("f", 0, {"a": b"kept"})
    await bed.quiet(2)
    before = {kv.key: kv.mod_revision async for kvs in bed.store.scan(b"", b"\xff") for kv in kvs}
    await bed.collect(after=HOUR)
    after = {kv.key: kv.mod_revision async for kvs in bed.store.scan(b"", b"\xff") for kv in kvs}
    assert {key for key in before | after if before.get(key) != after.get(key)} == {
        keys.COLLECTOR_STATE,
        keys.COLLECTOR_POOLS,
    }


async def test_a_condemned_chunk_that_is_committed_lives(bed):
    await abandon(bed, b"again")
    await bed.collect()
    begun = await bed.begin("f", planned=[entry(b"again")])
    assert begun.required == [hash_of(b"again")]  # it may be gone before the commit
    assert await bed.commit(begun.id, "f", 1) == 1  # but as it was not, nothing need be sent
    assert await state_of(bed, b"again") == CHUNK_LIVE
    await bed.quiet()
    assert await bed.read("f") == b"again"


async def test_a_condemned_chunk_that_is_stored_anew_lives_in_its_new_object(bed):
    await abandon(bed, b"again")
    await bed.collect()
    begun = await bed.begin("f", planned=[entry(b"again")])
    await bed.store_chunks(begun.id, {None: b"again"})
    report = await bed.collect(after=2 * HOUR)
    assert (report.removed, report.objects_deleted) == (0, 1)
    await bed.commit(begun.id, "f", 1)
    await bed.quiet()
    assert await bed.read("f") == b"again"


async def test_a_chunk_that_is_gone_is_told_as_missing_and_can_be_sent_again(bed):
    await abandon(bed, b"gone")
    begun = await bed.begin("f")
    await bed.quiet(3, after=0.6 * HOUR)
    with pytest.raises(MissingChunksError):
        await bed.commit(begun.id, "f", 1, [hash_of(b"gone")])
    await bed.store_chunks(begun.id, {None: b"gone"})
    assert await bed.commit(begun.id, "f", 1, [hash_of(b"gone")]) == 1
    await bed.quiet()
    assert await bed.read("f") == b"gone"


async def test_pins_and_what_is_stored_hold_while_the_upload_is_used(bed):
    await abandon(bed, b"pinned")
    pinning = await bed.begin("f", planned=[entry(b"pinned"), entry(b"stored")])
    assert pinning.required == [hash_of(b"stored")]
    await bed.store_chunks(pinning.id, {None: b"stored"})
    await bed.collect()
    await bed.quiet(3, after=0.3 * DAY)
    assert await bed.commit(pinning.id, "f", 1) == 1
    await bed.quiet()
    assert await bed.read("f") == b"pinnedstored"


async def test_a_pin_that_came_in_the_instant_of_condemning_holds_and_the_chunk_is_revived(bed):
    await abandon(bed, b"pinned")
    collector = bed.collector()
    begun = None

    original = bed.store.transact

    async def pin_first(txn):
        nonlocal begun
        if begun is None and txn.then and any(isinstance(op, Txn) for op in txn.then):
            begun = await bed.begin("f", planned=[entry(b"pinned")])
        return await original(txn)

    bed.store.transact = pin_first
    await collector.run()
    del bed.store.transact
    assert begun.required == []
    assert await state_of(bed, b"pinned") == CHUNK_CONDEMNED
    report = await bed.collect(after=2 * HOUR)
    assert (report.revived, report.removed) == (1, 0)
    assert await bed.commit(begun.id, "f", 1) == 1
    assert await bed.read("f") == b"pinned"


async def test_idle_and_old_uploads_end_with_what_they_stored(bed):
    idle = await bed.begin("idle")
    await bed.store_chunks(idle.id, {"a": b"idle"})
    await bed.collect()
    used = await bed.begin("used")
    for _ in range(6):
        await bed.store_chunks(used.id, {"b": b"used"})
        await bed.collect(after=0.7 * DAY)
    assert await bed.open_uploads() == {used.id: (await bed.open_uploads())[used.id]}
    assert await bed.stored_keys(idle.id) == 0
    with pytest.raises(UploadEndedError):
        await bed.commit(idle.id, "idle", 1)
    for _ in range(5):
        await bed.store_chunks(used.id, {"b": b"used"})
        await bed.collect(after=0.7 * DAY)
    assert await bed.open_uploads() == {}
    with pytest.raises(UploadEndedError):
        await bed.store_chunks(used.id, {"b": b"used"})
    await bed.quiet()
    assert await bed.object_names() == []
    assert await bed.digests() == set()


async def test_objects_of_calls_that_never_registered_go_once_their_upload_has_ended(bed):
    begun = await bed.begin("f")
    await bed.objects.put(f"{NAMESPACE}/{begun.id}/lost.0", b"bytes")
    report = await bed.collect(after=2 * HOUR)
    assert (report.objects_deleted, report.kept["objects_uploading"]) == (0, 1)
    await bed.store_chunks(begun.id, {"a": b"1"})
    await bed.commit(begun.id, "f", 1)
    report = await bed.collect()
    assert (report.objects_deleted, report.freed_bytes) == (1, 5)
    assert await bed.read("f") == b"1"


async def test_old_versions_go_and_numbers_stay(bed):
    for number in range(5):
        await bed.write("f", number, {"a": b"version %d" % number})
    report = await bed.collect()
    assert report.let_go["versions"] == 2
    assert await bed.digests() == {digest_of(b"version %d" % number) for number in range(5)}
    await bed.quiet(1)
    assert await bed.digests() == {digest_of(b"version %d" % number) for number in (2, 3, 4)}
    with pytest.raises(GoneError):
        await bed.engine.change(NAMESPACE, plan_restore("f", 2, 5))
    assert await bed.engine.change(NAMESPACE, plan_restore("f", 3, 5)) == 6
    assert await bed.read("f") == b"version 2"
    await bed.quiet()
    assert await bed.read("f") == await bed.read("f", 6) == b"version 2"
    assert (await bed.node("f")).version == 6


async def test_the_trash_lets_go_of_a_file_after_its_time_and_its_bytes_after_the_grace(bed):
    await bed.write("f", 0, {"a": b"content"})
    await bed.write("g", 0, {"b": b"other"})
    await bed.delete("f", 1, end=True)
    await bed.collect()
    await bed.quiet(3, after=0.5 * DAY)
    await bed.undelete("f")
    assert await bed.read("f") == b"content"
    await bed.delete("f", 3, end=True)
    await bed.collect()
    report = await bed.collect(after=2.1 * DAY)
    assert report.let_go["trash"] == 1
    with pytest.raises(GoneError):
        await bed.undelete("f")
    await bed.quiet(2)
    assert await bed.digests() == {digest_of(b"other")}
    assert len(await bed.object_names()) == 1
    assert (await bed.node("f")).version == 4  # the tombstone
    await check_journal_tells(bed)


async def check_journal_tells(bed):
    """The feed goes on from any cursor that it still reaches."""
    answer = await read_changes(bed.store, NAMESPACE, "first", None, 1000)
    assert not answer.more


async def test_a_directory_goes_with_all_below_and_nothing_else(bed):
    await bed.mkdir("d", "/d")
    await bed.mkdir("e", "/d/e")
    await bed.mkdir("deep", "/d/e/deep")
    for number in range(150):
        begun = await bed.begin(f"f{number}", parent=("d", "e", "deep")[number % 3], name=f"n{number}")
        await bed.commit(begun.id, f"f{number}", 1, [])
    begun = await bed.begin("full", parent="deep", name="full")
    await bed.store_chunks(begun.id, {"a": b"below"})
    await bed.commit(begun.id, "full", 1)
    await bed.write("beside", 0, {"b": b"beside"})
    await bed.delete_directory("d", end=True)
    await bed.collect()
    report = await bed.collect(after=2.1 * DAY)
    assert report.let_go["trash"] == 1
    assert report.let_go["nodes_below"] == 153
    with pytest.raises(GoneError):
        await bed.undelete("d")
    await bed.quiet(2)
    assert await bed.digests() == {digest_of(b"beside")}
    found, _ = await bed.store.range(*keys.kind_range(NAMESPACE, "c"))
    assert len(found.kvs) == 1
    found, _ = await bed.store.range(*keys.kind_range(NAMESPACE, "m"))
    assert [keys.parse_manifest(kv.key) for kv in found.kvs] == [("beside", 1)]
    assert await bed.node("e") is None
    assert (await bed.node("full")).version == 2  # an id that was a file's begins no second life
    found, _ = await bed.store.range(*keys.kind_range(NAMESPACE, "l"))
    assert not found.kvs


@pytest.mark.parametrize("taken", [False, True], ids=["gone", "another node's"])
async def test_a_deleted_file_is_gone_also_when_its_directory_has_left_the_trash(bed, taken):
    """What refers to a directory that is no more is a tombstone, and no damage."""
    await bed.mkdir("d", "/d")
    await bed.mkdir("e", "/e", "d")
    begun = await bed.begin("f", parent="e", name="f")
    await bed.store_chunks(begun.id, {"f": b"f"})
    await bed.commit(begun.id, "f", 1)
    await bed.delete_directory("d", end=True)
    await bed.quiet()
    await bed.quiet(after=bed.rules.retained_deleted)
    assert (await bed.node("f")).state == DELETED
    assert await bed.node("e") is None
    if taken:
        await bed.write("e", 0, {"other": b"other"})
    with pytest.raises(GoneError):
        await bed.engine.read(NAMESPACE, lambda view: observe_live_file(view, "f"))
    with pytest.raises(GoneError):
        await bed.begin("f", 1)


async def test_the_feed_is_cut_behind_its_horizon_and_older_cursors_are_reset(bed):
    await bed.write("f", 0, {"a": b"1"})
    await bed.write("g", 0, {"b": b"2"})
    cursor = (await read_changes(bed.store, NAMESPACE, "first", None, 1000)).cursor
    await bed.delete("g", 1, end=True)
    newest = (await read_changes(bed.store, NAMESPACE, "first", parse_cursor(cursor, NAMESPACE), 100)).cursor
    await bed.collect()
    await bed.quiet(2, after=3 * DAY)
    assert (await bed.node("g")) is not None
    report = await bed.collect(after=30 * DAY)
    assert report.let_go["journal"] == 4
    assert report.let_go["tombstones"] == 1
    assert await bed.node("g") is None
    answer = await read_changes(bed.store, NAMESPACE, "first", parse_cursor(cursor, NAMESPACE), 100)
    assert (answer.reset, answer.reason) == (True, "expired")
    answer = await read_changes(bed.store, NAMESPACE, "first", parse_cursor(newest, NAMESPACE), 100)
    assert (answer.changes, answer.more) == ([], False)
    await bed.write("f", 1, {"a": b"3"})
    answer = await read_changes(bed.store, NAMESPACE, "first", parse_cursor(newest, NAMESPACE), 100)
    assert [change.id for change in answer.changes] == ["f"]
    # The id is unknown again, and may begin anew.
    await bed.write("g", 0, {"b": b"anew"})
    assert await bed.read("g") == b"anew"


async def test_a_tombstone_outlives_the_feed_while_its_content_can_be_brought_back(bed):
    bed.rules = msgspec.structs.replace(bed.rules, retained_feed=DAY, retained_deleted=10 * DAY)
    await bed.write("f", 0, {"a": b"1"})
    await bed.delete("f", 1, end=True)
    await bed.collect()
    report = await bed.collect(after=2 * DAY)
    assert (report.let_go["journal"], report.let_go["tombstones"]) == (3, 0)
    await bed.undelete("f")
    assert await bed.read("f") == b"1"
    await bed.delete("f", 3, end=True)
    await bed.collect()
    await bed.collect(after=2 * DAY)
    report = await bed.collect(after=9 * DAY)
    assert report.let_go["trash"] == 1
    assert await bed.node("f") is None


async def test_remembered_requests_are_forgotten_after_a_day(bed):
    begun = await bed.begin("f")
    repeat = Repeat("key", b"arguments")
    await bed.commit(begun.id, "f", 1, [], repeat)
    await bed.collect()
    await bed.collect(after=0.9 * DAY)
    assert await bed.store.get(keys.idempotency(NAMESPACE, "key")) is not None
    report = await bed.collect(after=0.2 * DAY)
    assert report.let_go["requests"] == 1
    assert await bed.store.get(keys.idempotency(NAMESPACE, "key")) is None


async def test_names_go_with_what_they_meant(bed):
    await bed.write("f", 0, {"mine": b"1", "moved": b"2"})
    await bed.write("f", 1, {"moved": b"3"})
    await bed.delete("f", 2, end=True)
    await bed.write("g", 0, {"moved": b"4"})
    await bed.collect()
    await bed.collect(after=3 * DAY)
    await bed.quiet(2)
    assert await bed.store.get(keys.chunk_name(NAMESPACE, "mine")) is None
    assert await bed.meaning_digest("moved") == digest_of(b"4")
    await check_names(bed)


async def check_names(bed):
    found, _ = await bed.store.range(*keys.kind_range(NAMESPACE, "x"))
    held = await bed.digests()
    for kv in found.kvs:
        assert records.decode(records.ChunkName, kv.value).digest in held


async def test_bindings_are_taken_up_by_their_names(bed, monkeypatch):
    for module in (commit_module, preparation, targets, uploads):
        monkeypatch.setattr(module, "INLINE_ENTRIES", 8)
    monkeypatch.setattr(preparation, "MAX_PLAN_NAMES", 4)
    parts = [b"part %d" % number for number in range(10)]
    begun = await bed.begin("f")
    await bed.store_chunks(begun.id, [(f"c{number}", part) for number, part in enumerate(parts)])
    await bed.commit(begun.id, "f", 1)
    given_up = await bed.begin("g")
    await bed.store_chunks(given_up.id, [(f"c{number}", b"never %d" % number) for number in range(10)])
    commit = [f"c{number}" for number in range(10)]
    prepared = await preparation.prepare_commit(
        bed.server, NAMESPACE, given_up.id, __import__("upload_bed").commit_of("g", 1, commit)
    )
    assert prepared.binding
    await bed.quiet(2)
    found, _ = await bed.store.range(*keys.kind_range(NAMESPACE, "b"))
    assert not found.kvs
    assert [await bed.meaning_digest(f"c{n}") for n in range(10)] == [digest_of(part) for part in parts]
    await bed.quiet(2, after=DAY)  # the other upload ends
    found, _ = await bed.store.range(*keys.kind_range(NAMESPACE, "x"))
    assert len(found.kvs) == 10
    assert await bed.listing("f") == [f"c{n}" for n in range(10)]


async def test_long_lists_go_when_nothing_names_them(bed, monkeypatch):
    for module in (commit_module, preparation, targets, uploads):
        monkeypatch.setattr(module, "INLINE_ENTRIES", 3)
    parts = [b"part %d" % number for number in range(8)]
    for number in range(5):
        begun = await bed.begin("f", number)
        await bed.store_chunks(begun.id, [(None, part + b"%d" % number) for part in parts])
        await bed.commit(begun.id, "f", number + 1, [hash_of(part + b"%d" % number) for part in parts])
    await bed.engine.change(NAMESPACE, plan_restore("f", 1, 5))  # shares its list
    orphan = f"{begun.id}.orphan"
    await segments.write_segments(bed.store, NAMESPACE, {orphan: [entry(b"x")] * 5}, b"first")
    bed.rules = msgspec.structs.replace(bed.rules, retained_versions=2)
    await bed.collect()
    found, _ = await bed.store.range(*keys.kind_range(NAMESPACE, "g"))
    assert len(found.kvs) == 6
    report = await bed.collect(after=2 * HOUR)
    assert report.let_go["lists"] == 4
    await bed.quiet(2)
    assert await bed.read("f") == b"".join(part + b"0" for part in parts)
    assert await bed.read("f", 5) == b"".join(part + b"4" for part in parts)
    assert report.exit_code() == 0


async def test_a_mostly_dead_object_is_rewritten_and_deleted_one_collection_later(bed):
    begun = await bed.begin("f")
    parts = [bytes([number]) * 1000 for number in range(10)]
    await bed.store_chunks(begun.id, [(None, part) for part in parts])
    await bed.commit(begun.id, "f", 1, [hash_of(part) for part in parts[:3]])
    (old,) = await bed.object_names()
    await bed.collect()
    report = await bed.collect(after=2 * HOUR)
    assert (report.removed, report.objects_rewritten, report.objects_deleted) == (7, 1, 0)
    assert old in await bed.object_names()
    assert await bed.open_uploads() == {}
    assert await bed.read("f") == b"".join(parts[:3])
    report = await bed.collect()
    assert (report.objects_deleted, report.freed_bytes) == (1, 10_000)
    (new,) = await bed.object_names()
    assert new != old
    assert await bed.read("f") == b"".join(parts[:3])
    report = await bed.collect(after=DAY)
    assert (report.objects_deleted, report.objects_rewritten) == (0, 0)


async def test_a_half_living_object_is_left_alone(bed):
    begun = await bed.begin("f")
    parts = [bytes([number]) * 1000 for number in range(10)]
    await bed.store_chunks(begun.id, [(None, part) for part in parts])
    await bed.commit(begun.id, "f", 1, [hash_of(part) for part in parts[:5]])
    reports = await bed.quiet(4)
    assert sum(report.objects_rewritten for report in reports) == 0
    assert len(await bed.object_names()) == 1


async def test_damaged_bytes_are_not_carried_into_a_new_object(bed):
    begun = await bed.begin("f")
    parts = [bytes([number]) * 1000 for number in range(10)]
    await bed.store_chunks(begun.id, [(None, part) for part in parts])
    await bed.commit(begun.id, "f", 1, [hash_of(part) for part in parts[:2]])
    (old,) = await bed.object_names()
    bed.objects._objects[f"{NAMESPACE}/{old}"] = bytes(10_000)
    reports = await bed.quiet(4)
    assert [report.damaged for report in reports] == [0, 1, 1, 1]
    assert await bed.object_names() == [old]
    assert await bed.read("f") if False else True


async def test_damaged_chunks_that_nothing_holds_go_without_being_condemned(bed):
    await abandon(bed, b"broken")
    chunk = await bed.chunk(b"broken")
    damaged = msgspec.structs.replace(chunk, state=CHUNK_DAMAGED)
    key = keys.chunk(NAMESPACE, digest_of(b"broken"))
    await bed.store.transact(Txn(then=(Put(key, records.encode(damaged)),)))
    await bed.collect()
    assert await state_of(bed, b"broken") == CHUNK_DAMAGED
    await bed.collect(after=2 * HOUR)
    assert await state_of(bed, b"broken") is None
    assert await bed.object_names() == []


# --- time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-HOUR, HOUR, 40 * DAY], ids=["back", "ahead", "far ahead"])
async def test_steps_of_the_clock_shorten_no_grace_and_no_retention(bed, step):
    await abandon(bed, b"junk")
    await bed.write("f", 0, {"a": b"1"})
    await bed.delete("f", 1, end=True)
    await bed.collect()
    bed.hands.step(step)
    report = await bed.collect(after=0.5 * HOUR)
    assert (report.removed, report.let_go["trash"]) == (0, 0)
    bed.hands.step(-step)
    report = await bed.collect(after=0.4 * HOUR)
    assert report.removed == 0
    report = await bed.collect(after=0.2 * HOUR)
    assert report.removed == 1
    await bed.undelete("f")


async def test_time_while_the_machine_was_off_counts_but_a_mad_clock_does_not(bed):
    await abandon(bed, b"junk")
    await bed.write("f", 0, {"a": b"1"})
    await bed.delete("f", 1, end=True)
    bed.rules = msgspec.structs.replace(bed.rules, retained_deleted=20 * DAY)
    await bed.collect()
    bed.hands.pass_by(2 * HOUR)
    bed.hands.boot_again()
    report = await bed.collect()
    assert report.removed == 1
    bed.hands.step(50 * 365 * DAY)
    bed.hands.boot_again()
    report = await bed.collect()
    assert report.let_go["trash"] == 0
    bed.hands.step(-50 * 365 * DAY)
    bed.hands.boot_again()
    report = await bed.collect()
    assert report.let_go["trash"] == 0
    await bed.undelete("f")


async def test_keys_that_were_brought_into_another_etcd_are_young_again(bed):
    await abandon(bed, b"junk")
    await bed.write("f", 0, {"a": b"1"})
    await bed.delete("f", 1, end=True)
    await bed.quiet(2, after=10)
    elsewhere = bed.beside(MemoryStore())
    async for kvs in bed.store.scan(b"", b"\xff"):
        await elsewhere.store.transact(Txn(then=tuple(Put(kv.key, kv.value) for kv in kvs)))
    report = await elsewhere.collect(after=10 * DAY)
    assert (report.removed, report.let_go["trash"]) == (0, 0)
    await elsewhere.undelete("f")
    reports = await elsewhere.quiet(3)
    assert [report.removed for report in reports] == [1, 0, 0]


async def test_what_servers_write_as_time_is_not_trusted(bed):
    bed.time = 1.0  # 1970
    await bed.write("f", 0, {"a": b"1"})
    await bed.delete("f", 1, end=True)
    begun = await bed.begin("g")
    await bed.collect()
    report = await bed.collect(after=HOUR)
    assert report.let_go["trash"] == report.let_go["uploads"] == 0
    assert begun.id in await bed.open_uploads()


# --- runs ------------------------------------------------------------------------------------------------------


async def test_of_two_collectors_one_works(bed, other):
    await abandon(bed, b"junk")
    tenure = await Tenure.begin(bed.store, "first", bed.hands.monotonic)
    with pytest.raises(CollectorBusyError) as refused:
        await other.collector().run()
    assert "first" in refused.value.detail
    await tenure.end()
    assert (await other.collect()).condemned == 1


async def test_a_collector_that_lost_its_tenure_writes_nothing_any_more(bed, other):
    await abandon(bed, b"junk")
    original = bed.store.transact
    calls = count()

    async def stall(txn):
        if txn.compares and any(isinstance(op, Txn) for op in txn.then) and next(calls) == 0:
            await original(Txn(then=(Delete(keys.COLLECTOR_TENURE),)))
            await Tenure.begin(bed.store, "second", bed.hands.monotonic)
        return await original(txn)

    bed.store.transact = stall
    report = await bed.collector().run()
    del bed.store.transact
    assert report.outcome == "aborted"
    assert "silent" in report.reason
    assert await state_of(bed, b"junk") == CHUNK_LIVE


async def test_a_listing_that_fails_aborts_the_run_and_nothing_is_deleted(bed):
    await abandon(bed, b"junk")
    await bed.collect()
    good = bed.pools

    class Failing:
        names = ("p1",)

        async def list_objects(self, pool, namespace):
            async for page in good.list_objects(pool, namespace):
                yield page[:1]
            raise StoreUnavailableError("the listing broke off")

    bed.pools = Failing()
    bed.hands.pass_by(2 * HOUR)
    report = await bed.collector().run()
    assert (report.outcome, report.reason, report.removed) == ("aborted", "the listing broke off", 0)
    assert report.exit_code() == 1
    bed.pools = good
    report = await bed.collect()
    assert (report.removed, report.objects_deleted) == (1, 1)


async def test_deletions_are_capped_and_the_next_runs_go_on(bed):
    bed.rules = msgspec.structs.replace(bed.rules, max_deletions=4)
    for number in range(10):
        await abandon(bed, b"junk %d" % number, f"junk{number}")
    await bed.collect()
    bed.hands.pass_by(2 * HOUR)
    removed = []
    for _ in range(3):
        report = await bed.collector().run()
        removed.append((report.outcome, report.removed, report.objects_deleted, report.exit_code()))
    assert removed == [("capped", 4, 4, 4), ("capped", 4, 4, 4), ("complete", 2, 2, 0)]
    assert await bed.digests() == set()
    kv = await bed.store.get(keys.COLLECTOR_STATE)
    assert records.decode(CollectorState, kv.value).collections == 2


async def test_what_retention_lets_go_is_capped_too(bed):
    for number in range(8):
        await bed.write("f", number, {"a": b"version %d" % number})
        await bed.write(f"g{number}", 0, {"b": b"gone %d" % number})
        await bed.delete(f"g{number}", 1, end=True)
    await bed.collect()
    bed.rules = msgspec.structs.replace(bed.rules, max_deletions=3, retained_versions=1)
    bed.hands.pass_by(3 * DAY)
    outcomes = []
    for _ in range(4):
        report = await bed.collector().run()
        outcomes.append((report.outcome, report.let_go["versions"], report.let_go["trash"]))
    assert outcomes[:3] == [("capped", 2, 3), ("capped", 0, 3), ("complete", 0, 2)]
    assert await bed.read("f") == b"version 7"


async def test_a_namespace_with_a_damaged_list_is_left_out_and_told_and_the_others_are_done(bed, monkeypatch):
    for module in (commit_module, preparation, targets, uploads):
        monkeypatch.setattr(module, "INLINE_ENTRIES", 3)
    parts = [b"part %d" % number for number in range(8)]
    begun = await bed.begin("f")
    await bed.store_chunks(begun.id, [(None, part) for part in parts])
    await bed.commit(begun.id, "f", 1, [hash_of(part) for part in parts])
    await abandon(bed, b"junk")
    base = (await bed.manifest("f")).segments
    await bed.store.transact(Txn(then=(Delete(keys.segment(NAMESPACE, base, 0)),)))
    await bed.store.transact(Txn(then=(Put(keys.head("zz"), records.encode(Head())),)))
    bed.hands.pass_by(2 * HOUR)
    report = await bed.collector().run()
    assert (report.outcome, report.exit_code(), list(report.skipped)) == ("incomplete", 1, [NAMESPACE])
    assert report.namespaces == 2
    assert await state_of(bed, b"junk") == CHUNK_LIVE


async def test_a_dry_run_tells_and_changes_nothing(bed):
    await abandon(bed, b"junk")
    await bed.collect()
    for number in range(5):
        await bed.write("f", number, {"a": b"version %d" % number})
    await abandon(bed, b"more")
    await bed.delete("f", 5, end=True)
    before = {kv.key: kv.mod_revision async for kvs in bed.store.scan(b"", b"\xff") for kv in kvs}
    objects = await bed.object_names()
    bed.rules = msgspec.structs.replace(bed.rules, dry_run=True)
    bed.hands.pass_by(2 * HOUR)
    report = await bed.collector().run()
    assert (report.removed, report.objects_deleted, report.condemned) == (1, 1, 1)
    assert report.let_go["versions"] == 2
    after = {kv.key: kv.mod_revision async for kvs in bed.store.scan(b"", b"\xff") for kv in kvs}
    assert after == before
    assert await bed.object_names() == objects
    assert dict(report.rows())["would be removed"] == "1"
    assert report.collections == 1  # which this one is none of


async def test_a_run_goes_on_behind_the_namespace_that_aborted_the_last_one(bed):
    names = ["a", "b-c", "b", "b0", "c"]  # in the order of their keys
    for namespace in names:
        await bed.store.transact(Txn(then=(Put(keys.head(namespace), records.encode(Head())),)))
    good = bed.pools

    class Failing:
        names = ("p1",)

        async def list_objects(self, pool, namespace):
            if namespace == "b":
                raise StoreUnavailableError("not now")
            return
            yield

    told: list[str] = []
    bed.pools = Failing()
    await bed.collector().run(told.append)
    assert told == ["a", "b-c", "b"]
    told.clear()
    await bed.collector().run(told.append)
    assert told == ["b0", "c", "a", "b-c", "b"]
    told.clear()
    bed.pools = good
    report = await bed.collector().run(told.append)
    assert told == ["b0", "c", "a", "b-c", "b"]
    assert report.outcome == "complete"
    told.clear()
    await bed.collector().run(told.append)
    assert told == names


async def test_a_namespace_that_never_stands_still_is_left_out_and_told(bed, monkeypatch):
    await abandon(bed, b"junk")
    monkeypatch.setattr(sweeping, "MAX_ATTEMPTS", 3)
    writer = bed.beside()
    original = bed.store.transact
    numbers = count()

    async def be_first(txn):
        if any(isinstance(op, Txn) for op in txn.then):
            begun = await writer.begin(f"f{next(numbers)}")
            await writer.commit(begun.id, f"f{next(numbers) - 1}", 1, [])
        return await original(txn)

    frail = bed.beside(Before(bed.store, be_first))
    report = await frail.collector().run()
    assert (report.outcome, list(report.skipped)) == ("incomplete", [NAMESPACE])
    assert "faster" in report.skipped[NAMESPACE]
    assert (await bed.collect()).condemned == 1


class Before:
    """A store with another way to transact."""

    def __init__(self, inner, transact):
        self._inner, self.transact = inner, transact

    def __getattr__(self, name):
        return getattr(self._inner, name)


async def test_a_full_disk_aborts_the_run(bed, monkeypatch):
    await bed.write("f", 0, {"a": b"1"})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spill.tempfile, "TemporaryFile", full)
    monkeypatch.setattr(spill.SortedSpill.__init__, "__defaults__", (1,))
    report = await bed.collector().run()
    assert (report.outcome, "space" in report.reason) == ("aborted", True)
    assert await bed.read("f") == b"1"


async def test_reports_are_json(bed):
    await bed.write("f", 0, {"a": b"1"})
    report = await bed.collect()
    assert msgspec.json.decode(report.as_json())["kept"]["chunks_held"] == 1
    assert report.collections == 1


async def test_chunks_of_another_namespace_are_another_matter(bed):
    """Objects below other prefixes are not even listed."""
    await bed.objects.put("other/u/c.0", b"theirs")
    await bed.write("f", 0, {"a": b"1"})
    await bed.quiet()
    assert bytes(await bed.objects.get("other/u/c.0")) == b"theirs"
    with pytest.raises(NotFoundError):
        await bed.engine.change("other", plan_restore("f", 1, 1))
