"""Records as a test wants them, whatever the rules: written as the collector writes, which moves the generation."""

import msgspec

from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import Head
from moorage_nodes.stores.contracts import Delete, MetadataStore, Put, Txn, unchanged


async def rewrite(store: MetadataStore, namespace: str, wanted: dict[bytes, msgspec.Struct | None]) -> None:
    """Put these records (None: delete), in one transaction that moves the head and says to nobody what it did."""
    key = keys.head(namespace)
    kv = await store.get(key)
    head = Head() if kv is None else records.decode(Head, kv.value)
    moved = Head(sequence=head.sequence, generation=head.generation + 1)
    ops = [
        Delete(each) if record is None else Put(each, records.encode(record))
        for each, record in wanted.items()
    ]
    revision = 0 if kv is None else kv.mod_revision
    done = await store.transact(Txn((unchanged(key, revision),), (Put(key, records.encode(moved)), *ops)))
    assert done.succeeded
