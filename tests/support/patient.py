"""A user's files on a block server with real etcd and S3: to be hurt, and looked at by fsck and the scrubber."""

import contextlib
import dataclasses
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import upload_bed
from block_bed import BlockBed, block_bed
from real_servers.engines import S3

from moorage_nodes.fsck.check import Result, check_store
from moorage_nodes.fsck.findings import KINDS
from moorage_nodes.fsck.pools import DirectPool
from moorage_nodes.metadata import keys, records
from moorage_nodes.stores.contracts import Delete, KeyValue, MetadataStore, Put, Txn, prefix_end
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.s3 import S3Store


@dataclasses.dataclass
class Patient:
    """A user's files, to be hurt and looked at."""

    bed: BlockBed
    namespace: str

    @property
    def store(self) -> MetadataStore:
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

        async def pieces() -> AsyncIterator[bytes]:
            yield data

        await self.bed.objects.put_stream(name, pieces())


@contextlib.asynccontextmanager
async def real_bed(folder: Path, etcd_endpoint: str, s3: S3) -> AsyncIterator[BlockBed]:
    """Servers on a key prefix and a bucket of their own."""
    objects = S3Store.open(s3.endpoint, bucket=s3.new_bucket(), credentials=s3.credentials)
    store = EtcdStore.open([etcd_endpoint], prefix=f"/patient-{secrets.token_hex(6)}/")
    async with block_bed(folder, objects, store) as running:
        yield running


def admit(bed: BlockBed, namespace: str) -> Patient:
    """A user of these servers; `upload_bed.NAMESPACE` must be that one."""
    return Patient(dataclasses.replace(bed, l1=upload_bed.Bed(bed.l1.store)), namespace)
