"""The ways from a process to the stores: they take time, and what is sent arrives even if its sender dies."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from moorage.core.errors import OutcomeUnknownError
from moorage_nodes.stores.contracts import (
    KeyValue,
    MetadataStore,
    ObjectInfo,
    ObjectStore,
    ObjectStream,
    Range,
    RangeResult,
    Snapshot,
    Txn,
    TxnResult,
    WatchBatch,
)
from simulator.process import Process, Weather

T = TypeVar("T")


class _Way:
    """Between a process and a store: there and back takes time, and what is sent arrives even if its sender dies."""

    def __init__(self, process: Process, weather: Weather) -> None:
        self.process = process
        self.weather = weather

    async def read(self, call: Callable[[], Awaitable[T]]) -> T:
        await self._set_out()
        answer = await self._take_time(call, self.weather.pause())
        await self.process.stand_still()
        return answer

    async def _take_time(self, call: Callable[[], Awaitable[T]], seconds: float) -> T:
        """On the way there or on the way back."""
        if self.weather.rng.random() < 0.5:
            await asyncio.sleep(seconds)
            return await call()
        answer = await call()
        await asyncio.sleep(seconds)
        return answer

    async def write(self, call: Callable[[], Awaitable[T]]) -> T:
        await self._set_out()
        late = self.weather.strikes(0.3)
        sent = contextvars.Context().run(asyncio.create_task, self._carry(call, late=late))
        if late:
            # The connection is given up before what was sent on it arrives.
            await asyncio.sleep(self.weather.rng.uniform(0.01, 5.0))
            raise OutcomeUnknownError("A fault on purpose: no answer in time.")
        answer = await asyncio.shield(sent)
        await self.process.stand_still()
        return answer

    async def _set_out(self) -> None:
        await self.process.stand_still()
        if self.process.dead:
            raise asyncio.CancelledError

    async def _carry(self, call: Callable[[], Awaitable[T]], *, late: bool) -> T:
        if late:
            await asyncio.sleep(self.weather.rng.uniform(0.0, 30.0))
        return await self._take_time(call, self.weather.pause())


async def _take_all(pages: AsyncIterator[T]) -> list[T]:
    """As one answer: what a simulation has fits into a page, and its end is told with it."""
    return [page async for page in pages]


class FarStore:
    """A `MetadataStore` at the end of a way."""

    def __init__(self, inner: MetadataStore, process: Process, weather: Weather) -> None:
        self._inner = inner
        self._way = _Way(process, weather)

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        return await self._way.read(lambda: self._inner.get(key, revision=revision))

    async def get_many(self, keys: Sequence[bytes | Range], *, revision: int = 0) -> Snapshot:
        return await self._way.read(lambda: self._inner.get_many(keys, revision=revision))

    async def range(
        self,
        key: bytes,
        end: bytes,
        *,
        revision: int = 0,
        limit: int = 0,
        keys_only: bool = False,
        descending: bool = False,
        by_create_revision: bool = False,
    ) -> tuple[RangeResult, int]:
        return await self._way.read(
            lambda: self._inner.range(
                key,
                end,
                revision=revision,
                limit=limit,
                keys_only=keys_only,
                descending=descending,
                by_create_revision=by_create_revision,
            )
        )

    async def scan(
        self, key: bytes, end: bytes, *, revision: int = 0, keys_only: bool = False
    ) -> AsyncIterator[Sequence[KeyValue]]:
        pages = self._inner.scan(key, end, revision=revision, keys_only=keys_only)
        for page in await self._way.read(lambda: _take_all(pages)):
            yield page

    async def transact(self, txn: Txn) -> TxnResult:
        return await self._way.write(lambda: self._inner.transact(txn))

    def watch(
        self, key: bytes, end: bytes, *, from_revision: int
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        return self._inner.watch(key, end, from_revision=from_revision)

    async def grant_lease(self, ttl: int) -> int:
        return await self._way.write(lambda: self._inner.grant_lease(ttl))

    async def keep_alive(self, lease: int) -> bool:
        return await self._way.read(lambda: self._inner.keep_alive(lease))

    async def revoke_lease(self, lease: int) -> None:
        await self._way.write(lambda: self._inner.revoke_lease(lease))

    async def check(self) -> None:
        await self._way.read(self._inner.check)

    async def close(self) -> None:
        """The store is everybody's."""


class FarObjects:
    """An `ObjectStore` at the end of a way."""

    def __init__(self, inner: ObjectStore, process: Process, weather: Weather) -> None:
        self._inner = inner
        self._way = _Way(process, weather)

    async def put(self, name: str, data: bytes | memoryview | Sequence[bytes]) -> None:
        await self._way.write(lambda: self._inner.put(name, data))

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes]) -> int:
        return await self._way.write(lambda: self._inner.put_stream(name, chunks))

    async def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes | memoryview:
        return await self._way.read(lambda: self._inner.get(name, offset=offset, length=length))

    async def get_stream(self, name: str, *, offset: int = 0, length: int | None = None) -> ObjectStream:
        return await self._way.read(lambda: self._inner.get_stream(name, offset=offset, length=length))

    async def head(self, name: str) -> ObjectInfo:
        return await self._way.read(lambda: self._inner.head(name))

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        pages = self._inner.list(prefix, start_after=start_after)
        for page in await self._way.read(lambda: _take_all(pages)):
            yield page

    async def delete(self, names: Sequence[str]) -> None:
        await self._way.write(lambda: self._inner.delete(names))

    async def check(self) -> None:
        await self._way.read(self._inner.check)

    async def close(self) -> None:
        """The store is everybody's."""
