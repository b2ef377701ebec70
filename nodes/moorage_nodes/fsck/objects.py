"""Chunks and the objects that hold them: asked again wherever a change at the same time may explain what was seen."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from moorage.core.ids import format_hash
from moorage_nodes.fsck.chunks import Placed, StoredObject, Trouble
from moorage_nodes.fsck.pools import Pool
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.bulk_reads import read_keys
from moorage_nodes.metadata.records import CHUNK_DAMAGED, Chunk
from moorage_nodes.peer_api import MAX_VERIFIED_CHUNKS, VerifiedChunk
from moorage_nodes.stores.contracts import MetadataStore

VERIFIED_BYTES = 16 * 1024 * 1024  # of chunks in one question
PARALLEL_QUESTIONS = 2
HURT_TOGETHER = 1000

Question = tuple[str, VerifiedChunk]  # to which pool


class ObjectsCheck:
    """Of one namespace. `since`: the revision before which the bucket was not listed; `deep`: read all bytes;
    `on_read` is told how many were.
    """

    def __init__(
        self,
        store: MetadataStore,
        pools: Mapping[str, Pool],
        namespace: str,
        *,
        since: int,
        deep: bool,
        on_read: Callable[[int], None],
    ) -> None:
        self._store = store
        self._pools = pools
        self._namespace = namespace
        self._since = since
        self._deep = deep
        self._on_read = on_read
        self._hurt: list[tuple[StoredObject, Placed]] = []
        self._questions: list[Question] = []
        self._asked_bytes = 0

    async def look_at(self, stored: StoredObject) -> list[Trouble]:
        """Take one object; the troubles that are certain by now, of this and earlier ones."""
        hurt = stored.hurt()
        self._hurt += [(stored, chunk) for chunk in hurt]
        if self._deep:
            lost = {chunk.digest for chunk in hurt}
            whole = [chunk for chunk in stored.chunks if not chunk.is_damaged and chunk.digest not in lost]
            self._questions += [(stored.pool, _question(stored, chunk)) for chunk in whole]
            self._asked_bytes += sum(chunk.size for chunk in whole)
        troubles: list[Trouble] = []
        if len(self._hurt) >= HURT_TOGETHER:
            troubles += await self._look_again()
        if self._asked_bytes >= PARALLEL_QUESTIONS * VERIFIED_BYTES:
            troubles += await self._read()
        return troubles

    async def finish(self) -> list[Trouble]:
        """What is left."""
        return await self._look_again() + await self._read()

    async def _look_again(self) -> list[Trouble]:
        """At chunks whose object the list lacks, or has too short."""
        hurt, self._hurt = self._hurt, []
        younger = [(stored, chunk) for stored, chunk in hurt if chunk.since > self._since]
        whole: set[bytes] = set()
        for pool, chunks in _split([(stored.pool, _question(stored, chunk)) for stored, chunk in younger]):
            verdicts = await self._pools[pool].verify(self._namespace, chunks)
            whole.update(
                chunk.digest() for chunk, verdict in zip(chunks, verdicts, strict=True) if verdict == "ok"
            )
        hurt = [(stored, chunk) for stored, chunk in hurt if chunk.digest not in whole]
        still = await self._still_there([(stored.pool, stored.name, chunk.digest) for stored, chunk in hurt])
        return [_missing(stored, chunk) for stored, chunk in hurt if chunk.digest in still]

    async def _read(self) -> list[Trouble]:
        """Read bytes again, several questions at once."""
        questions = list(_split(self._questions))
        self._questions, self._asked_bytes = [], 0
        troubles: list[Trouble] = []
        for start in range(0, len(questions), PARALLEL_QUESTIONS):
            asked = questions[start : start + PARALLEL_QUESTIONS]
            for each in await asyncio.gather(*(self._ask(pool, chunks) for pool, chunks in asked)):
                troubles += each
            self._on_read(sum(chunk.size for _, chunks in asked for chunk in chunks))
        return troubles

    async def _ask(self, pool: str, chunks: Sequence[VerifiedChunk]) -> list[Trouble]:
        verdicts = await self._pools[pool].verify(self._namespace, chunks)
        bad = [chunk for chunk, verdict in zip(chunks, verdicts, strict=True) if verdict != "ok"]
        if not bad:
            return []
        # Twice, and only then the registry: what was moved or collected meanwhile is no finding.
        verdicts = await self._pools[pool].verify(self._namespace, bad)
        wrong = [(chunk, verdict) for chunk, verdict in zip(bad, verdicts, strict=True) if verdict != "ok"]
        still = await self._still_there([(pool, chunk.object, chunk.digest()) for chunk, _ in wrong])
        return [
            Trouble(
                "object_missing" if verdict == "lost" else "bytes_differ",
                chunk.digest(),
                f"Its bytes at {chunk.offset} of the object {chunk.object} of {pool!r} are "
                f"{'not there' if verdict == 'lost' else 'other ones'}.",
            )
            for chunk, verdict in wrong
            if chunk.digest() in still
        ]

    async def _still_there(self, places: Sequence[tuple[str, str, bytes]]) -> set[bytes]:
        """Those of the chunks whose records name these (pool, object) now, and are not marked as damaged."""
        found = await read_keys(self._store, [keys.chunk(self._namespace, digest) for _, _, digest in places])
        still: set[bytes] = set()
        for pool, name, digest in places:
            kv = found.get(keys.chunk(self._namespace, digest))
            chunk = None if kv is None else records.decode(Chunk, kv.value)
            if chunk is None or chunk.state == CHUNK_DAMAGED:
                continue
            if (chunk.pool, chunk.object) == (pool, name):
                still.add(digest)
        return still


def _missing(stored: StoredObject, chunk: Placed) -> Trouble:
    where = f"The object {stored.name} of {stored.pool!r}"
    if stored.size is None:
        return Trouble("object_missing", chunk.digest, f"{where} is not in the bucket.")
    return Trouble("object_short", chunk.digest, f"{where} has only {stored.size} bytes.")


def _question(stored: StoredObject, chunk: Placed) -> VerifiedChunk:
    return VerifiedChunk(
        hash=format_hash(chunk.digest), size=chunk.size, object=stored.name, offset=chunk.offset
    )


def _split(questions: Sequence[Question]) -> Iterable[tuple[str, list[VerifiedChunk]]]:
    """Questions of one pool each, of bounded size."""
    by_pool: dict[str, list[VerifiedChunk]] = {}
    sizes: dict[str, int] = {}
    for pool, chunk in questions:
        asked = by_pool.setdefault(pool, [])
        size = sizes.get(pool, 0) + chunk.size
        if asked and (size > VERIFIED_BYTES or len(asked) >= MAX_VERIFIED_CHUNKS):
            yield pool, asked
            asked, size = [], chunk.size
            by_pool[pool] = asked
        asked.append(chunk)
        sizes[pool] = size
    yield from ((pool, asked) for pool, asked in by_pool.items() if asked)
