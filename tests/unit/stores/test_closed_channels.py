"""A connection that is renewed (new certificates) is closed a while later: what is still read on it goes on, or is told."""

import asyncio

import etcd3aio._protobuf as protobuf
import grpc
import pytest

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.stores import etcd_channel
from moorage_nodes.stores.etcd import EtcdStore


class Silent(grpc.GenericRpcHandler):
    """An etcd that confirms watches and says nothing more, and whose scans never end. `watches`: how many began."""

    def __init__(self) -> None:
        self.watches = 0

    def service(self, details):
        if details.method.endswith("/Watch"):
            return grpc.stream_stream_rpc_method_handler(
                self.watch, protobuf.WatchRequest.FromString, lambda answer: answer.SerializeToString()
            )
        if details.method.endswith("/RangeStream"):
            return grpc.unary_stream_rpc_method_handler(
                self.scan, protobuf.RangeRequest.FromString, lambda answer: answer.SerializeToString()
            )
        return None

    async def watch(self, requests, _context):
        self.watches += 1
        async for _ in requests:
            answer = protobuf.WatchResponse()
            answer.created, answer.header.revision = True, 5
            yield answer

    async def scan(self, _request, _context):
        while True:
            answer = protobuf.ResponseOp()
            answer.response_range.kvs.add().key = b"/x/k"
            yield answer
            await asyncio.sleep(0.05)


@pytest.fixture
async def silent(monkeypatch):
    monkeypatch.setattr(etcd_channel, "RETIRE_SECONDS", 0.2)
    server, etcd = grpc.aio.server(), Silent()
    server.add_generic_rpc_handlers((etcd,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    store = EtcdStore.open([f"127.0.0.1:{port}"], prefix="/x/")
    yield store, etcd
    await store.close()
    await server.stop(0)


async def test_a_watch_goes_on_with_the_new_connection(silent):
    store, etcd = silent

    async def follow() -> None:
        async with store.watch(b"a", b"z", from_revision=5) as batches:
            async for _ in batches:
                pass

    watching = asyncio.create_task(follow())
    async with asyncio.timeout(10):
        while etcd.watches < 1:
            await asyncio.sleep(0.01)
        store.renew_tls(None)
        while etcd.watches < 2 and not watching.done():
            await asyncio.sleep(0.01)
    assert not watching.done()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_a_scan_ends_with_an_error_that_says_so_and_cancels_nobody(silent):
    store, _ = silent

    async def scan() -> None:
        async for _ in store.scan(b"a", b"z"):
            pass

    scanning = asyncio.create_task(scan())
    await asyncio.sleep(0.1)
    store.renew_tls(None)
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailableError):
            await scanning
