"""A block server on real etcd and S3, and one user of its own for each test."""

import dataclasses
import itertools
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
import upload_bed
from block_bed import BlockBed, block_bed

from moorage_nodes.fsck.check import Result, check_store
from moorage_nodes.fsck.findings import KINDS
from moorage_nodes.fsck.pools import DirectPool
from moorage_nodes.metadata import keys, records
from moorage_nodes.stores.contracts import Delete, KeyValue, Put, Txn, prefix_end
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.s3 import S3Store

_numbers = itertools.count()


@dataclasses.dataclass
class Patient:
    """A user's files, to be hurt and looked at."""

    bed: BlockBed
    namespace: str

    @property
    def store(self):
        return self.bed.l1.store

    async def check(self, *, deep: bool = False) -> Result:
        return await check_store(
            self.store, {"p1": DirectPool(self.bed.objects)}, deep=deep, namespaces=[self.namespace]
        )

    async def found(self, *, deep: bool = False) -> dict[str, list[str]]:
        """The subjects of all findings (not of informations), by kind."""
        result = await self.check(deep=deep)
        kinds: dict[str, list[str]] = {}
        for finding in result.findings.listed:
            if KINDS[finding.kind].level == "finding":
                kinds.setdefault(finding.kind, []).append(finding.subject)
        assert result.is_clean == (not kinds)
        return kinds

    async def put(self, key: bytes, record: Any) -> None:
        value = record if isinstance(record, bytes) else records.encode(record)
        await self.store.transact(Txn(then=(Put(key, value),)))

    async def delete(self, *gone: bytes) -> None:
        await self.store.transact(Txn(then=tuple(map(Delete, gone))))

    async def change(self, kind: Any, key: bytes, **changes: Any) -> None:
        kv = await self.store.get(key)
        assert kv is not None
        await self.put(key, msgspec.structs.replace(records.decode(kind, kv.value), **changes))

    async def keys(self, letter: str) -> Sequence[KeyValue]:
        prefix = keys.namespace_prefix(self.namespace) + letter.encode() + b"/"
        found, _ = await self.store.range(prefix, prefix_end(prefix))
        return found.kvs

    async def object_of(self, data: bytes) -> str:
        """The name of the object that a chunk lies in."""
        chunk = await self.bed.l1.chunk(data)
        assert chunk is not None
        return f"{self.namespace}/{chunk.object}"

    async def overwrite(self, name: str, data: bytes) -> None:
        """As a disk that rots: our own stores never write an object twice."""

        async def pieces():
            yield data

        await self.bed.objects.put_stream(name, pieces())


@pytest.fixture(scope="module")
async def running_bed(tmp_path_factory, etcd_endpoint, s3_seaweedfs) -> AsyncIterator[BlockBed]:
    objects = S3Store.open(
        s3_seaweedfs.endpoint, bucket=s3_seaweedfs.new_bucket(), credentials=s3_seaweedfs.credentials
    )
    store = EtcdStore.open([etcd_endpoint], prefix=f"/fsck-{secrets.token_hex(6)}/")
    async with block_bed(tmp_path_factory.mktemp("realm"), objects, store) as running:
        yield running


@pytest.fixture
def patient(running_bed: BlockBed, monkeypatch: pytest.MonkeyPatch) -> Patient:
    namespace = f"user{next(_numbers)}"
    monkeypatch.setattr(upload_bed, "NAMESPACE", namespace)
    bed = dataclasses.replace(running_bed, l1=upload_bed.Bed(running_bed.l1.store))
    return Patient(bed, namespace)
