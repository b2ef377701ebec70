"""Files of the store onto this machine: only what is not here yet is fetched, and all of it is verified."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import msgspec

from moorage.client import Client
from moorage.core.errors import DamagedChunkError, LocalFileError, MoorageError
from moorage.core.transfer import hash_of
from moorage.core.wire import ChunkEntry
from moorage.transfers.bounded import run_bounded
from moorage.transfers.local import PartialFile, has_content, parse_mtime, shown
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

    def __init__(self, client: Client, progress: Progress, *, overwrite: bool) -> None:
        self._client = client
        self._progress = progress
        self._overwrite = overwrite
        self._requests = asyncio.Semaphore(PARALLEL)

    async def fetch(self, wanted: Sequence[Wanted]) -> list[Outcome]:
        """One outcome for each. A store that cannot be reached, and a login that ended, end it as their errors; what was
        fetched by then stays, and the same again goes on from there.
        """
        self._progress.expect(files=len(wanted), size=sum(file.size for file in wanted))
        return [outcome for _, outcome in await run_bounded(wanted, self._fetch_one, parallel=FILES)]

    async def _fetch_one(self, wanted: Wanted) -> Outcome:
        try:
            return await self._fetch(wanted)
        except ENDS_ALL:
            raise
        except MoorageError as error:
            return failed(wanted.source, shown(wanted.target), error)
        finally:
            self._progress.finished(wanted.source)

    async def _fetch(self, wanted: Wanted) -> Outcome:
        about = await self._client.file_metadata(wanted.file_id, wanted.version)
        chunks = [chunk async for chunk in self._client.list_chunks(wanted.file_id, about.version)]
        outcome = Outcome(
            source=wanted.source,
            target=shown(wanted.target),
            status=Status.FETCHED,
            version=about.version,
            size=about.size,
        )
        sizes = [(chunk.size, chunk.hash) for chunk in chunks]
        if await asyncio.to_thread(has_content, wanted.target, sizes, about.size):
            self._progress.moved(about.size)
            return msgspec.structs.replace(outcome, status=Status.UNCHANGED)
        if not self._overwrite and await asyncio.to_thread(os.path.lexists, wanted.target):
            raise LocalFileError(f"{shown(wanted.target)} is there and differs: `--overwrite` replaces it.")
        part = await asyncio.to_thread(PartialFile, wanted.target)
        try:
            starts = accumulate((chunk.size for chunk in chunks), initial=0)

            async def fetch(piece: tuple[int, ChunkEntry]) -> None:
                await self._fetch_chunk(part, *piece)

            await run_bounded(zip(starts, chunks, strict=False), fetch, parallel=PARALLEL)
            mode, mtime = about.attrs.get("mode"), about.attrs.get("mtime")
            await asyncio.to_thread(
                part.finish,
                about.size,
                mode=mode if isinstance(mode, int) else None,
                mtime=parse_mtime(mtime) if isinstance(mtime, str) else None,
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


async def read_chunk(client: Client, chunk: ChunkEntry) -> bytes:
    """Its verified bytes. By its hash: its name may mean other bytes by now (PROTOCOL.md, Words)."""
    for _ in range(2):
        data = await client.get_chunk(chunk.block_server, chunk.hash)
        if await asyncio.to_thread(hash_of, data) == chunk.hash:
            return data
    raise DamagedChunkError("What arrived is not what was stored, twice: something on the way changes bytes.")
