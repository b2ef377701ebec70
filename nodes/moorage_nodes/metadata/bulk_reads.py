"""Reading many keys that need not be of one revision: immutable records, or each good by itself."""

import asyncio
from collections.abc import Mapping, Sequence

from moorage_nodes.stores.contracts import MAX_TXN_OPS, KeyValue, MetadataStore

PARALLEL_READS = (
    4  # requests of one caller under way at once: a long list must not hold up everybody else's reads
)


async def read_keys(store: MetadataStore, keys: Sequence[bytes]) -> Mapping[bytes, KeyValue]:
    """The values of any number of keys, each read linearizably; absent ones are not in the answer."""
    if len(keys) <= MAX_TXN_OPS:
        return (await store.get_many(keys)).found if keys else {}
    found: dict[bytes, KeyValue] = {}
    waiting = [keys[start : start + MAX_TXN_OPS] for start in range(0, len(keys), MAX_TXN_OPS)]

    async def work() -> None:
        while waiting:
            found.update((await store.get_many(waiting.pop())).found)

    try:
        await asyncio.gather(*(work() for _ in range(PARALLEL_READS)))
    finally:
        waiting.clear()  # where one read failed, the others end with what they have begun
    return found
