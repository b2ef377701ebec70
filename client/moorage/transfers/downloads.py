"""Files of the store onto this machine: only what is not here yet is fetched, and all of it is verified."""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from moorage.client import Client
from moorage.core.errors import DamagedChunkError, MoorageError
from moorage.core.ids import MAX_CHUNK_BYTES
from moorage.core.transfer import content_hash, hash_of
from moorage.core.wire import ChunkEntry, FileMetadataAnswer
from moorage.transfers.bounded import run_bounded, run_stoppable
from moorage.transfers.local import PartialFile, exists_and_differs, has_content, parse_mtime, shown
from moorage.transfers.outcomes import ENDS_ALL, Outcome, Status, failed
from moorage.transfers.progress import Progress
from moorage.transport import PARALLEL

FILES = 4
"""Files that are fetched at once; their chunks share `PARALLEL` requests."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to fetch. `source`: its path in the store, for people. `version` None: the newest."""

    file_id: str
    source: str
    size: int
    target: Path
    version: int | None = None


class Downloader:
    """`overwrite`: a file that is in the way and differs is replaced; else it is kept, and that one fails."""

    def __init__(
        self, client: Client, progress: Progress, outcomes: list[Outcome], *, overwrite: bool
    ) -> None:
        """`outcomes` gets that of each file as it is done, well or not."""
        self._client = client
        self._progress = progress
        self._overwrite = overwrite
        self._requests = asyncio.Semaphore(PARALLEL)
        self._outcomes = outcomes

    async def fetch(self, wanted: Sequence[Wanted]) -> None:
        """Until each file has its outcome. A store that cannot be reached, and a login that ended, end it as their
        errors; what was fetched by then stays, and the same again goes on from there.
        """
        self._progress.expect(files=len(wanted), size=sum(file.size for file in wanted))
        await run_bounded(wanted, self._fetch_one, parallel=FILES)

    async def _fetch_one(self, wanted: Wanted) -> None:
        try:
            outcome = await self._fetch(wanted)
        except ENDS_ALL:
            raise
        except MoorageError as error:
            outcome = failed(wanted.source, shown(wanted.target), error)
        self._progress.finished(wanted.source)
        self._outcomes.append(outcome)

    async def _fetch(self, wanted: Wanted) -> Outcome:
        about, chunks = await find_chunks(self._client, wanted.file_id, wanted.version)
        outcome = Outcome(
            source=wanted.source,
            target=shown(wanted.target),
            status=Status.FETCHED,
            version=about.version,
            size=about.size,
        )

        def compare(look: Callable[[], None]) -> bool:
            def pieces() -> Iterator[tuple[int, str]]:
                for _, chunk in chunks:
                    look()
                    yield chunk.size, chunk.hash

            return has_content(wanted.target, pieces(), about.size)

        if await run_stoppable(compare):
            self._progress.moved(about.size)
            return msgspec.structs.replace(outcome, status=Status.UNCHANGED)
        if not self._overwrite and await asyncio.to_thread(os.path.lexists, wanted.target):
            raise exists_and_differs(wanted.target)
        part = await asyncio.to_thread(PartialFile, wanted.target)
        try:

            async def fetch(piece: tuple[int, ChunkEntry]) -> None:
                await self._fetch_chunk(part, *piece)

            await run_bounded(chunks, fetch, parallel=PARALLEL)
            mode, mtime = about.attrs.get("mode"), about.attrs.get("mtime")
            await asyncio.to_thread(
                part.finish,
                about.size,
                mode=mode if isinstance(mode, int) else None,
                mtime=parse_mtime(mtime) if isinstance(mtime, str) else None,
                overwrite=self._overwrite,
            )
        finally:
            part.close()
        return outcome

    async def _fetch_chunk(self, part: PartialFile, start: int, chunk: ChunkEntry) -> None:
        async with self._requests:
            if not await asyncio.to_thread(part.find, start, chunk.size, chunk.hash):
                data = await read_chunk(self._client, chunk)
                await asyncio.to_thread(part.write, start, data)
            self._progress.moved(chunk.size)


async def find_chunks(
    client: Client, file_id: str, version: int | None
) -> tuple[FileMetadataAnswer, list[tuple[int, ChunkEntry]]]:
    """A version of a file (None: the newest), and its chunks with the places where they begin.

    DamagedChunkError when they are not what the version is made of: then nothing of it can be trusted.
    """
    about = await client.file_metadata(file_id, version)
    chunks: list[tuple[int, ChunkEntry]] = []
    end = 0
    async for chunk in client.list_chunks(about.l2_metadata_server, file_id, about.version):
        if not 0 <= chunk.size <= MAX_CHUNK_BYTES:
            raise DamagedChunkError(f"The store lists a chunk of {chunk.size} bytes.")
        chunks.append((end, chunk))
        end += chunk.size
    if end != about.size or content_hash(chunk.hash for _, chunk in chunks) != about.hash:
        raise DamagedChunkError("The chunks that the store lists are not those of this version.")
    return about, chunks


async def read_chunk(client: Client, chunk: ChunkEntry) -> bytes:
    """Its verified bytes. By its hash: its name may mean other bytes by now (PROTOCOL.md, Words)."""
    for _ in range(2):
        data = await client.get_chunk(chunk.block_server, chunk.hash)
        if len(data) == chunk.size and await asyncio.to_thread(hash_of, data) == chunk.hash:
            return data
    raise DamagedChunkError("What arrived is not what was stored, twice: something on the way changes bytes.")
