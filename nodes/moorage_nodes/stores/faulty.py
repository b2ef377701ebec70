"""Stores that fail on purpose, at chosen calls: for tests of crashes, lost answers and delays.

`FaultyStore` and `FaultyObjects` stand before any store of the same contract. A `Plan` says which call fails and
how; calls are numbered from 0 over all operations, so that a test may try a fault at every one in turn.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from moorage.core.errors import OutcomeUnknownError, StoreUnavailableError
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

T = TypeVar("T")


class Fault(Enum):
    UNREACHABLE = "unreachable"  # fails before anything is done
    LOST_REQUEST = "lost request"  # nothing is done, and the caller cannot know
    LOST_ANSWER = "lost answer"  # it is done, and the caller cannot know
    CANCELLED_BEFORE = "cancelled before"  # the caller dies before it is done
    CANCELLED_AFTER = "cancelled after"  # the caller dies when it is done
    DELAYED = "delayed"  # others go first


@dataclass
class Plan:
    """`faults`: the number of a call -> how it fails. `calls` tells what was called; `delay` is in seconds."""

    faults: Mapping[int, Fault] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    delay: float = 0.01

    def next_fault(self, operation: str) -> Fault | None:
        self.calls.append(operation)
        return self.faults.get(len(self.calls) - 1)


async def call_with_faults(
    plan: Plan, operation: str, call: Callable[[], Awaitable[T]], *, writes: bool
) -> T:
    """Make `call` as `plan` says. What a read has done nobody can see: its answer is lost as if it never was."""
    fault = plan.next_fault(operation)
    lost = OutcomeUnknownError if writes else StoreUnavailableError
    if fault is Fault.UNREACHABLE:
        raise StoreUnavailableError("A fault on purpose: the store cannot be reached.")
    if fault is Fault.LOST_REQUEST:
        raise lost("A fault on purpose: the request was lost.")
    if fault is Fault.CANCELLED_BEFORE:
        raise asyncio.CancelledError
    if fault is Fault.DELAYED:
        await asyncio.sleep(plan.delay)
    result = await call()
    if fault is Fault.LOST_ANSWER:
        raise lost("A fault on purpose: the answer was lost.")
    if fault is Fault.CANCELLED_AFTER:
        raise asyncio.CancelledError
    return result


class FaultyStore:
    """A `MetadataStore` before `inner`; watches pass through."""

    def __init__(self, inner: MetadataStore, plan: Plan) -> None:
        self._inner = inner
        self._plan = plan

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        return await self._read("get", lambda: self._inner.get(key, revision=revision))

    async def get_many(self, keys: Sequence[bytes | Range], *, revision: int = 0) -> Snapshot:
        return await self._read("get_many", lambda: self._inner.get_many(keys, revision=revision))

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
        return await self._read(
            "range",
            lambda: self._inner.range(
                key,
                end,
                revision=revision,
                limit=limit,
                keys_only=keys_only,
                descending=descending,
                by_create_revision=by_create_revision,
            ),
        )

    async def scan(
        self, key: bytes, end: bytes, *, revision: int = 0, keys_only: bool = False
    ) -> AsyncIterator[Sequence[KeyValue]]:
        pages = self._inner.scan(key, end, revision=revision, keys_only=keys_only)
        while True:
            try:
                page = await self._read("scan", lambda: anext(pages))
            except StopAsyncIteration:
                return
            yield page

    async def transact(self, txn: Txn) -> TxnResult:
        return await self._write("transact", lambda: self._inner.transact(txn))

    def watch(
        self, key: bytes, end: bytes, *, from_revision: int
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        return self._inner.watch(key, end, from_revision=from_revision)

    async def grant_lease(self, ttl: int) -> int:
        return await self._write("grant_lease", lambda: self._inner.grant_lease(ttl))

    async def keep_alive(self, lease: int) -> bool:
        return await self._read("keep_alive", lambda: self._inner.keep_alive(lease))

    async def revoke_lease(self, lease: int) -> None:
        await self._write("revoke_lease", lambda: self._inner.revoke_lease(lease))

    async def check(self) -> None:
        await self._read("check", self._inner.check)

    async def close(self) -> None:
        await self._inner.close()

    async def _read(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        return await call_with_faults(self._plan, operation, call, writes=False)

    async def _write(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        return await call_with_faults(self._plan, operation, call, writes=True)


class FaultyObjects:
    """An `ObjectStore` before `inner`; what a stream yields passes through."""

    def __init__(self, inner: ObjectStore, plan: Plan) -> None:
        self._inner = inner
        self._plan = plan

    async def put(self, name: str, data: bytes | memoryview | Sequence[bytes]) -> None:
        await self._call("put", lambda: self._inner.put(name, data), writes=True)

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes]) -> int:
        return await self._call("put_stream", lambda: self._inner.put_stream(name, chunks), writes=True)

    async def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes | memoryview:
        return await self._call("get", lambda: self._inner.get(name, offset=offset, length=length))

    async def get_stream(self, name: str, *, offset: int = 0, length: int | None = None) -> ObjectStream:
        return await self._call(
            "get_stream", lambda: self._inner.get_stream(name, offset=offset, length=length)
        )

    async def head(self, name: str) -> ObjectInfo:
        return await self._call("head", lambda: self._inner.head(name))

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        pages = self._inner.list(prefix, start_after=start_after)
        while True:
            try:
                page = await self._call("list", lambda: anext(pages))
            except StopAsyncIteration:
                return
            yield page

    async def delete(self, names: Sequence[str]) -> None:
        await self._call("delete", lambda: self._inner.delete(names), writes=True)

    async def check(self) -> None:
        await self._call("check", self._inner.check)

    async def close(self) -> None:
        await self._inner.close()

    async def _call(self, operation: str, call: Callable[[], Awaitable[T]], *, writes: bool = False) -> T:
        return await call_with_faults(self._plan, operation, call, writes=writes)
