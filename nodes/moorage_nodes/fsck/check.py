"""The check of a live system: namespace by namespace, each at one revision of the store (DESIGN.md, Invariants).

**No false findings.** What etcd holds is compared at one revision. The bucket is listed *before* that. An object that
the registry names and the list lacks may have been stored since the list was begun; then the object itself is asked.
It may have been moved or collected since; so the record is read once more before anything is told. And an object of an
upload that has ended before the revision, which the registry does not name there, never will be named.

**Bounded memory.** One pass over the keys; what must be compared with one another is dealt out to parts by hash,
beyond a bound in temporary files. What grows is a few bytes per directory, and what is told.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from moorage.core.errors import CompactedError, DamagedTreeError, StoreUnavailableError
from moorage.core.ids import format_hash
from moorage_nodes.fsck.chunks import Trouble, check_chunks, join_objects
from moorage_nodes.fsck.findings import Finding, Findings
from moorage_nodes.fsck.objects import ObjectsCheck
from moorage_nodes.fsck.partitions import PARTS, Partitions
from moorage_nodes.fsck.pools import Pool
from moorage_nodes.fsck.tables import Tables, segments_of, summarize
from moorage_nodes.fsck.tree import check_tree
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.records import Entry
from moorage_nodes.metadata.scan import scan_list, scan_manifests, scan_namespaces, scan_range
from moorage_nodes.stores.contracts import KeyValue, MetadataStore, prefix_end

MAX_ATTEMPTS = 5  # at a namespace that is compacted away while it is read
MAX_EXPLAINED = 1000  # troubles whose files are looked up
FILES_NAMED = 3  # of each

_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Progress:
    """Where a check stands; the numbers only rise."""

    namespaces: int = 0
    keys: int = 0
    files: int = 0
    chunks: int = 0
    bytes_read: int = 0
    findings: int = 0


@dataclass(slots=True)
class Result:
    """`counts`: files, directories, manifests, chunks, bytes (as the registry has them), keys, objects."""

    findings: Findings = field(default_factory=Findings)
    namespaces: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    bytes_read: int = 0

    @property
    def is_clean(self) -> bool:
        return not self.findings.total()


OnProgress = Callable[[Progress], None]


def ignore_progress(_: Progress) -> None:
    """For who wants none."""


async def check_store(
    store: MetadataStore,
    pools: Mapping[str, Pool],
    *,
    deep: bool = False,
    namespaces: Iterable[str] | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Result:
    """Check a cluster's metadata, and the bytes of the pools that are given. Writes nothing.

    `deep` reads all bytes again. `namespaces`: only these, and nothing of the cluster. Raises
    `StoreUnavailableError` when something cannot be read: then nothing is proved.
    """
    result, progress = Result(), Progress()
    seen: set[str] = set()
    async for namespace in _named(namespaces) if namespaces is not None else scan_namespaces(store):
        check = _NamespaceCheck(
            store, pools, namespace, deep=deep, progress=progress, on_progress=on_progress
        )
        tables = await check.run()
        seen.add(namespace)
        result.findings.merge(tables.findings)
        result.namespaces += 1
        for name, number in tables.counts.items():
            result.counts[name] = result.counts.get(name, 0) + number
        progress.namespaces = result.namespaces
        progress.findings = result.findings.total()
        on_progress(progress)
    if namespaces is None:
        await _check_cluster(store, result.findings, seen)
    result.bytes_read = progress.bytes_read
    return result


async def _named(namespaces: Iterable[str]) -> AsyncIterator[str]:
    for namespace in namespaces:
        yield namespace


async def _ahead(batches: AsyncIterator[Sequence[KeyValue]]) -> AsyncIterator[Sequence[KeyValue]]:
    """The same batches; the next one is on its way from etcd while one is looked at."""

    async def take() -> Sequence[KeyValue] | None:
        return await anext(batches, None)

    upcoming = asyncio.create_task(take())
    try:
        while (kvs := await upcoming) is not None:
            upcoming = asyncio.create_task(take())
            await asyncio.sleep(0)  # it is asked for now
            yield kvs
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)


async def _check_cluster(store: MetadataStore, findings: Findings, seen: set[str]) -> None:
    """The cluster's own keys, and work of namespaces that have nothing else."""
    for key in (keys.INCARNATION, keys.REALM, keys.FORMAT):
        if await store.get(key) is None:
            findings.add("identity_wrong", "", key.decode(), "It is missing.")
    for start, end in (keys.work_range(), keys.parked_range()):
        async for kvs in scan_range(store, start, end, keys_only=True):
            for namespace, notification_id in [keys.parse_work(kv.key) for kv in kvs]:
                # A namespace that began after it was looked for has at least its head by now.
                if namespace not in seen and await store.get(keys.head(namespace)) is None:
                    findings.add("work_dangling", namespace, notification_id)


class _NamespaceCheck:
    """One namespace, in as many attempts as it takes to read it at one revision."""

    def __init__(
        self,
        store: MetadataStore,
        pools: Mapping[str, Pool],
        namespace: str,
        *,
        deep: bool,
        progress: Progress,
        on_progress: OnProgress,
    ) -> None:
        self._store = store
        self._pools = pools
        self._namespace = namespace
        self._deep = deep
        self._progress = progress
        self._on_progress = on_progress
        self._findings = Findings()
        self._revision = 0  # at which all of etcd is read
        self._listed_at = 0  # before which the bucket was not listed

    async def run(self) -> Tables:
        for _ in range(MAX_ATTEMPTS):
            self._findings = Findings()
            tables = Tables(self._namespace, self._findings)
            try:
                await self._check(tables)
            except CompactedError:
                continue
            else:
                return tables
            finally:
                tables.close()
        raise StoreUnavailableError(
            f"The store forgets its past faster than the namespace {self._namespace!r} can be read."
        )

    async def _check(self, tables: Tables) -> None:
        self._listed_at = await self._newest()
        listed = {name: await self._list(pool, tables) for name, pool in self._pools.items()}
        try:
            self._revision = await self._newest()
            await self._read(tables)
            await self._check_lists(tables)
            await self._check_work(tables)
            for _ in check_tree(tables):
                await asyncio.sleep(0)
            await self._check_chunks(tables)
            await self._check_objects(tables, listed)
        finally:
            for partitions in listed.values():
                partitions.close()

    async def _newest(self) -> int:
        return (await self._store.get_many([keys.head(self._namespace)])).revision

    async def _list(self, pool: Pool, tables: Tables) -> Partitions:
        listed = Partitions()
        count = 0
        async for page in pool.list_objects(self._namespace):
            for name, size in page:
                listed.parts[hash(name) % PARTS].append(_encode((name, size)))
            count += len(page)
            listed.settle()
        tables.counts["objects"] = tables.counts.get("objects", 0) + count
        return listed

    async def _read(self, tables: Tables) -> None:
        prefix = keys.namespace_prefix(self._namespace)
        before = self._progress.keys, self._progress.files, self._progress.chunks
        batches = scan_range(self._store, prefix, prefix_end(prefix), revision=self._revision)
        async for kvs in _ahead(batches):
            tables.read(kvs)
            tables.settle()
            counts = tables.counts
            self._progress.keys = before[0] + counts["keys"]
            self._progress.files = before[1] + counts["files"]
            self._progress.chunks = before[2] + counts["chunks"]
            self._on_progress(self._progress)

    # --- lists and work

    async def _check_lists(self, tables: Tables) -> None:
        """Long lists, segment by segment; their chunks count as needed when a manifest names the list."""
        for base, (count, size, digest, is_kept) in tables.bases.items():
            kind = "segment_missing" if is_kept else "upload_wrong"
            if tables.segments.pop(base, 0) < segments_of(count):
                self._findings.add(kind, self._namespace, base, "Not all of its segments are there.")
                continue
            entries: list[Entry] = []
            try:
                async for part in scan_list(
                    self._store, self._namespace, base, count, revision=self._revision
                ):
                    entries.extend(part)
                    if is_kept:
                        tables.refer(part)
                    tables.settle()
            except (DamagedTreeError, msgspec.DecodeError) as error:
                self._findings.add(kind, self._namespace, base, f"{error}")
                continue
            summary = summarize(entries)
            if summary[0] != count or (is_kept and summary[1:] != (size, digest)):
                self._findings.add(
                    kind, self._namespace, base, "Its segments do not add up to what its manifest says."
                )
        self._findings.count("segment_unreferenced", sum(tables.segments.values()))
        for upload_id, calls in tables.calls.items():
            if upload_id not in tables.uploads:
                self._findings.count("stored_leftover", calls)

    async def _check_work(self, tables: Tables) -> None:
        """A deletion that is under way waits for a server of ours (`w`), or for its clients (`p`)."""
        found: set[str] = set()
        for prefix in (keys.work(self._namespace, ""), keys.parked(self._namespace, "")):
            async for kvs in scan_range(
                self._store, prefix, prefix_end(prefix), revision=self._revision, keys_only=True
            ):
                found.update(keys.parse_work(kv.key)[1] for kv in kvs)
        for notification_id in sorted(tables.deletions.keys() - found):
            self._findings.add("work_missing", self._namespace, notification_id)
        for notification_id in sorted(found - tables.deletions.keys()):
            self._findings.add("work_dangling", self._namespace, notification_id)

    # --- chunks and objects

    async def _check_chunks(self, tables: Tables) -> None:
        troubles: list[Trouble] = []
        for trouble in check_chunks(tables):
            if trouble is None:
                await asyncio.sleep(0)
            elif len(troubles) < MAX_EXPLAINED:
                troubles.append(trouble)
            else:
                self._findings.count(trouble.kind, 1)
        await self._tell(troubles)

    async def _tell(self, troubles: Sequence[Trouble]) -> None:
        """Each trouble with the files that need the chunk."""
        if not troubles:
            return
        users = await self._find_users({trouble.digest for trouble in troubles})
        for trouble in troubles:
            files = users.get(trouble.digest, [])
            named = f" Needed by {', '.join(files)}." if files else " No kept version needs it."
            self._findings.add(
                trouble.kind, self._namespace, format_hash(trouble.digest), trouble.detail + named
            )

    async def _find_users(self, digests: set[bytes]) -> dict[bytes, list[str]]:
        """Which versions of files need these chunks: a few of each."""
        users: dict[bytes, list[str]] = {}

        def note(entries: Sequence[Entry], file_id: str, version: int) -> None:
            for digest in {digest for _, digest, _ in entries} & digests:
                known = users.setdefault(digest, [])
                if len(known) < FILES_NAMED:
                    known.append(f"{file_id} version {version}")

        async for manifests in scan_manifests(self._store, self._namespace, revision=self._revision):
            for file_id, version, manifest in manifests:
                note(manifest.entries, file_id, version)
                if not manifest.segments:
                    continue
                try:
                    async for part in scan_list(
                        self._store,
                        self._namespace,
                        manifest.segments,
                        manifest.count,
                        revision=self._revision,
                    ):
                        note(part, file_id, version)
                except (DamagedTreeError, msgspec.DecodeError):
                    continue  # told by itself
        return users

    async def _check_objects(self, tables: Tables, listed: Mapping[str, Partitions]) -> None:
        check = ObjectsCheck(
            self._store,
            self._pools,
            self._namespace,
            since=self._listed_at,
            deep=self._deep,
            on_read=self._on_read,
        )
        troubles: list[Trouble] = []
        unknown: set[str] = set()
        for each in join_objects(tables, listed, tables.uploads.__contains__):
            if each.pool not in self._pools:
                unknown.add(each.pool)
            elif not each.chunks:
                self._findings.add(
                    "orphan_object",
                    self._namespace,
                    each.name,
                    f"It has {each.size} bytes, in {each.pool!r}.",
                )
            else:
                troubles += await check.look_at(each)
        for pool in sorted(unknown):
            self._findings.add("pool_unknown", self._namespace, pool)
        troubles += await check.finish()
        await self._tell(troubles[:MAX_EXPLAINED])
        for trouble in troubles[MAX_EXPLAINED:]:
            self._findings.count(trouble.kind, 1)

    def _on_read(self, count: int) -> None:
        self._progress.bytes_read += count
        self._on_progress(self._progress)


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda each: (each.namespace, each.kind, each.subject))
