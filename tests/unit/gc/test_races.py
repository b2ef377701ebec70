"""Writers and collectors at once, each in a process of its own, on few chunks that they share: whoever is first, a
version that was acknowledged can be read, and what nobody holds goes in the end. Seeds are in the tests' names.
"""

import asyncio
import contextlib
import random
from functools import partial

import msgspec
import pytest
from collector_bed import DAY, HOUR, RULES, CollectorBed
from upload_bed import NAMESPACE, entry, hash_of, make_cluster

from moorage.core.errors import (
    ConflictError,
    GoneError,
    MissingChunksError,
    MoorageError,
    NotFoundError,
    StateError,
    StoreUnavailableError,
    UploadEndedError,
)
from moorage_nodes.gc.tenure import CollectorBusyError
from moorage_nodes.metadata import keys, records, scan
from moorage_nodes.metadata.l1 import commit as commit_module
from moorage_nodes.metadata.l1 import preparation, segments, targets, uploads
from moorage_nodes.metadata.l1.entries import Summary, summarize
from moorage_nodes.metadata.l1.moves import Move, plan_move
from moorage_nodes.metadata.l1.tree import put_node
from moorage_nodes.metadata.l1.versions import plan_restore
from moorage_nodes.metadata.records import CHUNK_LIVE, CHUNK_SOFT_DELETED, Manifest, Node
from moorage_nodes.metadata.scan import scan_list, scan_manifests
from moorage_nodes.metadata.view import View
from moorage_nodes.stores.contracts import Delete, Put, Txn
from moorage_nodes.stores.memory import MemoryStore

PARTS = [bytes([number]) * (number + 1) for number in range(12)]
FILES = [f"f{number}" for number in range(6)]
ROUNDS = 30
REFUSALS = (
    ConflictError,
    GoneError,
    MissingChunksError,
    NotFoundError,
    StateError,
    StoreUnavailableError,  # a long list that collections without a pause would not let be prepared
    UploadEndedError,
)


class Writer:
    """A client with servers of its own, that does one thing after the other."""

    def __init__(self, bed: CollectorBed, seed: int) -> None:
        self.bed = bed
        self.rng = random.Random(seed)
        self.acknowledged: dict[tuple[str, int], list[bytes]] = {}

    async def run(self) -> None:
        for _ in range(ROUNDS):
            step = self.rng.choice(
                [self.planned, self.planned, self.short, self.restore, self.delete, self.move]
            )
            with contextlib.suppress(*REFUSALS):
                await step(self.rng.choice(FILES))
            for _ in range(self.rng.randrange(20)):
                await asyncio.sleep(0)

    async def base(self, file_id: str) -> int:
        node = await self.bed.node(file_id)
        return 0 if node is None else node.version

    async def planned(self, file_id: str) -> None:
        """Sends what is asked for, and once more what is found missing."""
        parts = [self.rng.choice(PARTS) for _ in range(self.rng.choice([1, 2, 6]))]
        base = await self.base(file_id)
        begun = await self.bed.begin(file_id, base, planned=[entry(part) for part in parts])
        wanted = [part for part in parts if hash_of(part) in begun.required]
        for _ in range(self.rng.randrange(30)):
            await asyncio.sleep(0)
        for _ in range(4):
            if wanted:
                await self.bed.store_chunks(begun.id, [(None, part) for part in wanted])
            try:
                version = await self.bed.commit(begun.id, file_id, base + 1)
            except MissingChunksError as error:
                wanted = [part for part in parts if hash_of(part) in error.extra["missing_chunks"]]
                continue
            self.acknowledged[file_id, version] = parts
            return

    async def short(self, file_id: str) -> None:
        parts = [self.rng.choice(PARTS) for _ in range(2)]
        base = await self.base(file_id)
        begun = await self.bed.begin(file_id, base)
        await self.bed.store_chunks(begun.id, [(None, part) for part in parts])
        version = await self.bed.commit(begun.id, file_id, base + 1, [hash_of(part) for part in parts])
        self.acknowledged[file_id, version] = parts

    async def restore(self, file_id: str) -> None:
        base = await self.base(file_id)
        await self.bed.engine.change(
            NAMESPACE, plan_restore(file_id, max(1, base - self.rng.randrange(3)), base)
        )

    async def delete(self, file_id: str) -> None:
        await self.bed.delete(file_id, await self.base(file_id), end=self.rng.random() < 0.7)
        if self.rng.random() < 0.9:
            await self.bed.undelete(file_id)

    async def move(self, file_id: str) -> None:
        name = f"{file_id}-{self.rng.randrange(3)}"
        await self.bed.engine.change(
            NAMESPACE, lambda view: plan_move(view, Move(file_id, f"root:{NAMESPACE}", name))
        )


async def collect_on(bed: CollectorBed, rng: random.Random, done: asyncio.Event) -> None:
    while not done.is_set():
        bed.hands.pass_by(rng.choice([1, 1800, 4000, 4000]))
        try:
            report = await bed.collector().run()
        except CollectorBusyError:
            await asyncio.sleep(0)
            continue
        assert report.outcome == "complete", (report.reason, report.skipped)


async def check_versions(bed: CollectorBed) -> int:
    """Every manifest can be read; how many there are."""
    count = 0
    async for found in scan_manifests(bed.store, NAMESPACE):
        for file_id, version, manifest in found:
            count += 1
            assert await read(bed, manifest) is not None, (file_id, version)
    return count


async def read(bed: CollectorBed, manifest: Manifest) -> list[bytes]:
    entries = list(manifest.entries)
    if manifest.segments:
        entries = [
            each
            async for part in scan_list(bed.store, NAMESPACE, manifest.segments, manifest.count)
            for each in part
        ]
    for _, digest, _ in entries:
        kv = await bed.store.get(keys.chunk(NAMESPACE, digest))
        assert kv is not None
        assert records.decode(records.Chunk, kv.value).state in {CHUNK_LIVE, CHUNK_SOFT_DELETED}
    return [await bed.bytes_of(digest) for _, digest, _ in entries]


@pytest.mark.parametrize("seed", range(12))
async def test_what_was_acknowledged_can_be_read_and_the_rest_goes(
    seed: int, monkeypatch: pytest.MonkeyPatch
):
    for module in (commit_module, preparation, targets, uploads):
        monkeypatch.setattr(module, "INLINE_ENTRIES", 4)
    store = MemoryStore()
    await make_cluster(store)
    rng = random.Random(seed)
    bed = CollectorBed(store, seed=seed)
    bed.rules = msgspec.structs.replace(
        RULES, upload_idle=30 * DAY, upload_max=30 * DAY, retained_deleted=2 * HOUR
    )
    writers = [Writer(bed.beside(), rng.randrange(1 << 30)) for _ in range(4)]
    done = asyncio.Event()
    collecting = [asyncio.create_task(collect_on(bed.beside(), rng, done)) for _ in range(2)]
    await asyncio.gather(*(writer.run() for writer in writers))
    done.set()
    await asyncio.gather(*collecting)
    acknowledged = {key: parts for writer in writers for key, parts in writer.acknowledged.items()}
    assert len(acknowledged) > 3
    await check_versions(bed)
    for (file_id, version), parts in acknowledged.items():
        kv = await bed.store.get(keys.manifest(NAMESPACE, file_id, version))
        if kv is not None:
            assert await read(bed, records.decode(Manifest, kv.value)) == parts
    for file_id in FILES:
        node = await bed.node(file_id)
        if node is not None and node.state == 0 and node.version:
            await bed.read(file_id)
            await bed.delete(file_id, node.version, end=True)
    for kvs in [kvs async for kvs in store.scan(*keys.work_range())]:
        for kv in kvs:
            await bed.deletions.advance(*keys.parse_work(kv.key))
    await bed.collect()
    await bed.quiet(5, after=31 * DAY)
    assert await bed.digests() == set()
    assert await bed.object_names() == []
    left = {kv.key async for kvs in store.scan(b"n/", b"n0") for kv in kvs}
    assert left == {keys.head(NAMESPACE)}


async def test_a_commit_that_meets_the_removal_of_its_chunk_wins_or_hears_what_is_missing():
    """At each call of a collection that removes a chunk, a commit of it runs in between."""
    outcomes = set()
    for place in range(40):
        store = MemoryStore()
        await make_cluster(store)
        bed = CollectorBed(store)
        begun = await bed.begin("junk")
        await bed.store_chunks(begun.id, {None: b"wanted"})
        await bed.begin("kept")
        bed.rules = msgspec.structs.replace(RULES, upload_idle=HOUR)
        await bed.collect()
        await bed.collect(after=2 * HOUR)
        writer = bed.beside()
        upload = await writer.begin("f")  # pins nothing
        ids = [hash_of(b"wanted")]
        bed.hands.pass_by(2 * HOUR)
        meddler = Meddler(store, place, partial(writer.commit, upload.id, "f", 1, ids))
        frail = bed.beside(meddler)
        frail.rules = msgspec.structs.replace(RULES, upload_idle=DAY)
        report = await frail.collector().run()
        assert report.outcome == "complete", report.reason
        outcomes.add(meddler.outcome)
        bed.rules = RULES
        await bed.quiet(2, after=1800)
        if meddler.outcome == "1":
            assert await bed.read("f") == b"wanted"
        elif meddler.outcome == "missing_chunks":
            await writer.store_chunks(upload.id, {None: b"wanted"})
            assert await writer.commit(upload.id, "f", 1, ids) == 1
        await bed.quiet(2)
        if meddler.outcome in {"1", "missing_chunks"}:
            assert await bed.read("f") == b"wanted"
    assert outcomes == {"1", "missing_chunks", "never"}


async def test_a_chunk_that_is_stored_again_while_it_is_removed_stays_stored():
    """At each call of a collection that removes a chunk, its bytes are stored anew under an open upload."""
    outcomes = set()
    for place in range(40):
        store = MemoryStore()
        await make_cluster(store)
        bed = CollectorBed(store)
        upload = await bed.begin("given-up")
        await bed.store_chunks(upload.id, {None: b"wanted"})
        bed.rules = msgspec.structs.replace(RULES, upload_idle=HOUR)
        await bed.collect()
        await bed.collect(after=2 * HOUR)
        writer = bed.beside()
        begun = await writer.begin("f", planned=[entry(b"wanted")])
        assert begun.required == [hash_of(b"wanted")]
        bed.hands.pass_by(2 * HOUR)
        meddler = Meddler(store, place, partial(writer.store_chunks, begun.id, {None: b"wanted"}))
        frail = bed.beside(meddler, rules=RULES)
        # Without the plan's pin: what is stored must hold by itself.
        unpinned = records.encode(records.Upload(1, NAMESPACE, 0, "p1", []))
        kept = await store.get(keys.upload(NAMESPACE, begun.id))
        await store.transact(Txn(then=(Put(kept.key, unpinned),)))
        report = await frail.collector().run()
        assert report.outcome == "complete", report.reason
        await store.transact(Txn(then=(Put(kept.key, kept.value),)))
        outcomes.add(meddler.outcome)
        if meddler.outcome == "None":
            assert await writer.commit(begun.id, "f", 1) == 1
            await bed.quiet(3)
            assert await bed.read("f") == b"wanted"
    assert outcomes == {"None", "never"}


async def test_a_commit_that_meets_the_condemning_of_its_chunk_leaves_it_live():
    """At each call of a collection that condemns a chunk, a commit of it runs in between."""
    outcomes = set()
    for place in range(40):
        store = MemoryStore()
        await make_cluster(store)
        bed = CollectorBed(store)
        given_up = await bed.begin("given-up")
        await bed.store_chunks(given_up.id, {None: b"wanted"})
        await store.transact(
            Txn(
                then=(
                    Delete(keys.upload(NAMESPACE, given_up.id)),
                    Delete(*keys.stored_range(NAMESPACE, given_up.id)),
                )
            )
        )
        writer = bed.beside()
        upload = await writer.begin("f")  # pins nothing
        meddler = Meddler(store, place, partial(writer.commit, upload.id, "f", 1, [hash_of(b"wanted")]))
        report = await bed.beside(meddler).collector().run()
        assert report.outcome == "complete", report.reason
        outcomes.add(meddler.outcome)
        chunk = await bed.chunk(b"wanted")
        assert chunk is not None
        assert (chunk.state == CHUNK_LIVE) == (meddler.outcome == "1"), place
    assert outcomes == {"1", "never"}


async def test_a_list_that_gets_a_name_while_it_is_deleted_stays(monkeypatch: pytest.MonkeyPatch):
    """At each call of the collection that would delete its segments, a commit that was prepared long ago comes."""
    monkeypatch.setattr(segments, "SEGMENT_ENTRIES", 2)
    monkeypatch.setattr(scan, "SEGMENT_ENTRIES", 2)
    outcomes = set()
    for place in range(40):
        store = MemoryStore()
        await make_cluster(store)
        bed = CollectorBed(store)
        await bed.write("f", 0, {"a": b"content"})
        listed = [entry(b"content")] * 5
        await segments.write_segments(store, NAMESPACE, {"fgone.list": listed}, b"first")
        await bed.collect()
        bed.hands.pass_by(2 * HOUR)
        summary = summarize(listed)

        def name_it(view: View, summary: Summary = summary) -> None:
            node = view.record(Node, keys.node(NAMESPACE, "f"))
            manifest = view.record(Manifest, keys.manifest(NAMESPACE, "f", 1))
            if None in view.present(segments.segment_keys(NAMESPACE, "fgone.list", 5)):
                raise MissingChunksError("A generation of the head later all is prepared again.")
            assert node is not None
            assert manifest is not None
            named = msgspec.structs.replace(
                manifest,
                size=summary.size,
                digest=summary.digest,
                count=5,
                segments="fgone.list",
                entries=[],
            )
            view.put(keys.manifest(NAMESPACE, "f", 2), named)
            put_node(view, "commit", "f", msgspec.structs.replace(node, version=2, size=summary.size))

        meddler = Meddler(store, place, partial(bed.beside().engine.change, NAMESPACE, name_it))
        report = await bed.beside(meddler).collector().run()
        assert report.outcome == "complete", (report.reason, report.skipped)
        outcomes.add((meddler.outcome, report.let_go["lists"]))
    assert outcomes == {("None", 0), ("missing_chunks", 1), ("never", 1)}


async def test_what_is_brought_back_while_the_feed_is_cut_is_no_tombstone():
    """At each call of a collection that cuts the feed behind a deletion, it is undone."""
    outcomes = set()
    for place in range(40):
        store = MemoryStore()
        await make_cluster(store)
        bed = CollectorBed(store)
        bed.rules = msgspec.structs.replace(RULES, retained_feed=HOUR)
        await bed.write("f", 0, {"a": b"content"})
        await bed.delete("f", 1, end=True)
        await bed.collect()
        bed.hands.pass_by(2 * HOUR)
        meddler = Meddler(store, place, partial(bed.beside().undelete, "f"))
        report = await bed.beside(meddler).collector().run()
        assert report.outcome == "complete", (report.reason, report.skipped)
        assert report.let_go["journal"] >= 3
        outcomes.add(meddler.outcome == "never")
        await bed.undelete("f")
        assert await bed.read("f") == b"content"
    assert outcomes == {True, False}


class Meddler:
    """Before a store: does something else ahead of the call of this number."""

    def __init__(self, inner, place, meddle):
        self._inner, self._place, self._meddle = inner, place, meddle
        self._calls = 0
        self.outcome = "never"

    def __getattr__(self, name):
        method = getattr(self._inner, name)

        async def call(*args, **options):
            self._calls += 1
            if self._calls == self._place:
                try:
                    self.outcome = str(await self._meddle())
                except MoorageError as error:
                    self.outcome = error.word
            return await method(*args, **options)

        return method if name in {"scan", "watch"} else call
