"""Stores that stand before another one of the same contract: each call goes through one method, which decides how."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

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


class _Forwarding(ABC):
    @abstractmethod
    async def call(self, operation: str, call: Callable[[], Awaitable[T]], *, writes: bool = False) -> T:
        """Make `call`. `writes`: whether it changes anything that others can see."""

    async def pages(self, operation: str, pages: AsyncIterator[Sequence[T]]) -> AsyncIterator[Sequence[T]]:
        """What comes in pages: each of them is a call."""
        while True:
            try:
                page = await self.call(operation, lambda: anext(pages))
            except StopAsyncIteration:
                return
            yield page


class ForwardingStore(_Forwarding):
    """A `MetadataStore` before `inner`; watches pass through."""

    def __init__(self, inner: MetadataStore) -> None:
        self._inner = inner

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        return await self.call("get", lambda: self._inner.get(key, revision=revision))

    async def get_many(self, keys: Sequence[bytes | Range], *, revision: int = 0) -> Snapshot:
        return await self.call("get_many", lambda: self._inner.get_many(keys, revision=revision))

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
        return await self.call(
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

    def scan(
        self, key: bytes, end: bytes, *, revision: int = 0, keys_only: bool = False
    ) -> AsyncIterator[Sequence[KeyValue]]:
        return self.pages("scan", self._inner.scan(key, end, revision=revision, keys_only=keys_only))

    async def transact(self, txn: Txn) -> TxnResult:
        return await self.call("transact", lambda: self._inner.transact(txn), writes=True)

    def watch(
        self, key: bytes, end: bytes, *, from_revision: int
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        return self._inner.watch(key, end, from_revision=from_revision)

    async def grant_lease(self, ttl: int) -> int:
        return await self.call("grant_lease", lambda: self._inner.grant_lease(ttl), writes=True)

    async def keep_alive(self, lease: int) -> bool:
        return await self.call("keep_alive", lambda: self._inner.keep_alive(lease))

    async def revoke_lease(self, lease: int) -> None:
        await self.call("revoke_lease", lambda: self._inner.revoke_lease(lease), writes=True)

    async def check(self) -> None:
        await self.call("check", self._inner.check)

    async def close(self) -> None:
        await self._inner.close()


class ForwardingObjects(_Forwarding):
    """An `ObjectStore` before `inner`; what a stream yields passes through."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    async def put(self, name: str, data: bytes | memoryview | Sequence[bytes]) -> None:
        await self.call("put", lambda: self._inner.put(name, data), writes=True)

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes]) -> int:
        return await self.call("put_stream", lambda: self._inner.put_stream(name, chunks), writes=True)

    async def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes | memoryview:
        return await self.call("get", lambda: self._inner.get(name, offset=offset, length=length))

    async def get_stream(self, name: str, *, offset: int = 0, length: int | None = None) -> ObjectStream:
        return await self.call(
            "get_stream", lambda: self._inner.get_stream(name, offset=offset, length=length)
        )

    async def head(self, name: str) -> ObjectInfo:
        return await self.call("head", lambda: self._inner.head(name))

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        return self.pages("list", self._inner.list(prefix, start_after=start_after))

    async def delete(self, names: Sequence[str]) -> None:
        await self.call("delete", lambda: self._inner.delete(names), writes=True)

    async def check(self) -> None:
        await self.call("check", self._inner.check)

    async def close(self) -> None:
        await self._inner.close()
