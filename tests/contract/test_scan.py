"""Reading whole namespaces: on the store in memory and on a real etcd."""

import pytest
from upload_bed import NAMESPACE, Bed, digest_of, entry, make_cluster

from moorage.core.errors import CompactedError, DamagedTreeError, StoreUnavailableError
from moorage_nodes.metadata import keys, scan
from moorage_nodes.metadata.l1 import commit as commit_module
from moorage_nodes.metadata.l1 import preparation, segments, targets, uploads
from moorage_nodes.stores.contracts import Delete, Put, Txn


@pytest.fixture
async def bed(store) -> Bed:
    await make_cluster(store)
    return Bed(store)


@pytest.fixture
def short_lists(monkeypatch):
    for module in (commit_module, preparation, targets, uploads):
        monkeypatch.setattr(module, "INLINE_ENTRIES", 3)
    for module in (segments, scan):
        monkeypatch.setattr(module, "SEGMENT_ENTRIES", 2)


async def references(store, revision=0) -> tuple[set[bytes], list[str]]:
    bases: list[str] = []
    found: set[bytes] = set()
    async for digests in scan.scan_references(store, NAMESPACE, bases.append, revision=revision):
        found.update(digests)
    return found, bases


async def test_namespaces_are_those_that_have_keys(store):
    for key in (b"meta/x", b"n/a/h", b"n/a/i/1", b"n/a-b/h", b"n/a.b/u/1", b"n/ab/h", b"w/a/n1"):
        await store.transact(Txn(then=(Put(key, b""),)))
    assert {each async for each in scan.scan_namespaces(store)} == {"a", "a-b", "a.b", "ab"}


async def test_held_is_what_manifests_pins_and_open_uploads_name(bed, short_lists):
    await bed.write("f", 0, {"a": b"old"})
    await bed.write("f", 1, {"a": b"new"})
    await bed.write("g", 0, {"b": b"deleted"})
    await bed.delete("g", 1, end=True)
    pinned = [entry(b"pin %d" % n) for n in range(5)]
    await bed.begin("h", planned=pinned)
    stored = await bed.begin("k")
    await bed.store_chunks(stored.id, {"x": b"stored"})
    long = [(f"c{n}", b"long %d" % n) for n in range(7)]
    upload = await bed.begin("long")
    await bed.store_chunks(upload.id, long)
    await bed.commit(upload.id, "long", 1)
    found, bases = await references(bed.store)
    held = [b"old", b"new", b"deleted", b"stored", *(b"pin %d" % n for n in range(5))]
    assert found == {digest_of(data) for data in [*held, *(data for _, data in long)]}
    assert len(bases) == 2
    assert {digest async for part in scan.scan_chunks(bed.store, NAMESPACE) for digest, _, _ in part} == {
        digest_of(data) for data in [b"old", b"new", b"deleted", b"stored", *(data for _, data in long)]
    }
    versions = [each async for part in scan.scan_versions(bed.store, NAMESPACE) for each in part]
    assert versions == [("f", [1, 2]), ("g", [1]), ("long", [1])]
    more = [each async for part in scan.scan_versions(bed.store, NAMESPACE, more_than=1) for each in part]
    assert more == [("f", [1, 2])]
    assert [node_id async for part in scan.scan_trash(bed.store, NAMESPACE) for node_id, _, _ in part] == [
        "g"
    ]
    nodes = {node_id async for part in scan.scan_nodes(bed.store, NAMESPACE) for node_id, _, _ in part}
    assert nodes == {"f", "g", "long"}


async def test_a_list_that_is_not_whole_ends_the_reading(bed, short_lists):
    upload = await bed.begin("long")
    await bed.store_chunks(upload.id, [(f"c{n}", b"long %d" % n) for n in range(7)])
    await bed.commit(upload.id, "long", 1)
    base = (await bed.manifest("long")).segments
    await bed.store.transact(Txn(then=(Delete(keys.segment(NAMESPACE, base, 2)),)))
    with pytest.raises(DamagedTreeError):
        await references(bed.store)


async def test_what_was_there_all_the_time_is_given_once_though_the_past_is_compacted(subject):
    store = subject.store
    names = [b"k%05d" % n for n in range(3000)]
    for start in range(0, 3000, 100):
        await store.transact(Txn(then=tuple(Put(name, bytes(2000)) for name in names[start : start + 100])))
    seen: list[bytes] = []
    async for kvs in scan.scan_range(store, b"k", b"l"):
        seen += [kv.key for kv in kvs]
        done = await store.transact(Txn(then=(Put(b"k02999+%d" % len(seen), b""),)))
        await subject.compact(done.revision)
    assert [name for name in seen if b"+" not in name] == names
    with pytest.raises(CompactedError):
        async for _ in scan.scan_range(store, b"k", b"l", revision=1):
            pass


class Breaking:
    """A store whose scans break off behind the first batch, so many times."""

    def __init__(self, inner, times):
        self.inner, self.times = inner, times

    async def scan(self, *args, **options):
        async for kvs in self.inner.scan(*args, **options):
            yield kvs[:10]
            if self.times:
                self.times -= 1
                raise StoreUnavailableError("broken off")
            if kvs[10:]:
                yield kvs[10:]


async def test_a_scan_that_breaks_off_goes_on_behind_the_last_key_and_one_that_stays_broken_is_given_up(
    store,
):
    names = [b"k%02d" % n for n in range(40)]
    await store.transact(Txn(then=tuple(Put(name, b"") for name in names)))
    found = [kv.key async for kvs in scan.scan_range(Breaking(store, 2), b"k", b"l") for kv in kvs]
    assert found == names

    class Broken:
        async def scan(self, *_, **__):
            raise StoreUnavailableError("away")
            yield

    with pytest.raises(StoreUnavailableError):
        async for _ in scan.scan_range(Broken(), b"k", b"l"):
            pass


@pytest.mark.parametrize(
    ("versions", "retained", "past"),
    [([], 1, []), ([4], 1, []), ([1, 2, 3], 1, [1, 2]), ([1, 5, 9], 2, [1]), ([1, 2], 5, [])],
)
def test_retention_lets_go_all_but_the_newest_versions(versions, retained, past):
    assert list(scan.find_past_versions(versions, retained)) == past
