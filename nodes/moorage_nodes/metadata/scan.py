"""Reading whole namespaces with bounded memory, and what of their chunks is reachable: for collector and fsck.

**What holds a chunk.** A reference is a chunk's presence in a list: of a manifest, of a plan of an open upload (its
pins), or of what was stored under an open upload. Every manifest that exists counts, whether its file is live, old or
in the trash: what retention and the trash let go is taken away as manifests first, so nothing else need be asked.

Scans come in batches as the store gives them (RangeStream where etcd has it, pages elsewhere). With a `revision` all
is read there, and `CompactedError` raised when that goes. Without one a scan begins at the newest revision and, when
that is compacted meanwhile, goes on behind the last key at a newer one: so it gives every key once that was there
from its beginning to its end, and of the others some.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TypeVar

from msgspec import Struct

from moorage.core.errors import CompactedError, DamagedTreeError, StoreUnavailableError
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import (
    SEGMENT_ENTRIES,
    Chunk,
    Entry,
    Manifest,
    Node,
    Segment,
    Stored,
    Trash,
    Upload,
)
from moorage_nodes.stores.contracts import KeyValue, MetadataStore, Range

R = TypeVar("R", bound=Struct)
SEGMENTS_TOGETHER = 4  # read at once, about 700 kB with usual names
NAMESPACES_END = b"n0"  # behind "n/"
MAX_FAILURES = 3  # of one read, one after the other
FAILURE_PAUSE = 0.1  # seconds, and more each time


async def scan_namespaces(
    store: MetadataStore, *, revision: int = 0, begin_at: str = ""
) -> AsyncIterator[str]:
    """Every namespace from `begin_at` on that has any key, in byte order; one small read each."""
    start = b"n/" + begin_at.encode()
    while True:
        found, _ = await store.range(start, NAMESPACES_END, revision=revision, limit=1, keys_only=True)
        if not found.kvs:
            return
        namespace = found.kvs[0].key.split(b"/", 2)[1]
        yield namespace.decode()
        start = b"n/" + namespace + b"0"  # behind all that begins with "n/<namespace>/"


async def scan_range(
    store: MetadataStore, start: bytes, end: bytes, *, revision: int = 0, keys_only: bool = False
) -> AsyncIterator[Sequence[KeyValue]]:
    """Every key of the range, in order (see above). A read that fails is tried again behind the last key, a few times:
    a store that is busy must not end what has read for minutes.
    """
    failures = 0
    while True:
        try:
            async for kvs in store.scan(start, end, revision=revision, keys_only=keys_only):
                yield kvs
                start, failures = kvs[-1].key + b"\0", 0
        except CompactedError:
            if revision:
                raise
        except StoreUnavailableError:
            failures += 1
            if failures > MAX_FAILURES:
                raise
            await asyncio.sleep(FAILURE_PAUSE * failures)
        else:
            return


async def scan_kind(
    store: MetadataStore, namespace: str, kind: str, *, revision: int = 0, keys_only: bool = False
) -> AsyncIterator[Sequence[KeyValue]]:
    """All keys of one letter of a namespace (metadata/keys.py)."""
    async for kvs in scan_range(
        store, *keys.kind_range(namespace, kind), revision=revision, keys_only=keys_only
    ):
        yield kvs


async def scan_records(
    store: MetadataStore,
    namespace: str,
    kind: str,
    record: type[R],
    parse: Callable[[bytes], str],
    *,
    revision: int = 0,
) -> AsyncIterator[list[tuple[str, KeyValue, R]]]:
    """All records of one letter: (what `parse` takes from the key, the key as read, its record)."""
    async for kvs in scan_kind(store, namespace, kind, revision=revision):
        yield [(parse(kv.key), kv, records.decode(record, kv.value)) for kv in kvs]


def scan_nodes(
    store: MetadataStore, namespace: str, *, revision: int = 0
) -> AsyncIterator[list[tuple[str, KeyValue, Node]]]:
    """Directories and files, by id."""
    return scan_records(store, namespace, "i", Node, keys.parse_node_id, revision=revision)


def scan_trash(
    store: MetadataStore, namespace: str, *, revision: int = 0
) -> AsyncIterator[list[tuple[str, KeyValue, Trash]]]:
    return scan_records(store, namespace, "t", Trash, keys.parse_node_id, revision=revision)


def scan_uploads(
    store: MetadataStore, namespace: str, *, revision: int = 0
) -> AsyncIterator[list[tuple[str, KeyValue, Upload]]]:
    """Open uploads, by id."""
    return scan_records(store, namespace, "u", Upload, keys.parse_upload_id, revision=revision)


def scan_stored(
    store: MetadataStore, namespace: str, *, revision: int = 0
) -> AsyncIterator[list[tuple[str, KeyValue, Stored]]]:
    """What calls stored, by the id of their upload."""
    return scan_records(store, namespace, "s", Stored, keys.parse_stored_upload, revision=revision)


async def scan_chunks(
    store: MetadataStore, namespace: str, *, revision: int = 0
) -> AsyncIterator[list[tuple[bytes, KeyValue, Chunk]]]:
    """L3 records: (digest, the key as read, the record), in byte order of the digests."""
    async for kvs in scan_kind(store, namespace, "k", revision=revision):
        chunks = records.decode_all(Chunk, (kv.value for kv in kvs))
        yield [(kv.key[-32:], kv, chunk) for kv, chunk in zip(kvs, chunks, strict=True)]


async def scan_manifests(
    store: MetadataStore, namespace: str, *, revision: int = 0
) -> AsyncIterator[list[tuple[str, int, Manifest]]]:
    """(file id, version, manifest), all versions of a file together, the oldest first."""
    async for kvs in scan_kind(store, namespace, "m", revision=revision):
        yield [(*keys.parse_manifest(kv.key), records.decode(Manifest, kv.value)) for kv in kvs]


async def scan_versions(
    store: MetadataStore, namespace: str, *, more_than: int = 0, revision: int = 0
) -> AsyncIterator[list[tuple[str, list[int]]]]:
    """Of each file that has content of more than so many versions: (file id, those versions, ascending). From the
    keys alone.
    """
    file, run = b"", list[bytes]()
    async for kvs in scan_kind(store, namespace, "m", revision=revision, keys_only=True):
        found = []
        for kv in kvs:
            key = kv.key
            if key[:-13] == file:  # all but "/" and 12 digits
                run.append(key)
                continue
            if len(run) > more_than:
                found.append(_versions_of(run))
            file, run = key[:-13], [key]
        yield found
    if len(run) > more_than:
        yield [_versions_of(run)]


def _versions_of(run: Sequence[bytes]) -> tuple[str, list[int]]:
    return keys.parse_manifest(run[0])[0], [int(key[-12:], 16) for key in run]


async def scan_list(
    store: MetadataStore, namespace: str, base: str, count: int, *, revision: int = 0
) -> AsyncIterator[list[Entry]]:
    """A long list, segment by segment; `DamagedTreeError` when one of them is not there."""
    places = -(-count // SEGMENT_ENTRIES)
    for first in range(0, places, SEGMENTS_TOGETHER):
        wanted: list[bytes | Range] = [
            keys.segment(namespace, base, place)
            for place in range(first, min(first + SEGMENTS_TOGETHER, places))
        ]
        found = (await store.get_many(wanted, revision=revision)).found
        for key in wanted:
            if key not in found:
                raise DamagedTreeError(f"Segments of the list {base!r} are missing.")
            yield records.decode(Segment, found[key].value).entries  # type: ignore[index]


def find_past_versions(versions: Sequence[int], retained: int) -> Sequence[int]:
    """Of the versions of a file that have content, ascending, those that retention lets go: all but the newest
    `retained`. The rule of `retention.versions`.
    """
    return versions[: max(len(versions) - retained, 0)]


async def scan_references(
    store: MetadataStore, namespace: str, on_list: Callable[[str], None], *, revision: int = 0
) -> AsyncIterator[Iterable[bytes]]:
    """The digests of all chunks that something holds, in batches, many of them more than once.

    `on_list` is told the base of every long list that is read on the way. `DamagedTreeError` when one is not whole:
    who wants to take something away must not go on then.
    """
    read: set[str] = set()  # lists are shared by restored versions; those of one file follow one another

    async def scan_long(base: str, count: int) -> AsyncIterator[Iterable[bytes]]:
        if base in read:
            return
        if len(read) >= _MAX_REMEMBERED_LISTS:
            read.clear()
        read.add(base)
        on_list(base)
        async for entries in scan_list(store, namespace, base, count, revision=revision):
            yield [digest for _, digest, _ in entries]

    async for kvs in scan_kind(store, namespace, "m", revision=revision):
        manifests = records.decode_all(Manifest, (kv.value for kv in kvs))
        yield [entry[1] for manifest in manifests for entry in manifest.entries]
        for manifest in manifests:
            if manifest.segments:
                async for digests in scan_long(manifest.segments, manifest.count):
                    yield digests
    is_open: set[str] = set()
    async for uploads in scan_uploads(store, namespace, revision=revision):
        is_open.update(upload_id for upload_id, _, _ in uploads)
        for _, _, upload in uploads:
            for file in upload.files:
                yield [digest for _, digest, _ in file.entries]
                if file.segments:
                    async for digests in scan_long(file.segments, file.count):
                        yield digests
    async for stored in scan_stored(store, namespace, revision=revision):
        for upload_id, _, call in stored:
            if upload_id in is_open:
                yield [digest for _, digest, _ in call.entries]


_MAX_REMEMBERED_LISTS = 4096
