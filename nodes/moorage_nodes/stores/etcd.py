"""The metadata store on etcd (≥ 3.5.28, 3.6.9 or 3.7): `MetadataStore` over gRPC.

etcd3aio gives the generated messages and stubs; calls, deadlines and errors are our own (etcd_channel), because
a transaction must never be sent twice. docs/adr/ has the reasons.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Self

from etcd3aio._protobuf import LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest
from grpc import StatusCode
from grpc.aio import EOF, AioRpcError

from moorage.core.errors import RequestRefusedError
from moorage_nodes.stores.contracts import (
    MAX_TXN_OPS,
    KeyValue,
    Range,
    RangeResult,
    Snapshot,
    Txn,
    TxnResult,
    WatchBatch,
)
from moorage_nodes.stores.etcd_channel import (
    WRITE_SECONDS,
    Endpoint,
    Endpoints,
    Tls,
    is_being_cancelled,
)
from moorage_nodes.stores.etcd_errors import build_error
from moorage_nodes.stores.etcd_watch import watch_range
from moorage_nodes.stores.etcd_wire import Wire
from moorage_nodes.stores.observer import NullObserver, Observer, observed
from moorage_nodes.stores.reads import ReadBatcher, select

CHECK_SECONDS = 1.5
SCAN_PAGE_KEYS = 500


class EtcdStore:
    """`MetadataStore` on etcd. Every call ends within 4 s."""

    def __init__(self, endpoints: Endpoints, wire: Wire, observer: Observer) -> None:
        self._endpoints = endpoints
        self._wire = wire
        self._observer = observer
        self._batcher = ReadBatcher(self._fetch, observer)
        self._streams_ranges = True

    @classmethod
    def open(
        cls,
        urls: Sequence[str],
        *,
        prefix: str,
        tls: Tls | None = None,
        observer: Observer | None = None,
    ) -> Self:
        """Connects when first used: an etcd that is down is no error here. Call it in a running event loop.

        `urls`: `host:port`, with or without `http://` or `https://`. `prefix` goes before every key.
        """
        return cls(Endpoints(urls, tls), Wire(prefix.encode()), observer or NullObserver())

    def renew_tls(self, tls: Tls | None) -> None:
        """Go on with other certificates: on new connections, while what is under way ends on the old ones."""
        self._endpoints.renew(tls)

    # --- reading

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        if revision:
            snapshot = await observed(self._observer, "get", self._fetch((key,), revision))
        else:
            snapshot = await observed(self._observer, "get", self._batcher.read((key,)))
        return snapshot.found.get(key)

    async def get_many(self, keys: Sequence[bytes | Range], *, revision: int = 0) -> Snapshot:
        return await observed(self._observer, "get_many", self._get_many(keys, revision))

    async def _get_many(self, keys: Sequence[bytes | Range], revision: int) -> Snapshot:
        first, rest = keys[:MAX_TXN_OPS], keys[MAX_TXN_OPS:]
        if revision:
            snapshot = await self._fetch(first, revision)
        else:
            snapshot = await self._batcher.read(first)
        snapshot = select(snapshot, first)
        if not rest:
            return snapshot
        found, ranges = dict(snapshot.found), dict(snapshot.ranges)
        for start in range(0, len(rest), MAX_TXN_OPS):
            part = await self._fetch(rest[start : start + MAX_TXN_OPS], snapshot.revision)
            found.update(part.found)
            ranges.update(part.ranges)
        return Snapshot(snapshot.revision, found, ranges)

    async def _fetch(self, keys: Sequence[bytes | Range], revision: int = 0) -> Snapshot:
        """Up to `MAX_TXN_OPS` keys at one revision, in one request."""
        if len(keys) == 1 and isinstance(keys[0], bytes):
            request = self._wire.build_range(Range(keys[0]), revision)
            response = await self._endpoints.read(_range, request)
            found = {kv.key: kv for kv in map(self._wire.parse_kv, response.kvs)}
            return Snapshot(revision or response.header.revision, found)
        request = self._wire.build_reads(keys, revision)
        response = await self._endpoints.read(_txn, request)
        return Snapshot(revision or response.header.revision, *self._wire.parse_reads(keys, response))

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
        op = Range(key, end, limit, keys_only, descending)
        request = self._wire.build_range(op, revision, by_create_revision=by_create_revision)
        response = await observed(self._observer, "range", self._endpoints.read(_range, request))
        return self._wire.parse_range(response), revision or response.header.revision

    async def scan(
        self, key: bytes, end: bytes, *, revision: int = 0, keys_only: bool = False
    ) -> AsyncIterator[Sequence[KeyValue]]:
        op = Range(key, end, keys_only=keys_only)
        if self._streams_ranges:
            try:
                async with aclosing(self._scan_stream(op, revision)) as batches:
                    async for kvs in batches:
                        yield kvs
            except NotImplementedError:
                self._streams_ranges = False
            else:
                return
        async for kvs in self._scan_pages(op, revision):
            yield kvs

    async def _scan_stream(self, op: Range, revision: int) -> AsyncGenerator[Sequence[KeyValue]]:
        """One RangeStream; `NotImplementedError`, before anything is yielded, where the server has none."""
        stream = self._endpoints.current.range_stream(self._wire.build_range(op, revision))
        try:
            while kvs := await observed(self._observer, "scan", self._next_of_stream(stream)):
                yield kvs
        finally:
            stream.cancel()

    async def _next_of_stream(self, stream: Any) -> Sequence[KeyValue]:
        """The next keys; none at the end."""
        async with _stream_errors():
            try:
                while (message := await stream.read()) is not EOF:
                    if message.response_range.kvs:
                        return self._wire.parse_range(message.response_range).kvs
            except AioRpcError as error:
                if error.code() is StatusCode.UNIMPLEMENTED:
                    raise NotImplementedError from error
                raise
        return ()

    async def _scan_pages(self, op: Range, revision: int) -> AsyncIterator[Sequence[KeyValue]]:
        start, end = op.key, op.end or b""
        while True:
            page, revision = await self.range(
                start, end, revision=revision, limit=SCAN_PAGE_KEYS, keys_only=op.keys_only
            )
            if page.kvs:
                yield page.kvs
            if not page.more:
                return
            start = page.kvs[-1].key + b"\x00"

    # --- writing

    async def transact(self, txn: Txn) -> TxnResult:
        request = self._wire.build_txn(txn)
        response = await observed(self._observer, "transact", self._endpoints.write(_txn, request))
        return self._wire.parse_txn(txn, response)

    # --- watching

    def watch(
        self, key: bytes, end: bytes, *, from_revision: int
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        return watch_range(self._endpoints, self._wire, key, end, from_revision)

    # --- leases

    async def grant_lease(self, ttl: int) -> int:
        call = self._endpoints.write(_lease_grant, LeaseGrantRequest(TTL=ttl))
        response = await observed(self._observer, "grant_lease", call)
        lease: int = response.ID
        return lease

    async def keep_alive(self, lease: int) -> bool:
        return await observed(self._observer, "keep_alive", self._keep_alive(lease))

    async def _keep_alive(self, lease: int) -> bool:
        stream = self._endpoints.current.lease_keep_alive()
        try:
            async with _stream_errors():
                await stream.write(LeaseKeepAliveRequest(ID=lease))
                response = await stream.read()
        finally:
            stream.cancel()
        return bool(getattr(response, "TTL", 0) > 0)

    async def revoke_lease(self, lease: int) -> None:
        call = self._endpoints.write(_lease_revoke, LeaseRevokeRequest(ID=lease))
        try:
            await observed(self._observer, "revoke_lease", call)
        except RequestRefusedError:
            return  # etcd knows no such lease: it has ended

    # --- health

    async def check(self) -> None:
        request = self._wire.build_range(Range(b""))
        await observed(
            self._observer, "check", self._endpoints.read(_range, request, timeouts=(CHECK_SECONDS,))
        )

    async def close(self) -> None:
        await self._endpoints.close()


@asynccontextmanager
async def _stream_errors() -> AsyncIterator[None]:
    """A step of a stream: it ends within `WRITE_SECONDS`, and its failures are ours, a closed connection among them."""
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            yield
    except asyncio.CancelledError as error:
        if is_being_cancelled():
            raise
        raise build_error(StatusCode.UNAVAILABLE, "", write=False) from error
    except TimeoutError as error:
        raise build_error(StatusCode.DEADLINE_EXCEEDED, "", write=False) from error
    except AioRpcError as error:
        raise build_error(error.code(), error.details() or "", write=False) from error


def _range(endpoint: Endpoint) -> Any:
    return endpoint.read_range


def _txn(endpoint: Endpoint) -> Any:
    return endpoint.txn


def _lease_grant(endpoint: Endpoint) -> Any:
    return endpoint.lease_grant


def _lease_revoke(endpoint: Endpoint) -> Any:
    return endpoint.lease_revoke
