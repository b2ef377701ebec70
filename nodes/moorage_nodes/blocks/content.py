"""A whole file, or a range of it, as a stream of bounded memory: what follows is fetched while pieces are sent."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from moorage_nodes.blocks.access import Reader
from moorage_nodes.blocks.places import Places
from moorage_nodes.blocks.reading import Buffer, Reading
from moorage_nodes.blocks.runs import RUN_BYTES, Run, plan_runs
from moorage_nodes.peer_api import ManifestAnswer


class Content:
    def __init__(self, places: Places, reading: Reading) -> None:
        self._places = places
        self._reading = reading

    async def open(
        self, reader: Reader, file_id: str, page: ManifestAnswer, first: int, length: int
    ) -> AsyncGenerator[Buffer, None]:
        """`length` (not 0) bytes of a version from `first` on. `page` is its first page of chunks.

        What goes wrong before the first byte is raised here; later, the iterator raises.
        """
        last = first + length - 1
        if first >= page.start + _size_of(page):
            page = await self._places.manifest(reader, file_id, page.version, offset=first)
        runs = self._runs(reader, file_id, page, first, last)
        begun = await self._begin(reader, await anext(runs))
        return self._pieces(reader, runs, begun)

    async def _runs(
        self, reader: Reader, file_id: str, page: ManifestAnswer, first: int, last: int
    ) -> AsyncIterator[Run]:
        while True:
            for run in plan_runs(page.chunks, page.start, first, last):
                yield run
            if page.next_index is None or page.start + _size_of(page) > last:
                return
            page = await self._places.manifest(reader, file_id, page.version, index=page.next_index)

    async def _begin(self, reader: Reader, run: Run) -> AsyncGenerator[Buffer, None]:
        if run.length <= RUN_BYTES:
            return _one(await self._reading.read_run(reader, run))
        (chunk,) = run.chunks
        return await self._reading.stream(reader, chunk, run.skip, run.take)

    async def _next(self, reader: Reader, runs: AsyncIterator[Run]) -> AsyncGenerator[Buffer, None] | None:
        try:
            return await self._begin(reader, await anext(runs))
        except StopAsyncIteration:
            return None

    async def _pieces(
        self, reader: Reader, runs: AsyncIterator[Run], begun: AsyncGenerator[Buffer, None]
    ) -> AsyncGenerator[Buffer, None]:
        """One run ahead: its object is open, or read, before the one at hand is sent."""
        current: AsyncGenerator[Buffer, None] | None = begun
        while current is not None:
            upcoming = asyncio.create_task(self._next(reader, runs))
            upcoming.add_done_callback(_hear_out)
            try:
                async for piece in current:
                    yield piece
                current = await upcoming
            finally:
                upcoming.cancel()


def _hear_out(task: "asyncio.Task[object]") -> None:
    """A failure that nobody waits for any more is no news."""
    if not task.cancelled():
        task.exception()


async def _one(data: bytes) -> AsyncGenerator[Buffer, None]:
    yield data


def _size_of(page: ManifestAnswer) -> int:
    return sum(chunk.size for chunk in page.chunks)
