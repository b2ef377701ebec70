"""The ways from a process to the stores: they take time, and what is sent arrives even if its sender dies."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from moorage.core.errors import OutcomeUnknownError
from moorage_nodes.stores.contracts import MetadataStore, ObjectStore
from moorage_nodes.stores.forwarding import ForwardingObjects, ForwardingStore
from simulator.process import Process, Weather

T = TypeVar("T")


class _Way:
    """Between a process and a store: there and back takes time, and what is sent arrives even if its sender dies."""

    def __init__(self, process: Process, weather: Weather) -> None:
        self.process = process
        self.weather = weather

    async def go(self, call: Callable[[], Awaitable[T]], *, writes: bool) -> T:
        return await (self._write(call) if writes else self._read(call))

    async def _read(self, call: Callable[[], Awaitable[T]]) -> T:
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

    async def _write(self, call: Callable[[], Awaitable[T]]) -> T:
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


class _Far:
    """What a store at the end of a way does with each call."""

    _way: _Way

    async def call(self, operation: str, call: Callable[[], Awaitable[T]], *, writes: bool = False) -> T:
        return await self._way.go(call, writes=writes)

    async def pages(self, operation: str, pages: AsyncIterator[Sequence[T]]) -> AsyncIterator[Sequence[T]]:
        for page in await self.call(operation, lambda: _take_all(pages)):
            yield page

    async def close(self) -> None:
        """The store is everybody's."""


class FarStore(_Far, ForwardingStore):
    """A `MetadataStore` at the end of a way."""

    def __init__(self, inner: MetadataStore, process: Process, weather: Weather) -> None:
        super().__init__(inner)
        self._way = _Way(process, weather)


class FarObjects(_Far, ForwardingObjects):
    """An `ObjectStore` at the end of a way."""

    def __init__(self, inner: ObjectStore, process: Process, weather: Weather) -> None:
        super().__init__(inner)
        self._way = _Way(process, weather)
