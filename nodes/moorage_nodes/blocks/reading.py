"""Reading chunks: the last byte of an answer is not sent before the SHA-256 of its whole chunk was found right.

So a range costs as much of the store as its chunk: bytes that nobody has looked at are nobody's to give.

A reader that does not find an object, or finds other bytes, asks L3 once more: the collector may have moved the
chunk meanwhile, or a client healed it.
"""

import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

from moorage.core.errors import DamagedChunkError, ObjectNotFoundError, RangeError, WrongClusterError
from moorage.core.ids import HASH_PREFIX
from moorage.core.routing import block_prefix
from moorage_nodes.blocks.access import Reader
from moorage_nodes.blocks.budget import Room
from moorage_nodes.blocks.places import DAMAGED, Places
from moorage_nodes.blocks.runs import Run, plan_runs
from moorage_nodes.peer_api import Place
from moorage_nodes.stores.contracts import ObjectStore, ObjectStream

log = logging.getLogger("moorage.blocks")
PIECE_BYTES = 256 * 1024
T = TypeVar("T")
Buffer = bytes | memoryview


class Reading:
    """`pool` is this server's."""

    def __init__(self, pool: str, objects: ObjectStore, places: Places) -> None:
        self._pool = pool
        self._objects = objects
        self._places = places

    async def read_or_stream(
        self, reader: Reader, chunk: Place, first: int, length: int, room: Room
    ) -> AsyncGenerator[Buffer, None]:
        """`length` bytes of a chunk from `first` on, in pieces; the whole chunk is verified.

        Where there is room it is read whole first, which costs least, and tells damage before anything is sent.
        """
        if length and not room.try_grow(chunk.size):
            return await self.stream(reader, chunk, first, length)

        async def read(place: Place) -> Buffer:
            data = await self._objects.get(_name(reader, place), offset=place.offset, length=chunk.size)
            _verify(chunk, data)
            return memoryview(data)[first : first + length]

        return _sliced(await self._where_it_lies(reader, chunk, read) if length else b"")

    async def stream(
        self, reader: Reader, chunk: Place, first: int, length: int
    ) -> AsyncGenerator[Buffer, None]:
        """The same with little memory. Of a chunk that turns out damaged the last piece is not given."""

        async def begin(place: Place) -> ObjectStream:
            return await self._objects.get_stream(
                _name(reader, place), offset=place.offset, length=chunk.size
            )

        stream = await self._where_it_lies(reader, chunk, begin)
        return self._verified(reader, chunk, stream.chunks, first, first + length)

    async def _verified(
        self, reader: Reader, chunk: Place, pieces: AsyncIterator[bytes], first: int, end: int
    ) -> AsyncGenerator[Buffer, None]:
        """Of the chunk's bytes those from `first` up to `end`."""
        digest = hashlib.sha256()
        held: Buffer | None = None
        at = 0
        async for piece in pieces:
            digest.update(piece)
            wanted = piece[max(0, first - at) : max(0, end - at)]
            at += len(piece)
            if not wanted:
                continue
            if held is not None:
                yield held
            held = wanted
        if digest.hexdigest() != chunk.hash.removeprefix(HASH_PREFIX):
            # Too late to begin anew: who asks again is told where it lies now.
            self._places.forget(reader, chunk)
            raise _wrong(chunk)
        if held is not None:
            yield held

    async def read_run(self, reader: Reader, run: Run) -> bytes:
        """The bytes of a run of small chunks, verified."""
        for chunk in run.chunks:
            self._refuse(reader, chunk)
        try:
            data = await self._objects.get(_name(reader, run.chunks[0]), offset=run.offset, length=run.length)
            return _cut(run, data)
        except (ObjectNotFoundError, RangeError, DamagedChunkError):
            return await self._read_moved(reader, run)

    async def _read_moved(self, reader: Reader, run: Run) -> bytes:
        moved = await self._places.locate(reader, [chunk.hash for chunk in run.chunks])
        for chunk in moved:
            self._refuse(reader, chunk)
        parts: list[bytes] = []
        for each in plan_runs(moved, 0, run.skip, run.skip + run.take - 1):
            try:
                data = await self._objects.get(
                    _name(reader, each.chunks[0]), offset=each.offset, length=each.length
                )
            except (ObjectNotFoundError, RangeError):
                raise _lost(reader, each.chunks[0]) from None
            parts.append(_cut(each, data))
        return b"".join(parts)

    async def _where_it_lies(self, reader: Reader, chunk: Place, call: Callable[[Place], Awaitable[T]]) -> T:
        """`call` with the chunk's place; where that is not right any more, with the one that L3 knows now."""
        self._refuse(reader, chunk)
        try:
            return await call(chunk)
        except (ObjectNotFoundError, RangeError, DamagedChunkError):
            again = await self._places.again(reader, chunk.hash)
        self._refuse(reader, again)
        try:
            return await call(again)
        except (ObjectNotFoundError, RangeError):
            raise _lost(reader, chunk) from None

    def _refuse(self, reader: Reader, chunk: Place) -> None:
        """What cannot be read here: 421 for another pool's, else `DamagedChunkError`."""
        if chunk.state == DAMAGED:
            raise DamagedChunkError("The bytes of this chunk are damaged.", hash=chunk.hash)
        if chunk.pool != self._pool:
            raise WrongClusterError(
                f"This chunk is in the block pool {chunk.pool!r}; ask the block server named here.",
                block_server=reader.host + block_prefix(chunk.pool),
            )


def _name(reader: Reader, chunk: Place) -> str:
    return f"{reader.namespace}/{chunk.object}"


def _lost(reader: Reader, chunk: Place) -> DamagedChunkError:
    log.error("chunk lost", extra={"chunk": chunk.hash, "object": _name(reader, chunk)})
    return DamagedChunkError("The bytes of this chunk are lost.", hash=chunk.hash)


def _wrong(chunk: Place) -> DamagedChunkError:
    log.error("chunk damaged", extra={"chunk": chunk.hash, "object": chunk.object})
    return DamagedChunkError("The bytes of this chunk are damaged.", hash=chunk.hash)


def _verify(chunk: Place, data: Buffer) -> None:
    if hashlib.sha256(data).hexdigest() != chunk.hash.removeprefix(HASH_PREFIX):
        raise _wrong(chunk)


def _cut(run: Run, data: Buffer) -> bytes:
    """The chunks of a run, each verified (once, where it comes again), and of them what is to be sent."""
    known: dict[str, Buffer] = {}
    parts: list[Buffer] = []
    for chunk in run.chunks:
        part = known.get(chunk.hash)
        if part is None:
            part = data[chunk.offset - run.offset : chunk.offset - run.offset + chunk.size]
            _verify(chunk, part)
            known[chunk.hash] = part
        parts.append(part)
    return b"".join(parts)[run.skip : run.skip + run.take]


async def _sliced(data: Buffer) -> AsyncGenerator[Buffer, None]:
    """In pieces that a slow reader takes one by one."""
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]
