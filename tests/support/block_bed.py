"""A block server with its L2 and L3 on real sockets, and L1's part of an upload: what tests of chunks need.

Metadata and objects are wherever a test says. The user is the one of upload_bed, `upload_bed.NAMESPACE`:
a test that shares the servers with others puts a name of its own there.
"""

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import upload_bed
from realm import Realm
from serving import Serving, serving
from upload_bed import INCARNATION, Bed, hash_of, make_cluster

from moorage_nodes.blocks import server as block_server
from moorage_nodes.blocks.routes import Block
from moorage_nodes.metadata.l2 import server as l2_server
from moorage_nodes.metadata.l3 import server as l3_server
from moorage_nodes.server import open_shared
from moorage_nodes.stores.contracts import MetadataStore, ObjectInfo, ObjectStore, ObjectStream
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.observer import NullObserver
from moorage_nodes.tokens import Audience

HOST = "store.example"
PREFIX = "/block/p1"


@dataclass
class WatchedObjects:
    """Before another store: tells what was asked of it, fails when told to."""

    inner: ObjectStore
    puts: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    put_error: Exception | None = None
    pieces_left: int | None = None  # of streams, until they fail
    open_streams: int = 0

    async def put(self, name: str, data: bytes | memoryview | Sequence[bytes]) -> None:
        if self.put_error is not None:
            raise self.put_error
        self.puts.append(name)
        await self.inner.put(name, data)

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes]) -> int:
        return await self.inner.put_stream(name, chunks)

    async def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes | memoryview:
        self.reads.append(name)
        return await self.inner.get(name, offset=offset, length=length)

    async def get_stream(self, name: str, *, offset: int = 0, length: int | None = None) -> ObjectStream:
        self.reads.append(name)
        stream = await self.inner.get_stream(name, offset=offset, length=length)
        return ObjectStream(stream.size, self._watched(stream.chunks))

    async def _watched(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.open_streams += 1
        try:
            async for chunk in chunks:
                if self.pieces_left is not None:
                    if self.pieces_left == 0:
                        raise self.put_error or RuntimeError("no error was named")
                    self.pieces_left -= 1
                yield chunk
        finally:
            self.open_streams -= 1

    async def head(self, name: str) -> ObjectInfo:
        return await self.inner.head(name)

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        return self.inner.list(prefix, start_after=start_after)

    async def delete(self, names: Sequence[str]) -> None:
        await self.inner.delete(names)

    async def check(self) -> None:
        await self.inner.check()

    async def close(self) -> None:
        await self.inner.close()

    async def names(self) -> dict[str, int]:
        """The user's objects with their sizes."""
        prefix = f"{upload_bed.NAMESPACE}/"
        return {info.name: info.size async for page in self.inner.list(prefix) for info in page}


@dataclass
class BlockBed:
    """`http` speaks to the block server, `l2` and `l3` to theirs; paths are below their prefixes."""

    l1: Bed
    objects: WatchedObjects
    realm: Realm
    block: Block
    serving: Serving
    http: httpx.AsyncClient
    l2: httpx.AsyncClient
    l3: httpx.AsyncClient
    l3_serving: Serving

    def access(self, user: str = "", *, server_key: str = "c1") -> dict[str, str]:
        user = user or upload_bed.NAMESPACE
        token = self.realm.signer("auth").sign(
            Audience.ACCESS, user, 60, username=user, server_key=server_key, gen=0
        )
        return {"Authorization": f"Bearer {token}", "Host": HOST}

    def upload_token(self, upload: str, *, server_key: str = "c1") -> str:
        user = upload_bed.NAMESPACE
        return self.realm.signer("l1").sign(
            Audience.UPLOAD, user, 60, ns=user, upload=upload, server_key=server_key, inc=INCARNATION
        )

    def uploading(self, upload: str, **more: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.upload_token(upload, **more)}", "Host": HOST}

    async def begin(self, file_id: str = "f", base: int = 0, **more: Any) -> str:
        return (await self.l1.begin(file_id, base, **more)).id

    async def write(self, file_id: str, parts: Sequence[bytes], base: int = 0) -> None:
        """A version made of these chunks, named by their hashes, stored in one call."""
        upload = await self.begin(file_id, base)
        if parts:
            answer = await self.http.post(
                "/store_chunk", content=call_of(*parts), headers=self.uploading(upload)
            )
            assert answer.status_code == 200, answer.text
        await self.l1.commit(upload, file_id, base + 1, [hash_of(part) for part in parts])

    async def download_token(self, file_id: str) -> dict[str, str]:
        answer = await self.l2.get(f"/files/{file_id}/chunks", headers=self.access())
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['download_token']}", "Host": HOST}


def chunk_form(data: bytes, name: str | None = None, **changes: Any) -> dict[str, Any]:
    form = {
        "chunk_id": name or hash_of(data),
        "metadata": {"hash": hash_of(data)},
        "data": base64.b64encode(data).decode(),
    }
    return {**form, **changes}


def call_of(*parts: bytes) -> bytes:
    return json.dumps([chunk_form(part) for part in parts]).encode()


@contextlib.asynccontextmanager
async def block_bed(
    folder: Path, objects: ObjectStore, store: MetadataStore | None = None
) -> AsyncIterator[BlockBed]:
    """Everything runs until the end of the block, and closes its stores. Metadata is in memory without `store`."""
    realm = Realm(folder)
    clusters = [
        {"server_key": "c1", "pools": ["p1", "p2"], "write_pools": ["p1"]},
        {"server_key": "c2", "pools": ["p2"], "write_pools": ["p2"]},
        {"server_key": "c3", "pools": ["p1", "p2"], "write_pools": ["p2"]},
    ]
    (folder / "routing.json").write_text(json.dumps({"revision": 1, "hosts": [HOST], "clusters": clusters}))
    watched = WatchedObjects(objects)
    store = store or MemoryStore()
    await make_cluster(store)
    settings = realm.settings("l2", cluster={"server_key": "c1"})
    shared = open_shared(settings)
    l2 = serving(shared, await l2_server.open_on(store, "realm", settings, shared))
    settings = realm.settings("l3", cluster={"server_key": "c1"})
    shared = open_shared(settings)
    l3 = serving(shared, await l3_server.open_on(store, "realm", settings, shared, NullObserver()))
    async with l2 as l2_serving, l3 as l3_serving:
        peers = {"l2": {"c1": [l2_serving.internal]}, "l3": {"c1": [l3_serving.internal]}}
        settings = realm.settings("block", pool="p1", peers=peers)
        shared = open_shared(settings)
        shared.generations = None  # there are no auth servers here
        server = block_server.open_on(watched, settings, shared)
        async with (
            serving(shared, server) as running,
            httpx.AsyncClient(base_url=running.public + PREFIX, timeout=30) as http,
            httpx.AsyncClient(base_url=f"{l2_serving.public}/meta/c1/l2") as l2_http,
            httpx.AsyncClient(base_url=f"{l3_serving.public}/meta/c1/l3") as l3_http,
        ):
            yield BlockBed(
                Bed(store), watched, realm, server.context, running, http, l2_http, l3_http, l3_serving
            )
