"""The chunks that a deletion lets go: those of all kept versions of the file, or of all files below a directory.

Read in parts of bounded memory, at no head: while the deletion is pending nothing of it can change, and when it is
cancelled meanwhile, a mark too many is advisory.
"""

from collections.abc import AsyncIterator, Iterable, Sequence

from moorage.core.ids import format_hash
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.segments import segment_keys
from moorage_nodes.metadata.records import FILE, Child, Deletion, Entry, Manifest, Segment
from moorage_nodes.stores.contracts import MetadataStore, Range

MARKED_TOGETHER = 1000
CHILDREN_TOGETHER = 1000
FILES_TOGETHER = 20
MANIFESTS_TOGETHER = 4  # of each file, up to 1,024 entries each


async def scan_chunks(store: MetadataStore, namespace: str, deletion: Deletion) -> AsyncIterator[list[str]]:
    """The hashes of the chunks, up to `MARKED_TOGETHER` at once; some may come twice."""
    waiting: dict[str, None] = {}
    async for file_ids in _scan_files(store, namespace, deletion):
        async for entries in _scan_entries(store, namespace, file_ids):
            waiting.update((format_hash(digest), None) for _, digest, _ in entries)
            while len(waiting) >= MARKED_TOGETHER:
                part = list(waiting)[:MARKED_TOGETHER]
                yield part
                for each in part:
                    del waiting[each]
    if waiting:
        yield list(waiting)


async def _scan_files(
    store: MetadataStore, namespace: str, deletion: Deletion
) -> AsyncIterator[Sequence[str]]:
    """The ids of the files, up to `FILES_TOGETHER` at once."""
    if deletion.kind == FILE:
        yield [deletion.node]
        return
    directories = [deletion.node]
    files: list[str] = []
    while directories:
        directory_id = directories.pop()
        after: str | None = None
        while True:
            start, end = keys.children_range(namespace, directory_id, after)
            found, _ = await store.range(start, end, limit=CHILDREN_TOGETHER)
            for kv in found.kvs:
                child = records.decode(Child, kv.value)
                if child.kind != FILE:
                    directories.append(child.id)
                    continue
                files.append(child.id)
                if len(files) >= FILES_TOGETHER:
                    yield files
                    files = []
            if len(found.kvs) < CHILDREN_TOGETHER:
                break
            after = keys.parse_child_name(namespace, directory_id, found.kvs[-1].key)
    if files:
        yield files


async def _scan_entries(
    store: MetadataStore, namespace: str, file_ids: Sequence[str]
) -> AsyncIterator[Iterable[Entry]]:
    """The lists of all kept versions of these files, part by part."""
    left = [Range(*keys.manifests_range(namespace, file_id), MANIFESTS_TOGETHER) for file_id in file_ids]
    while left:
        found = (await store.get_many(left)).ranges
        following: list[Range] = []
        for asked in left:
            kvs = found[asked].kvs
            for kv in kvs:
                manifest = records.decode(Manifest, kv.value)
                yield manifest.entries
                if manifest.segments:
                    async for entries in _scan_segments(store, namespace, manifest):
                        yield entries
            if len(kvs) == MANIFESTS_TOGETHER:
                following.append(Range(kvs[-1].key + b"\0", asked.end, MANIFESTS_TOGETHER))
        left = following


async def _scan_segments(
    store: MetadataStore, namespace: str, manifest: Manifest
) -> AsyncIterator[Iterable[Entry]]:
    for key in segment_keys(namespace, manifest.segments, manifest.count):
        segment = await store.get(key)
        if segment is not None:
            yield records.decode(Segment, segment.value).entries
