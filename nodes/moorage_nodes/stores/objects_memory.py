"""An object store in memory (`ObjectStore`): for tests and simulations."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence

from moorage.core.errors import ObjectExistsError, ObjectNotFoundError
from moorage_nodes.stores.contracts import ObjectInfo, ObjectStream, check_range

LIST_PAGE = 1000
STREAM_CHUNK_BYTES = 256 * 1024


class MemoryObjects:
    """Gives way to other tasks before each call takes effect, as a real store's client does."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    async def put(self, name: str, data: bytes | memoryview | Sequence[bytes]) -> None:
        whole = bytes(data) if isinstance(data, bytes | memoryview) else b"".join(data)
        await asyncio.sleep(0)
        if name in self._objects:
            raise ObjectExistsError("There is an object of that name already.")
        self._objects[name] = whole

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes]) -> int:
        whole = b"".join([chunk async for chunk in chunks])
        await asyncio.sleep(0)
        self._objects[name] = whole
        return len(whole)

    async def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        await asyncio.sleep(0)
        whole = self._find(name)
        check_range(len(whole), offset, length)
        return whole[offset:] if length is None else whole[offset : offset + length]

    async def get_stream(self, name: str, *, offset: int = 0, length: int | None = None) -> ObjectStream:
        data = await self.get(name, offset=offset, length=length)
        return ObjectStream(len(self._find(name)), _chunks(data))

    async def head(self, name: str) -> ObjectInfo:
        await asyncio.sleep(0)
        return _info(name, self._find(name))

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        if prefix and not prefix.endswith("/"):
            raise ValueError("a prefix ends with a slash")
        last = start_after
        while True:
            await asyncio.sleep(0)
            names = sorted(name for name in self._objects if name.startswith(prefix) and name > last)[
                :LIST_PAGE
            ]
            if not names:
                return
            yield [_info(name, self._objects[name]) for name in names]
            last = names[-1]

    async def delete(self, names: Sequence[str]) -> None:
        await asyncio.sleep(0)
        for name in names:
            self._objects.pop(name, None)

    async def check(self) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        pass

    def _find(self, name: str) -> bytes:
        try:
            return self._objects[name]
        except KeyError:
            raise ObjectNotFoundError("There is no such object.") from None


def _info(name: str, data: bytes) -> ObjectInfo:
    return ObjectInfo(name, len(data), f'"{hashlib.sha256(data).hexdigest()[:32]}"')


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), STREAM_CHUNK_BYTES):
        await asyncio.sleep(0)
        yield data[start : start + STREAM_CHUNK_BYTES]
