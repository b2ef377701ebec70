"""What L2 answers: the chunks of a version, for users with names and servers, for block servers with places."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from moorage.core.errors import DamagedTreeError, InvalidFieldError
from moorage.core.ids import format_hash
from moorage.core.routing import ClusterRoute, block_prefix
from moorage.core.wire import ChunkEntry, ChunksAnswer
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.bulk_reads import read_keys
from moorage_nodes.metadata.l2.contents import Contents, Version
from moorage_nodes.metadata.names import read_names
from moorage_nodes.metadata.records import (
    CHUNK_DAMAGED,
    CHUNK_STATE_NAMES,
    SEGMENT_ENTRIES,
    Chunk,
    Entry,
)
from moorage_nodes.peer_api import MANIFEST_PAGE_CHUNKS, ManifestAnswer, ManifestChunk, ManifestRequest
from moorage_nodes.stores.contracts import MetadataStore

_ANSWER_BEGINS = b'{"chunks":['


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: a listing stays with the version that it began with."""

    version: int
    index: int


def parse_cursor(text: str) -> Cursor:
    version, _, index = text.partition(".")
    if not (
        version.isascii() and version.isdigit() and index.isascii() and index.isdigit() and len(text) < 34
    ):
        raise InvalidFieldError("`cursor` must be one that a listing answered with.", field="cursor")
    return Cursor(int(version), int(index))


def format_cursor(cursor: Cursor) -> str:
    return f"{cursor.version}.{cursor.index}"


@dataclass(frozen=True, slots=True)
class ServerNames:
    """How the caller reaches the servers: `host` is one of ours, `cluster` the caller's."""

    host: str
    l3_server: str
    cluster: ClusterRoute


class Listing:
    def __init__(self, store: MetadataStore, contents: Contents) -> None:
        self._store = store
        self._contents = contents

    async def chunks_answer(
        self, version: Version, first: int, limit: int | None, names: ServerNames, download_token: str
    ) -> bytes:
        """The JSON of a `ChunksAnswer`: the chunks from `first` on, all of them without `limit`. It is put
        together in parts: a list of 100,000 chunks is 20 MB, and nobody else should have to wait for it.
        """
        end = version.count if limit is None else min(first + limit, version.count)
        next_cursor: str | UnsetType | None = UNSET
        if limit is not None:
            next_cursor = format_cursor(Cursor(version.number, end)) if end < version.count else None
        parts = [part async for part in self._encoded_entries(version, first, end, names)]
        frame = ChunksAnswer(
            chunks=[], download_token=download_token, version=version.number, next_cursor=next_cursor
        )
        rest = msgspec.json.encode(frame).removeprefix(_ANSWER_BEGINS)
        return b"".join((_ANSWER_BEGINS, b",".join(parts), rest))

    async def manifest_answer(self, version: Version, request: ManifestRequest) -> ManifestAnswer:
        """One page for a block server."""
        index = request.index
        if request.offset is not None:
            index = await self._contents.seek(version, request.offset)
        entries = await self._contents.entries(version, index, MANIFEST_PAGE_CHUNKS)
        chunks = await self._chunks_of(version.namespace, entries)
        behind = index + len(entries)
        return ManifestAnswer(
            version=version.number,
            size=version.size,
            hash=format_hash(version.digest),
            modified=version.modified,
            name=version.name,
            count=version.count,
            index=index,
            start=await self._contents.position(version, index),
            chunks=[_manifest_chunk(entry, chunks.get(entry[1])) for entry in entries],
            next_index=behind if entries and behind < version.count else None,
        )

    async def _encoded_entries(
        self, version: Version, first: int, end: int, names: ServerNames
    ) -> AsyncIterator[bytes]:
        offset = await self._contents.position(version, first)
        while first < end:
            entries = await self._contents.entries(version, first, min(SEGMENT_ENTRIES, end - first))
            if not entries:
                raise DamagedTreeError(f"The list of {version.file_id!r} ends before its end.")
            servers = await self._block_servers(version.namespace, entries, names)
            named = [name for name, _, _ in entries if name is not None]
            meanings = await read_names(self._store, version.namespace, named)
            answered = []
            for name, digest, size in entries:
                formatted = format_hash(digest)
                # A name that has moved on would lead to other bytes.
                chunk_id = name if name is not None and meanings.get(name) == digest else formatted
                answered.append(
                    ChunkEntry(
                        chunk_id=chunk_id,
                        l3_server=names.l3_server,
                        block_server=servers[digest],
                        offset=offset,
                        size=size,
                        hash=formatted,
                    )
                )
                offset += size
            yield msgspec.json.encode(answered)[1:-1]
            first += len(entries)

    async def _block_servers(
        self, namespace: str, entries: Sequence[Entry], names: ServerNames
    ) -> Mapping[bytes, str]:
        """Of each chunk, by digest, the servers of the pool that holds it. Where the cluster has one pool only,
        no record need be asked: a pool that holds chunks is not taken off a cluster.
        """
        servers = {pool: names.host + block_prefix(pool) for pool in names.cluster.pools}
        if len(servers) == 1:
            return dict.fromkeys((digest for _, digest, _ in entries), *servers.values())
        chunks = await self._chunks_of(namespace, entries)
        anywhere = next(iter(servers.values()))
        return {
            digest: servers.get(chunks[digest].pool, anywhere) if digest in chunks else anywhere
            for _, digest, _ in entries
        }

    async def _chunks_of(self, namespace: str, entries: Sequence[Entry]) -> Mapping[bytes, Chunk]:
        """The records of these chunks, by digest."""
        wanted = {keys.chunk(namespace, digest): digest for _, digest, _ in entries}
        found = await read_keys(self._store, list(wanted))
        return {wanted[key]: records.decode(Chunk, kv.value) for key, kv in found.items()}


def _manifest_chunk(entry: Entry, chunk: Chunk | None) -> ManifestChunk:
    """A chunk that has lost its record is told as damaged: the others can be read all the same."""
    name, digest, size = entry
    if chunk is None:
        chunk = Chunk(1, size, "", "", 0, size, CHUNK_DAMAGED)
    return ManifestChunk(
        hash=format_hash(digest),
        size=size,
        pool=chunk.pool,
        object=chunk.object,
        offset=chunk.offset,
        state=CHUNK_STATE_NAMES[chunk.state],
        name=name,
    )
