"""Versions of files and the chunks they are made of, as L2 reads them.

Which version is the newest is never remembered: each call reads it at the namespace's head. Manifests and segments
are immutable, so segments of long lists are kept in memory, up to a bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from moorage.core.errors import DamagedTreeError, GoneError, NotFoundError, StoreUnavailableError
from moorage_nodes.lru import Lru
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.files import EMPTY_DIGEST
from moorage_nodes.metadata.l1.tree import observe_live_file
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata.records import SEGMENT_ENTRIES, Entry, Manifest, Node, Segment
from moorage_nodes.metadata.view import View
from moorage_nodes.stores.contracts import MetadataStore

SEGMENT_CACHE_BYTES = 16 * 1024 * 1024
MAX_CACHED_LISTS = 1024  # long lists whose segments' places are remembered
MAX_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file: `count` chunks, `inline` or in segments under `segments`. `modified`: Unix ms."""

    namespace: str
    file_id: str
    name: str
    number: int
    size: int
    digest: bytes
    modified: int
    count: int
    segments: str
    inline: Sequence[Entry]


def observe_readable_file(view: View, file_id: str) -> Node:
    """The one place where L2 decides whether a file may be read: live, and so is all above it."""
    return observe_live_file(view, file_id)


class Contents:
    """One instance per process."""

    def __init__(self, store: MetadataStore, namespaces: Namespaces) -> None:
        self._store = store
        self._namespaces = namespaces
        self._segments: Lru[bytes, bytes] = Lru(SEGMENT_CACHE_BYTES)
        self._starts: Lru[tuple[str, str], list[int]] = Lru(MAX_CACHED_LISTS)

    async def find(self, namespace: str, file_id: str, number: int | None = None) -> Version:
        """A version, the newest without `number`; linearizable.

        `NotFoundError` for a file that is unknown, and for a version yet to come; `GoneError` for a deleted file
        and for a version whose content is not kept.
        """
        for _ in range(MAX_ATTEMPTS):
            node = await self._namespaces.read(namespace, lambda view: observe_readable_file(view, file_id))
            wanted = node.version if number is None else number
            if wanted > node.version:
                raise NotFoundError(f"{file_id!r} has no version {wanted}; its newest is {node.version}.")
            if node.version == 0:
                return Version(namespace, file_id, node.name, 0, 0, EMPTY_DIGEST, node.modified, 0, "", ())
            kv = await self._store.get(keys.manifest(namespace, file_id, wanted))
            if kv is not None:
                found = records.decode(Manifest, kv.value)
                return Version(
                    namespace,
                    file_id,
                    node.name,
                    wanted,
                    found.size,
                    found.digest,
                    found.modified,
                    found.count,
                    found.segments,
                    found.entries,
                )
            if number is not None:
                raise GoneError(f"The content of version {number} of {file_id!r} is not kept any more.")
            # A newer version came, and retention let go of this one, between our two reads.
        raise StoreUnavailableError("This file changes faster than it can be read; try again.")

    async def entries(self, version: Version, first: int, limit: int) -> Sequence[Entry]:
        """Up to `limit` entries from `first` on; fewer only at the end of the list, or of a segment."""
        if not version.segments:
            return version.inline[first : first + limit]
        if first >= version.count:
            return ()
        index, skip = divmod(first, SEGMENT_ENTRIES)
        return (await self._segment(version, index))[skip : skip + limit]

    async def seek(self, version: Version, offset: int) -> int:
        """The index of the entry that holds the byte at `offset`; the number of entries when none does."""
        if not version.segments:
            return _seek(version.inline, 0, offset)
        starts = await self._starts_of(version)
        index = max(place for place, start in enumerate(starts) if start <= offset)
        if index == len(starts) - 1:
            return version.count
        entries = await self._segment(version, index)
        return index * SEGMENT_ENTRIES + _seek(entries, starts[index], offset)

    async def position(self, version: Version, index: int) -> int:
        """The first byte of the entry at `index`."""
        if not version.segments:
            return _size_of(version.inline[:index])
        if index >= version.count:
            return version.size
        number, skip = divmod(index, SEGMENT_ENTRIES)
        start = (await self._starts_of(version))[number]
        return start + (_size_of((await self._segment(version, number))[:skip]) if skip else 0)

    async def _segment(self, version: Version, index: int) -> list[Entry]:
        key = keys.segment(version.namespace, version.segments, index)
        data = self._segments.get(key)
        if data is None:
            kv = await self._store.get(key)
            if kv is None:
                raise DamagedTreeError(f"Segment {index} of the list {version.segments!r} is missing.")
            data = kv.value
            self._segments.put(key, data, len(data))
        return records.decode(Segment, data).entries

    async def _starts_of(self, version: Version) -> list[int]:
        """Where each segment begins in the file, and behind them the file's end."""
        name = (version.namespace, version.segments)
        starts = self._starts.get(name)
        if starts is None:
            sizes = [
                _size_of(await self._segment(version, index))
                for index in range(-(-version.count // SEGMENT_ENTRIES))
            ]
            starts = [0, *accumulate(sizes)]
            self._starts.put(name, starts)
        return starts


def _size_of(entries: Sequence[Entry]) -> int:
    return sum([size for _, _, size in entries])


def _seek(entries: Sequence[Entry], start: int, offset: int) -> int:
    for index, (_, _, size) in enumerate(entries):
        start += size
        if offset < start:
            return index
    return len(entries)
