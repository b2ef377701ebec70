"""One watch on etcd: a gRPC stream that is started anew, from the revision it had reached, whenever it breaks."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from etcd3aio._protobuf import WatchRequest
from grpc.aio import AioRpcError, UsageError

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.stores.contracts import Range, WatchBatch
from moorage_nodes.stores.etcd_channel import Endpoint, Endpoints, is_being_cancelled
from moorage_nodes.stores.etcd_wire import Wire

PROGRESS_SECONDS = 3.0  # silence after which etcd is asked how far it is; as long again, and it is doubted
BACKOFF_SECONDS = (0.1, 2.0)  # the first pause, the longest
_ASK_PROGRESS = WatchRequest()
_ASK_PROGRESS.progress_request.SetInParent()


class _BrokenError(Exception):
    """The stream has ended; the watch goes on with another."""


class _CompactedAwayError(Exception):
    """What was asked for is compacted."""


@asynccontextmanager
async def watch_range(
    endpoints: Endpoints, wire: Wire, key: bytes, end: bytes, from_revision: int
) -> AsyncIterator[AsyncIterator[WatchBatch]]:
    """`MetadataStore.watch`. While no endpoint can be reached it keeps trying and yields nothing."""
    if from_revision < 1:
        raise ValueError("from_revision is at least 1")
    async with aclosing(_watch(endpoints, wire, key, end, from_revision)) as batches:
        yield batches


async def _watch(
    endpoints: Endpoints, wire: Wire, key: bytes, end: bytes, following: int
) -> AsyncGenerator[WatchBatch]:
    pause, longest = BACKOFF_SECONDS
    while True:
        endpoint = endpoints.current
        try:
            async with aclosing(_stream(endpoints, endpoint, wire, key, end, following)) as batches:
                async for batch in batches:
                    following = max(following, batch.revision + 1)
                    pause = BACKOFF_SECONDS[0]
                    yield batch
        except _CompactedAwayError:
            with suppress(StoreUnavailableError):
                following = await _current_revision(endpoints, wire, key) + 1
                yield WatchBatch(following - 1, resync=True)
                continue
        except _BrokenError:
            endpoints.leave(endpoint)
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)


async def _current_revision(endpoints: Endpoints, wire: Wire, key: bytes) -> int:
    response = await endpoints.read(lambda endpoint: endpoint.read_range, wire.build_range(Range(key)))
    revision: int = response.header.revision
    return revision


async def _stream(
    endpoints: Endpoints, endpoint: Endpoint, wire: Wire, key: bytes, end: bytes, following: int
) -> AsyncGenerator[WatchBatch]:
    """The batches of one gRPC stream, until it breaks."""
    stream = endpoint.watch(metadata=(("hasleader", "true"),))
    reading: asyncio.Task[Any] | None = None
    asked = False
    try:
        await stream.write(wire.build_watch(key, end, following))
        while True:
            reading = reading or asyncio.ensure_future(stream.read())
            # Not wait_for: a read that is cancelled ends its stream.
            done, _ = await asyncio.wait((reading,), timeout=PROGRESS_SECONDS)
            if not done:
                if not asked:
                    asked = True
                    await stream.write(_ASK_PROGRESS)
                    continue
                # etcd does not answer that while nothing has been written since the watch began.
                asked = False
                revision = await _current_revision(endpoints, wire, key)
                if revision >= following:
                    raise _BrokenError
                yield WatchBatch(revision)
                continue
            response, reading, asked = reading.result(), None, False
            batch = _parse_response(wire, response)
            if batch is not None:
                following = max(following, batch.revision + 1)
                yield batch
    except (AioRpcError, UsageError, asyncio.InvalidStateError, StoreUnavailableError) as error:
        raise _BrokenError from error
    except asyncio.CancelledError as error:
        if is_being_cancelled():
            raise
        raise _BrokenError from error
    finally:
        if reading is not None:
            reading.cancel()
        stream.cancel()


def _parse_response(wire: Wire, response: Any) -> WatchBatch | None:
    """None when it only says that the watch was made."""
    if not hasattr(response, "events"):  # the end of the stream
        raise _BrokenError
    if response.compact_revision:
        raise _CompactedAwayError
    if response.canceled:
        raise _BrokenError
    if response.created:
        return None
    if response.events:
        # While etcd catches up, a header's revision is ahead of the events that are still to come.
        events = tuple(map(wire.parse_event, response.events))
        return WatchBatch(events[-1].kv.mod_revision, events)
    return WatchBatch(response.header.revision)
