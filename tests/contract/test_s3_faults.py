"""What S3Store does when S3 is stopped, hangs, is slow or refuses us: with real servers and a slow one of our own."""

import asyncio
import datetime as dt
import gc
import os
import time
from collections.abc import Iterator

import pytest
from real_servers.engines import S3, run_minio, run_seaweedfs
from real_servers.server import free_ports

from moorage.core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from moorage_nodes.stores.s3 import S3Store

MIB = 1024 * 1024
SOON = 4.0


@pytest.fixture(scope="module", params=[run_seaweedfs, run_minio], ids=["seaweedfs", "minio"])
def own_s3(request) -> Iterator[S3]:
    """A server that these tests may stop; each leaves it running."""
    with request.param() as s3:
        yield s3


@pytest.fixture
async def objects(own_s3):
    store = S3Store.open(own_s3.endpoint, bucket=own_s3.new_bucket(), credentials=own_s3.credentials)
    await until_it_serves(lambda: store.put("there", b"data"))
    yield store
    await store.close()


async def one_chunk():
    yield b"data"


async def list_all(store):
    return [info async for page in store.list("") for info in page]


def every_call(store):
    return {
        "put": lambda: store.put(f"new-{time.time_ns()}", b"data"),
        "put_stream": lambda: store.put_stream("stream", one_chunk()),
        "get": lambda: store.get("there"),
        "get_stream": lambda: store.get_stream("there"),
        "head": lambda: store.head("there"),
        "list": lambda: list_all(store),
        "delete": lambda: store.delete(["other"]),
        "check": lambda: store.check(),
    }


async def timed(call):
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError) as raised:
        await call
    return raised.value, time.monotonic() - started


async def until_it_serves(call):
    """Asks again until it is answered. The gateway of SeaweedFS answers (with 404, or 500 for what is there) before
    the servers of its volumes are back: so long, being unavailable is the right thing to say.
    """
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except ObjectExistsError:
                return None
            except StoreUnavailableError:
                await asyncio.sleep(0.1)


async def test_a_stopped_s3_is_told_soon_by_every_call_and_it_recovers_by_itself(own_s3, objects):
    own_s3.server.kill()
    try:
        for name, call in every_call(objects).items():
            _, seconds = await timed(call())
            assert seconds < SOON, name
        # By now there is no connection left that it could have gone out on.
        error, _ = await timed(objects.put("new", b"data"))
        assert not isinstance(error, OutcomeUnknownError)
    finally:
        own_s3.server.start()
    assert await until_it_serves(lambda: objects.get("there")) == b"data"
    await objects.check()


async def test_an_s3_that_hangs_is_told_soon_and_creates_are_unknown(own_s3, objects):
    own_s3.server.freeze()
    try:
        names, calls = zip(*every_call(objects).items(), strict=True)
        results = await asyncio.gather(*(timed(call()) for call in calls))
    finally:
        own_s3.server.thaw()
    for name, (error, seconds) in zip(names, results, strict=True):
        assert seconds < SOON, name
        assert isinstance(error, OutcomeUnknownError) is name.startswith("put"), name
    assert await until_it_serves(lambda: objects.get("there")) == b"data"


async def test_a_listing_that_is_called_off_harms_nothing(own_s3, objects):
    own_s3.server.freeze()
    try:
        listing = asyncio.create_task(list_all(objects))
        await asyncio.sleep(0.2)
        listing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listing
    finally:
        own_s3.server.thaw()
    gc.collect()
    assert len(await list_all(objects)) == 1


async def test_a_missing_bucket_is_a_store_that_cannot_be_used(own_s3):
    store = S3Store.open(own_s3.endpoint, bucket="never-made", credentials=own_s3.credentials)
    for name, call in every_call(store).items():
        if name not in {"head", "delete"}:  # a head has no body to tell it; a deletion of nothing is done
            error, _ = await timed(call())
            assert "bucket" in error.detail or name == "list"
    await store.close()


async def test_wrong_keys_are_a_store_that_cannot_be_used_and_are_told_to_nobody(own_s3):
    secret = "wrong-secret-0123456789"
    wrong = {"access_key_id": "wrong-key", "secret_access_key": secret}
    store = S3Store.open(own_s3.endpoint, bucket=own_s3.new_bucket(), credentials=wrong)
    for name, call in every_call(store).items():
        error, _ = await timed(call())
        told = [error, error.__cause__]
        assert all(secret not in f"{err} {err!r}" for err in told), name
        assert own_s3.endpoint not in error.detail
    await store.close()


async def test_keys_that_change_are_used_without_a_restart(own_s3, monkeypatch):
    monkeypatch.setattr("moorage_nodes.stores.s3._CREDENTIALS_LIVE", dt.timedelta(seconds=-1))
    live = {"access_key_id": "old", "secret_access_key": "rotated away"}
    store = S3Store.open(own_s3.endpoint, bucket=own_s3.new_bucket(), credentials=live)
    with pytest.raises(StoreUnavailableError):
        await store.put("k", b"1")
    live.update(own_s3.credentials)
    await store.put("k", b"1")
    assert await store.get("k") == b"1"
    await store.close()


async def test_the_environment_decides_nothing(own_s3, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "from-the-environment",
        "AWS_SECRET_ACCESS_KEY": "from-the-environment",
        "AWS_SESSION_TOKEN": "from-the-environment",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_BUCKET": "elsewhere",
        "AWS_REGION": "eu-central-1",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    store = S3Store.open(own_s3.endpoint, bucket=own_s3.new_bucket(), credentials=own_s3.credentials)
    await store.put("k", b"1")
    assert await store.get("k") == b"1"
    await store.close()


async def test_what_lies_beside_the_prefix_is_not_ours(own_s3):
    bucket = own_s3.new_bucket()
    whole = S3Store.open(own_s3.endpoint, bucket=bucket, credentials=own_s3.credentials)
    ours = S3Store.open(own_s3.endpoint, bucket=bucket, prefix="/pool/", credentials=own_s3.credentials)
    await ours.put("a/1", b"ours")
    await whole.put("b/1", b"beside")
    assert [info.name for info in await list_all(ours)] == ["a/1"]
    assert sorted(info.name for info in await list_all(whole)) == ["b/1", "pool/a/1"]
    with pytest.raises(ObjectNotFoundError):
        await ours.get("b/1")
    for store in (ours, whole):
        await store.close()


# --- a server as slow as we like --------------------------------------------------------------------------


class SlowServer:
    """Answers every request with `body`, a piece at a time; `at_once` bytes, then a `pause`, and so on."""

    def __init__(self, body: bytes, at_once: int, pause: float):
        self.body, self.at_once, self.pause = body, at_once, pause
        self.received = 0

    async def handle(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if head.startswith(b"put"):
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            while self.received < length:
                self.received += len(await reader.read(self.at_once))
                await asyncio.sleep(self.pause)
            writer.write(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        else:
            writer.write(
                b"HTTP/1.1 200 OK\r\nLast-Modified: Sun, 22 Nov 2026 00:00:00 GMT\r\n"
                b'ETag: "e"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n' % len(self.body)
            )
            for start in range(0, len(self.body), self.at_once):
                writer.write(self.body[start : start + self.at_once])
                await writer.drain()
                await asyncio.sleep(self.pause)
        writer.close()


@pytest.fixture
async def open_slow():
    """Makes a store on a slow server."""
    servers, stores = [], []

    async def make(slow: SlowServer) -> S3Store:
        (port,) = free_ports(1)
        servers.append(await asyncio.start_server(slow.handle, "127.0.0.1", port))
        keys = {"access_key_id": "k", "secret_access_key": "s"}
        stores.append(S3Store.open(f"http://127.0.0.1:{port}", bucket="b", credentials=keys))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()
    for server in servers:
        server.close()


@pytest.fixture
def _hasty(monkeypatch):
    """So that a test of patience takes no patience."""
    monkeypatch.setattr("moorage_nodes.stores.s3.CALL_SECONDS", 0.5)


@pytest.mark.usefixtures("_hasty")
async def test_a_large_body_that_comes_slowly_is_not_cut(open_slow):
    body = os.urandom(4 * MIB)
    slow = await open_slow(SlowServer(body, 256 * 1024, 0.1))  # 1.6 s, thrice the time for an answer
    assert await slow.get("k") == body
    stream = await slow.get_stream("k")
    assert b"".join([chunk async for chunk in stream.chunks]) == body


@pytest.mark.usefixtures("_hasty")
async def test_a_large_body_that_is_taken_slowly_is_not_cut(open_slow):
    server = SlowServer(b"", 256 * 1024, 0.1)
    slow = await open_slow(server)
    await slow.put("k", bytes(4 * MIB))
    assert server.received == 4 * MIB


@pytest.mark.usefixtures("_hasty")
async def test_a_reader_may_take_its_time(open_slow):
    body = os.urandom(2 * MIB)
    slow = await open_slow(SlowServer(body, MIB, 0))
    received = []
    async for chunk in (await slow.get_stream("k")).chunks:
        received.append(chunk)
        await asyncio.sleep(0.6 if len(received) == 1 else 0)
    assert b"".join(received) == body


@pytest.mark.usefixtures("_hasty")
async def test_a_body_that_stops_coming_is_given_up(open_slow):
    slow = await open_slow(SlowServer(bytes(4 * MIB), MIB, 60))
    stream = await slow.get_stream("k")
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        async for _ in stream.chunks:
            pass
    assert time.monotonic() - started < 3
