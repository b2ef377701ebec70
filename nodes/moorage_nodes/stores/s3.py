"""The object store on S3 (`ObjectStore`), by obstore.

What is created is sent once: a create that is sent again after its answer was lost would find its own object and
say that the name is taken. Reads are tried again by obstore, within the same time. docs/adr/ has the reasons.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Client

from moorage.core.errors import ObjectNotFoundError
from moorage_nodes.stores.contracts import ObjectInfo, ObjectStream, check_range
from moorage_nodes.stores.observer import NullObserver, Observer, observed
from moorage_nodes.stores.s3_errors import build_error

if TYPE_CHECKING:  # obstore has these types for checkers only
    from obstore import BytesStream, GetOptions, GetResult, ListStream, ObjectMeta
    from obstore.store import ClientConfig, S3Config, S3Credential

T = TypeVar("T")

# A call may take this long, and longer by what its bytes need on the slowest link that we put up with.
CALL_SECONDS = 3.0
CONNECT_SECONDS = 1.0
CHECK_SECONDS = 1.5
SLOWEST_BYTES_PER_SECOND = 1024 * 1024
SLOWEST_DELETES_PER_SECOND = 100
STREAM_CHUNK_BYTES = 256 * 1024
PART_BYTES = 8 * 1024 * 1024
PARTS_IN_FLIGHT = 2
LIST_PAGE = 1000
# obstore asks for credentials again when what it has ends in less than 5 minutes.
_CREDENTIALS_LIVE = timedelta(minutes=6)
_NEVER_WRITTEN = "moorage-check"


class S3Store:
    """`ObjectStore` in one bucket. A store that is down is told within 4 s and the time its bytes may need."""

    def __init__(self, creating: Client, streaming: Client, asking: Client, observer: Observer) -> None:
        self._creating = creating  # never sends twice
        self._streaming = streaming  # for what may take long
        self._asking = asking  # for short answers
        self._observer = observer

    @classmethod
    def open(
        cls,
        endpoint: str,
        *,
        bucket: str,
        credentials: Mapping[str, str],
        region: str = "us-east-1",
        prefix: str = "",
        ca: bytes | None = None,
        observer: Observer | None = None,
    ) -> Self:
        """Connects when first used: an S3 that is down is no error here.

        `endpoint`: `http(s)://host[:port]`, addressed by path. `credentials`: `access_key_id` and
        `secret_access_key`, looked up anew each minute, so the caller may change them. `ca`: PEM, trusted
        beside the system's.
        """

        def provide() -> "S3Credential":
            return {
                "access_key_id": credentials["access_key_id"],
                "secret_access_key": credentials["secret_access_key"],
                "token": None,
                "expires_at": datetime.now(UTC) + _CREDENTIALS_LIVE,
            }

        # What is not said here obstore takes from the environment: so say what decides where we go and as whom.
        config: S3Config = {
            "aws_endpoint_url_s3": endpoint.rstrip("/"),
            "endpoint": endpoint.rstrip("/"),
            "region": region,
            "skip_signature": False,
            "unsigned_payload": is_payload_safe_unsigned(endpoint),
            "virtual_hosted_style_request": False,
        }

        def connect(*, retries: int, timeout: timedelta) -> Client:
            options: ClientConfig = {
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "timeout": timeout,
                "pool_idle_timeout": timedelta(seconds=30),
            }
            if ca is not None:
                options["root_certificate"] = ca
            return Client(
                bucket,
                prefix=prefix.strip("/") or None,
                config=config,
                client_options=options,
                retry_config={
                    "max_retries": retries,
                    "retry_timeout": timedelta(seconds=CALL_SECONDS),
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=50),
                        "max_backoff": timedelta(seconds=1),
                    },
                },
                credential_provider=provide,
            )

        ours = timedelta(days=1)  # obstore's own must not cut a large body
        return cls(
            connect(retries=0, timeout=ours),
            connect(retries=2, timeout=ours),
            connect(retries=2, timeout=timedelta(seconds=CALL_SECONDS)),
            observer or NullObserver(),
        )

    async def put(self, name: str, data: bytes | memoryview | Sequence[bytes]) -> None:
        size = len(data) if isinstance(data, bytes | memoryview) else sum(map(len, data))
        call = obstore.put_async(self._creating, name, data, mode="create", use_multipart=False)
        await observed(self._observer, "put", _within(_deadline(size), call, creates=True))

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes]) -> int:
        # Not `async with`: that would complete the object also when `chunks` raises.
        writer = obstore.open_writer_async(
            self._streaming, name, buffer_size=PART_BYTES, max_concurrency=PARTS_IN_FLIGHT
        )
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            await _within(_stream_deadline(size), writer.write(chunk), creates=True)
        close = _within(_stream_deadline(size), writer.close(), creates=True)
        await observed(self._observer, "put_stream", close)
        return size

    async def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes | memoryview:
        return await observed(self._observer, "get", self._get(name, offset, length))

    async def _get(self, name: str, offset: int, length: int | None) -> bytes | memoryview:
        if length == 0:
            check_range((await self._head(name)).size, offset, 0)
            return b""
        result = await self._open(name, offset, length)
        start, end = result.range
        return memoryview(await _within(_deadline(end - start), result.bytes_async()))

    async def get_stream(self, name: str, *, offset: int = 0, length: int | None = None) -> ObjectStream:
        if length == 0:
            info = await self.head(name)
            check_range(info.size, offset, 0)
            return ObjectStream(info.size, _nothing())
        result = await observed(self._observer, "get_stream", self._open(name, offset, length))
        return ObjectStream(result.meta["size"], _timed_chunks(result.stream(STREAM_CHUNK_BYTES)))

    async def _open(self, name: str, offset: int, length: int | None) -> "GetResult":
        options: GetOptions = {}
        if length is not None:
            options["range"] = (offset, offset + length)
        elif offset:
            options["range"] = {"offset": offset}
        result = await _within(CALL_SECONDS, obstore.get_async(self._streaming, name, options=options))
        check_range(result.meta["size"], offset, length)
        return result

    async def head(self, name: str) -> ObjectInfo:
        return await observed(self._observer, "head", self._head(name))

    async def _head(self, name: str) -> ObjectInfo:
        return _info(await _within(CALL_SECONDS, obstore.head_async(self._asking, name)))

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        if prefix and not prefix.endswith("/"):
            raise ValueError("a prefix ends with a slash")
        pages = obstore.list(self._asking, prefix or None, offset=start_after or None, chunk_size=LIST_PAGE)
        while True:
            try:
                page = await observed(self._observer, "list", _next_page(pages))
            except StopAsyncIteration:
                return
            yield [_info(meta) for meta in page]

    async def delete(self, names: Sequence[str]) -> None:
        if names:
            seconds = CALL_SECONDS + len(names) / SLOWEST_DELETES_PER_SECOND
            call = obstore.delete_async(self._streaming, [*names])
            await observed(self._observer, "delete", _within(seconds, call))

    async def check(self) -> None:
        """A read of what is never there: unlike a `head`, its answer tells a missing bucket from a missing name."""
        call = _within(CHECK_SECONDS, obstore.get_async(self._asking, _NEVER_WRITTEN))
        try:
            await observed(self._observer, "check", call)
        except ObjectNotFoundError:
            return

    async def close(self) -> None:
        # obstore's threads may abort the interpreter when it exits in the same breath as their last answer.
        await asyncio.sleep(0.05)


def is_payload_safe_unsigned(endpoint: str) -> bool:
    """Whether the signature may leave out the body's hash, which costs most of the CPU of an upload: where TLS
    keeps the body whole and secret, or where it never leaves this machine.
    """
    parts = urlsplit(endpoint)
    if parts.scheme == "https":
        return True
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def _deadline(size: int) -> float:
    return CALL_SECONDS + size / SLOWEST_BYTES_PER_SECOND


def _stream_deadline(size: int) -> float:
    """For one step of writing a stream, which may have to wait for the parts under way."""
    return _deadline(min(size, PART_BYTES * PARTS_IN_FLIGHT))


async def _within(seconds: float, call: Awaitable[T], *, creates: bool = False) -> T:
    """Await a call of obstore; its errors and its being late become ours."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except (BaseError, FileNotFoundError, OSError, TimeoutError) as error:
        raise build_error(error, creates=creates) from error


async def _next_page(pages: "ListStream[Sequence[ObjectMeta]]") -> "Sequence[ObjectMeta]":
    """Obstore panics when a listing is dropped in the middle of a request, so that is never called off: it ends
    by the client's own time-out, also when its caller has gone.
    """
    fetching = asyncio.ensure_future(anext(pages))
    _unfinished.add(fetching)
    fetching.add_done_callback(_unfinished.discard)
    try:
        return await asyncio.shield(fetching)
    except (BaseError, OSError) as error:
        raise build_error(error, creates=False) from error


_unfinished: "set[asyncio.Future[Sequence[ObjectMeta]]]" = set()


async def _timed_chunks(stream: "BytesStream") -> AsyncIterator[bytes]:
    """Only the waiting for bytes is timed, not what the reader does with them."""
    while True:
        try:
            chunk = await _within(_deadline(STREAM_CHUNK_BYTES), anext(stream))
        except StopAsyncIteration:
            return
        yield chunk


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _info(meta: "ObjectMeta") -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], meta["e_tag"])
