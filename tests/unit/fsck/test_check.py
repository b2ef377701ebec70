"""Each way to hurt a store, and the one finding that names it; and that a healthy one has none."""

import secrets

import pytest
from upload_bed import digest_of, hash_of

from moorage.core.errors import CompactedError, StoreUnavailableError
from moorage.core.ids import root_id
from moorage_nodes.fsck import check, partitions
from moorage_nodes.fsck.check import check_store
from moorage_nodes.fsck.pools import DirectPool
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import (
    CHUNK_CONDEMNED,
    CHUNK_DAMAGED,
    DIRECTORY,
    LIVE,
    Child,
    Chunk,
    Head,
    JournalEntry,
    Manifest,
    Node,
    Trash,
    Work,
)
from moorage_nodes.metadata.scan import scan_range

LONG = 1100  # chunks: more than a manifest holds inline


@pytest.fixture
async def healthy(patient):
    """A little of everything: directories, versions, a long file, the trash, a deletion half done, an undelete."""
    bed, l1 = patient.bed, patient.bed.l1
    await l1.mkdir("dir", "/photos", root_id(patient.namespace))
    await l1.mkdir("deep", "/2023/summer", "dir")
    await bed.write("f", [b"one", b"two"])
    await bed.write("f", [b"one", b"three"], 1)
    await bed.write("g", [secrets.token_bytes(300_000)])
    await bed.write("back", [b"come and go"])
    await l1.delete("back", 1, end=True)
    await l1.undelete("back")
    await bed.write("gone", [b"in the trash"])
    await l1.delete("gone", 1, end=True)
    await bed.write("going", [b"pending"])
    await l1.delete("going", 1)
    await bed.write("empty", [])
    begun = await bed.begin("unfinished")
    assert begun
    return patient


def node_of(patient, node_id: str) -> bytes:
    return keys.node(patient.namespace, node_id)


async def test_a_healthy_store_has_no_findings(healthy):
    result = await healthy.check(deep=True)
    assert result.findings.listed == []
    assert result.counts["files"] == 6
    assert result.bytes_read > 300_000


async def test_a_long_file_is_checked_through_its_segments(patient):
    parts = [number.to_bytes(4) for number in range(LONG)]
    await patient.bed.write("long", parts)
    assert await patient.found(deep=True) == {}
    chunk_key = keys.chunk(patient.namespace, digest_of(parts[1050]))
    await patient.delete(chunk_key)
    assert await patient.found() == {"chunk_missing": [hash_of(parts[1050])]}
    (segment,) = await patient.keys("g")
    await patient.delete(segment.key)
    assert list(await patient.found()) == ["segment_missing"]


# --- the tree


async def test_a_lost_child_is_named(healthy):
    await healthy.delete(keys.child(healthy.namespace, root_id(healthy.namespace), "f"))
    assert await healthy.found() == {"child_missing": ["f"]}


async def test_a_child_that_leads_nowhere_is_named(healthy):
    root = root_id(healthy.namespace)
    await healthy.put(keys.child(healthy.namespace, root, "ghost"), Child(1, 1, "nobody"))
    await healthy.put(keys.child(healthy.namespace, root, "twice"), Child(1, 1, "f"))
    assert sorted((await healthy.found())["child_dangling"]) == [f"{root}/ghost", f"{root}/twice"]


async def test_a_lost_node_is_named(healthy):
    await healthy.delete(node_of(healthy, "g"))
    found = await healthy.found()
    assert found == {"child_dangling": [f"{root_id(healthy.namespace)}/g"], "node_missing": ["g"]}


@pytest.mark.parametrize(
    ("order", "missing"), [(["old", "within", "anew"], []), (["old", "anew", "within"], ["within"])]
)
async def test_what_lay_in_a_directory_whose_id_began_anew_is_not_missed(healthy, order, missing):
    """The trash let go of the first directory, and of what was below it, without a word in the feed."""
    namespace, root = healthy.namespace, root_id(healthy.namespace)
    kv = await healthy.bed.l1.store.get(keys.head(namespace))
    head = records.decode(Head, kv.value)
    places = {"old": ("again", root, "o"), "within": ("within", "again", "w"), "anew": ("again", root, "n")}
    for number, what in enumerate(order, head.sequence + 1):
        node_id, parent, name = places[what]
        entry = JournalEntry(1, "create", node_id, DIRECTORY, parent, name, 0, LIVE)
        await healthy.put(keys.journal(namespace, number), entry)
    await healthy.put(keys.head(namespace), Head(sequence=head.sequence + 3, generation=head.generation))
    await healthy.put(node_of(healthy, "again"), Node(1, DIRECTORY, root, "n", LIVE, 0, 0))
    await healthy.put(keys.child(namespace, root, "n"), Child(1, DIRECTORY, "again"))
    assert await healthy.found() == ({"node_missing": missing} if missing else {})


async def test_a_lost_directory_is_named_by_what_lies_in_it(healthy):
    await healthy.delete(
        node_of(healthy, "dir"), keys.child(healthy.namespace, root_id(healthy.namespace), "photos")
    )
    found = await healthy.found()
    assert found.pop("node_missing") == ["dir"]
    assert list(found) == ["parent_missing"]


async def test_a_ring_of_directories_is_named(healthy):
    await healthy.change(Node, node_of(healthy, "dir"), parent="deep")
    found = await healthy.found()
    assert "dir" in found["tree_cycle"]
    assert len(found["tree_cycle"]) == 3


async def test_a_node_that_the_feed_tells_otherwise_is_named(healthy):
    await healthy.change(Node, node_of(healthy, "f"), version=3)
    found = await healthy.found()
    assert found["journal_disagrees"] == ["f"]
    assert found["manifest_missing"] == ["f version 3"]


# --- the journal


async def test_a_gap_in_the_journal_is_named(healthy):
    await healthy.delete(keys.journal(healthy.namespace, 3))
    found = await healthy.found()
    assert found["journal_gap"] == ["3"]


async def test_a_lost_end_of_the_journal_is_named(healthy):
    entries = await healthy.keys("j")
    await healthy.delete(entries[-1].key)
    assert "head_wrong" in await healthy.found()


async def test_a_head_that_was_set_back_is_named(healthy):
    await healthy.put(keys.head(healthy.namespace), Head(1, 2, 0))
    assert await healthy.found() == {"head_wrong": ["h"]}


async def test_versions_that_do_not_rise_are_named(healthy):
    entries = [(kv.key, kv) for kv in await healthy.keys("j")]
    key = next(key for key, kv in entries if records.decode(JournalEntry, kv.value).id == "g")
    await healthy.change(JournalEntry, key, version=7)
    found = await healthy.found()
    assert found == {"version_order": ["g"], "journal_disagrees": ["g"]}


# --- contents


async def test_a_lost_manifest_is_named(healthy):
    await healthy.delete(keys.manifest(healthy.namespace, "f", 2))
    assert await healthy.found() == {"manifest_missing": ["f version 2"]}


async def test_a_lost_version_between_two_is_named(healthy):
    await healthy.bed.write("f", [b"four"], 2)
    await healthy.delete(keys.manifest(healthy.namespace, "f", 2))
    assert await healthy.found() == {"manifest_missing": ["f version 2"]}


async def test_the_lost_content_of_what_is_in_the_trash_is_named(healthy):
    await healthy.delete(keys.manifest(healthy.namespace, "gone", 1))
    assert await healthy.found() == {"manifest_missing": ["gone version 1"]}


async def test_a_manifest_that_does_not_add_up_is_named(healthy):
    await healthy.change(Manifest, keys.manifest(healthy.namespace, "f", 1), size=4)
    assert await healthy.found() == {"manifest_wrong": ["f version 1"]}


async def test_a_manifest_that_is_not_the_files_is_named(healthy):
    kv = await healthy.store.get(keys.manifest(healthy.namespace, "f", 1))
    await healthy.put(keys.manifest(healthy.namespace, "f", 2), kv.value)
    assert await healthy.found() == {"manifest_wrong": ["f version 2"]}


async def test_a_manifest_of_no_version_is_named(healthy):
    kv = await healthy.store.get(keys.manifest(healthy.namespace, "f", 1))
    await healthy.put(keys.manifest(healthy.namespace, "f", 9), kv.value)
    assert (await healthy.found())["manifest_wrong"] == ["f version 9"]


async def test_a_record_that_cannot_be_read_is_named(healthy):
    await healthy.put(node_of(healthy, "f"), b"\xc1")
    found = await healthy.found()
    assert found["record_unreadable"] == [f"n/{healthy.namespace}/i/f"]


async def test_keys_of_a_newer_release_are_told_and_those_of_the_collector_are_known(healthy):
    await healthy.put(f"n/{healthy.namespace}/o/base".encode(), b"")
    await healthy.put(f"n/{healthy.namespace}/z/newer".encode(), b"")
    result = await healthy.check()
    assert result.is_clean
    assert dict(result.findings.counts) == {"key_unknown": 1}


# --- deletions and uploads


async def test_a_deletion_that_nobody_will_find_is_named(healthy):
    (deletion,) = await healthy.keys("d")
    notification_id = deletion.key.rpartition(b"/")[2].decode()
    await healthy.delete(keys.work(healthy.namespace, notification_id))
    assert await healthy.found() == {"work_missing": [notification_id]}


async def test_a_deletion_that_waits_for_its_clients_is_found_where_it_is_parked(healthy):
    (deletion,) = await healthy.keys("d")
    notification_id = deletion.key.rpartition(b"/")[2].decode()
    await healthy.delete(keys.work(healthy.namespace, notification_id))
    await healthy.put(keys.parked(healthy.namespace, notification_id), Work(1))
    assert await healthy.found() == {}


async def test_a_deletion_that_waits_for_its_clients_is_where_it_should_be(healthy):
    (deletion,) = await healthy.keys("d")
    notification_id = deletion.key.rpartition(b"/")[2].decode()
    await healthy.delete(keys.work(healthy.namespace, notification_id))
    await healthy.put(keys.parked(healthy.namespace, notification_id), Work(1))
    assert await healthy.found() == {}
    await healthy.delete(deletion.key)
    found = await healthy.found()
    assert found == {"deletion_wrong": ["going"], "work_dangling": [notification_id]}


async def test_work_of_no_deletion_is_named(healthy):
    await healthy.put(keys.work(healthy.namespace, "nobody"), Work(1))
    assert await healthy.found() == {"work_dangling": ["nobody"]}


async def test_a_lost_deletion_is_named(healthy):
    (deletion,) = await healthy.keys("d")
    await healthy.delete(deletion.key)
    found = await healthy.found()
    assert found.pop("work_dangling")
    assert found == {"deletion_wrong": ["going"]}


async def test_trash_of_what_is_not_deleted_is_named(healthy):
    await healthy.put(keys.trash(healthy.namespace, "f"), Trash(1, 1, 0))
    assert await healthy.found() == {"trash_wrong": ["f"]}


async def test_the_plan_of_an_upload_that_is_not_whole_is_named(patient):
    parts = [number.to_bytes(4) for number in range(LONG)]
    await patient.bed.l1.begin("long", planned=[(None, digest_of(part), 4) for part in parts])
    assert await patient.found() == {}
    (segment,) = await patient.keys("g")
    await patient.delete(segment.key)
    assert list(await patient.found()) == ["upload_wrong"]


# --- chunks and bytes


async def test_a_lost_chunk_record_is_named_with_its_files(healthy):
    await healthy.delete(keys.chunk(healthy.namespace, digest_of(b"three")))
    result = await healthy.check()
    (finding,) = [each for each in result.findings.listed if each.kind == "chunk_missing"]
    assert finding.subject == hash_of(b"three")
    assert "f version 2" in finding.detail


@pytest.mark.parametrize(
    ("state", "kind"), [(CHUNK_CONDEMNED, "chunk_condemned"), (CHUNK_DAMAGED, "chunk_damaged")]
)
async def test_a_needed_chunk_in_a_wrong_state_is_named(healthy, state, kind):
    await healthy.change(Chunk, keys.chunk(healthy.namespace, digest_of(b"one")), state=state)
    assert await healthy.found() == {kind: [hash_of(b"one")]}


async def test_a_chunk_of_another_size_is_named(healthy):
    await healthy.change(Chunk, keys.chunk(healthy.namespace, digest_of(b"one")), size=2)
    assert await healthy.found() == {"chunk_size_wrong": [hash_of(b"one")]}


async def test_a_lost_object_is_named_by_its_chunks(healthy):
    name = await healthy.object_of(b"come and go")
    await healthy.bed.objects.delete([name])
    assert await healthy.found() == {"object_missing": [hash_of(b"come and go")]}
    assert await healthy.found(deep=True) == {"object_missing": [hash_of(b"come and go")]}


async def test_a_truncated_object_is_named(healthy):
    name = await healthy.object_of(b"come and go")
    await healthy.overwrite(name, b"come")
    assert await healthy.found() == {"object_short": [hash_of(b"come and go")]}


async def test_a_flipped_byte_is_named_only_when_bytes_are_read(healthy):
    name = await healthy.object_of(b"come and go")
    await healthy.overwrite(name, b"come and g\x00")
    assert await healthy.found() == {}
    assert await healthy.found(deep=True) == {"bytes_differ": [hash_of(b"come and go")]}


async def test_an_object_of_no_chunk_is_told_once_its_upload_has_ended(healthy):
    await healthy.overwrite(f"{healthy.namespace}/ended/call.0", b"left behind")
    upload = await healthy.bed.begin("new")
    await healthy.overwrite(f"{healthy.namespace}/{upload}/call.0", b"on its way")
    result = await healthy.check()
    assert result.is_clean
    assert [each.subject for each in result.findings.listed] == ["ended/call.0"]


async def test_what_nothing_needs_is_counted_and_no_finding(healthy):
    await healthy.delete(keys.manifest(healthy.namespace, "f", 1))
    result = await healthy.check()
    assert result.is_clean
    assert result.findings.counts["chunk_unreferenced"] == 1


async def test_chunks_of_a_pool_that_the_cluster_does_not_name_are_told(healthy):
    await healthy.change(Chunk, keys.chunk(healthy.namespace, digest_of(b"one")), pool="taken-off")
    assert await healthy.found(deep=True) == {"pool_unknown": ["taken-off"]}


async def test_the_cluster_s_own_keys_are_looked_at(healthy):
    async def kinds() -> set[tuple[str, str]]:
        result = await check_store(healthy.store, {"p1": DirectPool(healthy.bed.objects)})
        own = {each for each in result.findings.listed if each.namespace in {"", "nobody"}}
        return {(each.kind, each.subject) for each in own}

    await healthy.put(keys.REALM, b"realm")
    await healthy.put(keys.FORMAT, b"format")
    assert await kinds() == set()
    await healthy.put(keys.work("nobody", "n1"), Work(1))
    await healthy.delete(keys.FORMAT)
    assert await kinds() == {("work_dangling", "n1"), ("identity_wrong", "meta/format")}
    await healthy.delete(keys.work("nobody", "n1"))


async def test_a_namespace_that_is_compacted_away_while_it_is_read_is_begun_again(healthy, monkeypatch):
    scanned = []

    async def compacting(store, start, end, **more):
        scanned.append(more.get("revision"))
        async for kvs in scan_range(store, start, end, **more):
            yield kvs
            if len(scanned) < 3:
                raise CompactedError("gone")

    monkeypatch.setattr(check, "scan_range", compacting)
    result = await healthy.check()
    assert result.findings.listed == []
    assert result.counts["files"] == 6
    assert len(scanned) > 3

    monkeypatch.setattr(check, "MAX_ATTEMPTS", 0)
    with pytest.raises(StoreUnavailableError):
        await healthy.check()


async def test_a_pool_that_cannot_be_listed_whole_proves_nothing(healthy):
    class Away(DirectPool):
        async def list_objects(self, namespace):
            async for page in super().list_objects(namespace):
                yield page
                raise StoreUnavailableError("away")

    with pytest.raises(StoreUnavailableError):
        await check_store(healthy.store, {"p1": Away(healthy.bed.objects)}, namespaces=[healthy.namespace])


async def test_joins_are_the_same_when_they_do_not_fit_into_memory(healthy, monkeypatch):
    monkeypatch.setattr(partitions, "SPILLED_ITEMS", 5)
    assert await healthy.found(deep=True) == {}
    await healthy.delete(keys.chunk(healthy.namespace, digest_of(b"three")), node_of(healthy, "g"))
    found = await healthy.found(deep=True)
    assert found["chunk_missing"] == [hash_of(b"three")]
    assert found["node_missing"] == ["g"]
