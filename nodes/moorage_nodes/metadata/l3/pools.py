"""What is known of the pools that a cluster's chunks lie in: asked for before a pool is let go (docs/adr/0023-pools-let-go.md)."""

from typing import Any

from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import PoolsLeft
from moorage_nodes.stores.contracts import MetadataStore


async def read_pools_left(store: MetadataStore) -> dict[str, Any]:
    """`{"revision", "collection": {"began", "left": {pool: {"chunks", "objects"}}} | None}`: etcd's revision now, and
    what the last complete collection left, which began at the revision `began`. StoreUnavailableError; FormatError.
    """
    snapshot = await store.get_many([keys.COLLECTOR_POOLS])
    kv = snapshot.found.get(keys.COLLECTOR_POOLS)
    found = None if kv is None else records.decode(PoolsLeft, kv.value)
    if found is None or kv is None or found.began > kv.mod_revision:
        # Of another etcd, from which the keys were brought here: its revisions say nothing.
        return {"revision": snapshot.revision, "collection": None}
    left = {pool: {"chunks": chunks, "objects": objects} for pool, (chunks, objects) in found.pools.items()}
    return {"revision": snapshot.revision, "collection": {"began": found.began, "left": left}}
