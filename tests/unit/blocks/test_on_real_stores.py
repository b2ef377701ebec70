"""The block server on real S3 servers and real etcd: what lies in the bucket, and what is said when they are away."""

import asyncio
import os
import secrets
import time
import tracemalloc

import pytest
from block_bed import block_bed, call_of, chunk_form
from real_servers.server import free_ports
from upload_bed import hash_of

from moorage_nodes.settings import Peers
from moorage_nodes.stores.contracts import ObjectStream
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.objects_memory import MemoryObjects
from moorage_nodes.stores.s3 import S3Store

MIB = 1024 * 1024


@pytest.fixture(params=["seaweedfs", "minio"])
async def bed(request, tmp_path, etcd_endpoint):
    s3 = request.getfixturevalue(f"s3_{request.param}")
    objects = S3Store.open(s3.endpoint, bucket=s3.new_bucket(), credentials=s3.credentials)
    store = EtcdStore.open([etcd_endpoint], prefix=f"/test-{secrets.token_hex(6)}/")
    async with block_bed(tmp_path, objects, store) as running:
        yield running


async def test_a_thousand_small_chunks_are_one_object(bed):
    parts = [secrets.token_bytes(4096) for _ in range(1000)]
    await bed.write("f", parts)
    assert list((await bed.objects.names()).values()) == [1000 * 4096]
    response = await bed.http.get("/files/f/content", headers=bed.access())
    assert response.content == b"".join(parts)


async def test_of_a_wrong_hash_nothing_is_in_the_bucket(bed):
    upload = await bed.begin()
    body = [chunk_form(b"good"), chunk_form(b"bad", "bad", metadata={"hash": hash_of(b"others")})]
    answer = await bed.http.post("/store_chunk", json=body, headers=bed.uploading(upload))
    assert (answer.status_code, answer.json()["error"]) == (422, "hash_mismatch")
    assert await bed.objects.names() == {}


async def test_large_chunks_come_back_whole_and_in_ranges(bed):
    data = os.urandom(5 * MIB)
    upload = await bed.begin()
    answer = await bed.http.put(f"/chunks/{hash_of(data)}", content=data, headers=bed.uploading(upload))
    assert answer.status_code == 200
    await bed.l1.commit(upload, "f", 1)
    path = f"/chunks/{hash_of(data)}"
    assert (await bed.http.get(path, headers=bed.access())).content == data
    part = await bed.http.get(path, headers={**bed.access(), "Range": "bytes=4000000-4000009"})
    assert (part.status_code, part.content) == (206, data[4_000_000:4_000_010])


async def test_when_s3_is_stopped_the_answer_is_503_within_five_seconds(tmp_path):
    (port,) = free_ports(1)
    objects = S3Store.open(
        f"http://127.0.0.1:{port}",
        bucket="none",
        credentials={"access_key_id": "a", "secret_access_key": "s"},
    )
    async with block_bed(tmp_path, objects) as bed:
        upload = await bed.begin()
        started = time.monotonic()
        answer = await bed.http.post("/store_chunk", content=call_of(b"bytes"), headers=bed.uploading(upload))
        assert (answer.status_code, answer.json()["error"]) == (503, "store_unavailable")
        assert time.monotonic() - started < 5
        assert await bed.l1.stored_keys(upload) == 0


async def test_when_l3_is_stopped_the_answer_is_503_within_five_seconds(tmp_path, monkeypatch):
    async with block_bed(tmp_path, MemoryObjects()) as bed:
        upload = await bed.begin()
        (port,) = free_ports(1)
        peers = bed.block.places._peers
        peers.close()
        monkeypatch.setattr(peers, "_peers", Peers(l3={"c1": (f"http://127.0.0.1:{port}",)}))
        for method, path, headers in [
            ("PUT", "/chunks/a", bed.uploading(upload)),
            ("GET", f"/chunks/{hash_of(b'x')}", bed.access()),
        ]:
            started = time.monotonic()
            content = b"a" if method == "PUT" else None
            answer = await bed.http.request(method, path, content=content, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (503, "store_unavailable")
            assert time.monotonic() - started < 5
        assert await bed.l1.stored_keys(upload) == 0


class Endless(MemoryObjects):
    """Gives one chunk of 4 MiB in pieces that it makes as they are asked for."""

    piece = os.urandom(256 * 1024)

    async def get_stream(self, name, *, offset=0, length=None):
        async def pieces():
            for _ in range(length // len(self.piece)):
                yield bytes(self.piece)

        return ObjectStream(length, pieces())


async def test_memory_stays_flat_while_many_large_files_are_streamed(tmp_path):
    async with block_bed(tmp_path, Endless()) as bed:
        data = Endless.piece * 16
        upload = await bed.begin("f")
        await bed.http.put(f"/chunks/{hash_of(data)}", content=data, headers=bed.uploading(upload))
        await bed.l1.commit(upload, "f", 1, [hash_of(data)] * 8)

        async def read():
            async with bed.http.stream("GET", "/files/f/content", headers=bed.access()) as response:
                return sum([len(piece) async for piece in response.aiter_bytes()])

        tracemalloc.start()
        try:
            received = await asyncio.gather(*(read() for _ in range(16)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert received == [32 * MIB] * 16
        assert peak < 48 * MIB  # of the server and of its 16 clients, who were sent 512 MiB
