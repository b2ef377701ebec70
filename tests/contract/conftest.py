"""The stores that the contract suites run on: in memory and real ones."""

import dataclasses
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from etcd3aio._protobuf import CompactionRequest, KVStub
from grpc.aio import insecure_channel
from real_servers.engines import S3, Etcd

from moorage_nodes.stores.contracts import MetadataStore, ObjectStore
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.objects_memory import MemoryObjects
from moorage_nodes.stores.s3 import S3Store

_numbers = itertools.count()


@dataclasses.dataclass
class Subject:
    """A metadata store under test; `compact` is what its administrator does. `second`: how long one of its
    seconds takes, so that leases need not be waited for where the clock is ours.
    """

    store: MetadataStore
    compact: Callable[[int], Awaitable[None]]
    second: float = 1.0


@pytest.fixture(params=["memory", "etcd"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        memory = MemoryStore(clock=lambda: 10 * time.monotonic(), progress_interval=0.2)
        yield Subject(memory, memory.compact, second=0.1)
        await memory.close()
        return
    etcd: Etcd = request.getfixturevalue("etcd")
    store = EtcdStore.open([etcd.endpoint], prefix=f"/{secrets.token_hex(4)}-{next(_numbers)}/")
    async with insecure_channel(etcd.endpoint) as channel:
        kv = KVStub(channel)

        async def compact(revision: int) -> None:
            await kv.Compact(CompactionRequest(revision=revision, physical=True))

        yield Subject(store, compact)
    await store.close()


@pytest.fixture
def store(subject: Subject) -> MetadataStore:
    return subject.store


@pytest.fixture(params=["memory", "s3_seaweedfs", "s3_minio"])
async def objects(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    if request.param == "memory":
        yield MemoryObjects()
        return
    s3: S3 = request.getfixturevalue(request.param)
    store = S3Store.open(
        s3.endpoint, bucket=s3.new_bucket(), prefix="below/here/", credentials=s3.credentials
    )
    yield store
    await store.close()
