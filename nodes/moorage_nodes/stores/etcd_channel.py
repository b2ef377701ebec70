"""Unary calls to etcd over one gRPC channel per endpoint: deadlines, failover, and never a write sent twice.

etcd3aio's own connection manager takes IP addresses only and checks one TLS name for all endpoints; a channel
per endpoint resolves names itself, checks each endpoint's own name and lets us leave a member that hangs.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from etcd3aio._protobuf import KVStub, LeaseStub, RangeRequest, ResponseOp, WatchStub
from grpc.aio import AioRpcError, Channel, UsageError
from msgspec import Struct

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.stores.etcd_errors import build_error, is_never_sent, is_unreachable

# Together they end a call within 4 s whatever etcd does.
WRITE_SECONDS = 2.5
READ_SECONDS = (1.5, 1.5)  # the first attempt, then the only other one
_RETRY_PAUSE = 0.05
RETIRE_SECONDS = 30.0

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also how long an attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),  # etcd closes connections that ping oftener than each 5 s
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


class Tls(Struct, frozen=True):
    """PEM bytes. `ca` None: the system's authorities; `cert` and `key`: who we are, both or neither."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None


class Endpoint:
    """One member of the cluster: its channel and the calls on it."""

    def __init__(self, url: str, tls: Tls | None) -> None:
        secure = tls is not None or url.startswith("https://")
        target = url.removeprefix("https://").removeprefix("http://").removesuffix("/")
        self.channel: Channel
        if secure:
            tls = tls or Tls()
            credentials: Any = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)  # type: ignore[no-untyped-call]
            self.channel = grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
        else:
            self.channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        kv = KVStub(self.channel)
        lease = LeaseStub(self.channel)
        self.read_range = kv.Range
        self.txn = kv.Txn
        self.lease_grant = lease.LeaseGrant
        self.lease_revoke = lease.LeaseRevoke
        self.lease_keep_alive = lease.LeaseKeepAlive
        self.watch = WatchStub(self.channel).Watch
        # etcd 3.7's RangeStream is not in the generated stubs. Its answer is a message whose field 1 is a
        # RangeResponse, and so is a ResponseOp that holds a range.
        self.range_stream = self.channel.unary_stream(
            "/etcdserverpb.KV/RangeStream",
            request_serializer=RangeRequest.SerializeToString,
            response_deserializer=ResponseOp.FromString,
        )


Call = Callable[[Endpoint], Any]  # which of an endpoint's calls


class Endpoints:
    """Calls go to one endpoint, chosen at random at first, until it fails; then to the next."""

    def __init__(self, urls: Sequence[str], tls: Tls | None = None) -> None:
        if not urls:
            raise ValueError("etcd has no endpoints")
        self._urls = urls
        self._all = _open_all(urls, tls)
        self._current = 0
        self._closed = False
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Endpoint:
        if self._closed:
            raise StoreUnavailableError("The metadata store's client is closed.")
        return self._all[self._current]

    def leave(self, endpoint: Endpoint) -> None:
        """Go on to the next one, unless somebody has already left `endpoint`."""
        if self._all[self._current] is endpoint:
            self._current = (self._current + 1) % len(self._all)

    async def read(self, call: Call, request: Any, timeouts: Sequence[float] = READ_SECONDS) -> Any:
        """An idempotent call: tried again, once, when an endpoint cannot be reached."""
        for timeout in timeouts[:-1]:
            endpoint = self.current
            try:
                return await call(endpoint)(request, timeout=timeout)
            except AioRpcError as error:
                if not is_unreachable(error.code()):
                    raise build_error(error.code(), error.details() or "", write=False) from error
                self.leave(endpoint)
                await asyncio.sleep(_RETRY_PAUSE)
            except UsageError as error:
                raise _closed() from error
        endpoint = self.current
        try:
            return await call(endpoint)(request, timeout=timeouts[-1])
        except AioRpcError as error:
            if is_unreachable(error.code()):
                self.leave(endpoint)
            raise build_error(error.code(), error.details() or "", write=False) from error
        except UsageError as error:
            raise _closed() from error

    async def write(self, call: Call, request: Any) -> Any:
        """A call that changes something: sent once. Another endpoint is tried only where nothing was sent."""
        for attempt in range(len(self._all)):
            endpoint = self.current
            try:
                return await call(endpoint)(request, timeout=WRITE_SECONDS)
            except AioRpcError as error:
                code, details = error.code(), error.details() or ""
                if is_unreachable(code):
                    self.leave(endpoint)
                if not is_never_sent(code, details) or attempt == len(self._all) - 1:
                    raise build_error(code, details, write=True) from error
            except UsageError as error:
                raise _closed() from error
        raise AssertionError("unreachable")

    def renew(self, tls: Tls | None) -> None:
        """Connect anew with `tls`; the connections of before are closed when nothing can be under way on them."""
        if self._closed:
            return
        before, self._all = self._all, _open_all(self._urls, tls)
        self._current = 0
        task = asyncio.create_task(_retire(before))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        self._closed = True
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        for endpoint in self._all:
            await endpoint.channel.close()


def _open_all(urls: Sequence[str], tls: Tls | None) -> list[Endpoint]:
    endpoints = [Endpoint(url, tls) for url in urls]
    random.shuffle(endpoints)
    return endpoints


async def _retire(endpoints: Sequence[Endpoint]) -> None:
    try:
        await asyncio.sleep(RETIRE_SECONDS)
    finally:
        for endpoint in endpoints:
            await endpoint.channel.close()


def _closed() -> StoreUnavailableError:
    return StoreUnavailableError("The metadata store's client is closed.")


def is_being_cancelled() -> bool:
    """Whether a CancelledError is meant for the task that has it: gRPC raises one too, of a call whose channel was closed
    below it.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
