"""The mark on chunks that a deletion let go: only what is live, never over somebody else's write."""

import random

import pytest

from moorage.core.errors import InvalidFieldError, StoreUnavailableError
from moorage.core.ids import format_hash
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l3.marks import TXN_MARKS
from moorage_nodes.metadata.l3.registry import Registry
from moorage_nodes.metadata.records import (
    CHUNK_CONDEMNED,
    CHUNK_DAMAGED,
    CHUNK_LIVE,
    CHUNK_SOFT_DELETED,
    Chunk,
    ChunkName,
)
from moorage_nodes.stores.contracts import Put, Txn
from moorage_nodes.stores.group import TransactionGroup
from moorage_nodes.stores.memory import MemoryStore

INCARNATION = b"first"


class Chunks:
    """The registry of one process, and the records of `ns` on its store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.group = TransactionGroup(self.store)
        self.registry = Registry(
            self.store, self, incarnation=INCARNATION, clock=lambda: 0.0, rng=random.Random(1)
        )
        self.overtaken_by: Put | None = None

    async def submit(self, txn: Txn):
        if self.overtaken_by is not None:
            await self.store.transact(Txn(then=(self.overtaken_by,)))
        return await self.group.submit(txn)

    async def put(self, number: int, state: int = CHUNK_LIVE) -> str:
        await self.store.transact(Txn(then=(self.record(number, state),)))
        return format_hash(number.to_bytes(32))

    def record(self, number: int, state: int, pool: str = "p") -> Put:
        chunk = Chunk(1, 5, pool, "o", 0, 5, state)
        return Put(keys.chunk("ns", number.to_bytes(32)), records.encode(chunk))

    async def get(self, number: int) -> Chunk:
        return records.decode(Chunk, (await self.store.get(keys.chunk("ns", number.to_bytes(32)))).value)


@pytest.fixture
async def chunks() -> Chunks:
    made = Chunks()
    await made.store.transact(Txn(then=(Put(keys.INCARNATION, INCARNATION),)))
    return made


async def test_what_is_live_is_marked_once_and_stays_where_it_is(chunks):
    hashes = [await chunks.put(number) for number in range(3 * TXN_MARKS + 7)]
    assert await chunks.registry.mark_soft("ns", [*hashes, format_hash(b"x" * 32)]) == len(hashes)
    assert await chunks.get(0) == Chunk(1, 5, "p", "o", 0, 5, CHUNK_SOFT_DELETED)
    assert (await chunks.get(3 * TXN_MARKS)).state == CHUNK_SOFT_DELETED
    assert await chunks.registry.mark_soft("ns", hashes) == 0


@pytest.mark.parametrize("state", [CHUNK_SOFT_DELETED, CHUNK_CONDEMNED, CHUNK_DAMAGED])
async def test_other_states_are_left_alone(chunks, state):
    hashed = await chunks.put(1, state)
    assert await chunks.registry.mark_soft("ns", [hashed]) == 0
    assert (await chunks.get(1)).state == state


async def test_who_writes_the_record_in_that_moment_has_the_last_word(chunks):
    hashed = await chunks.put(1)
    chunks.overtaken_by = chunks.record(1, CHUNK_LIVE, "another")
    assert await chunks.registry.mark_soft("ns", [hashed]) == 0
    assert await chunks.get(1) == Chunk(1, 5, "another", "o", 0, 5, CHUNK_LIVE)


async def test_a_name_stands_for_what_it_means_and_another_namespace_is_untouched(chunks):
    await chunks.put(1)
    name = Put(keys.chunk_name("ns", "chunk_0"), records.encode(ChunkName(1, (1).to_bytes(32))))
    await chunks.store.transact(Txn(then=(name,)))
    assert await chunks.registry.mark_soft("other", ["chunk_0"]) == 0
    assert await chunks.registry.mark_soft("ns", ["chunk_0", "unknown"]) == 1


async def test_a_restored_cluster_takes_no_marks_of_an_old_server(chunks):
    hashed = await chunks.put(1)
    await chunks.store.transact(Txn(then=(Put(keys.INCARNATION, b"second"),)))
    with pytest.raises(StoreUnavailableError):
        await chunks.registry.mark_soft("ns", [hashed])
    assert (await chunks.get(1)).state == CHUNK_LIVE


async def test_ids_are_ids(chunks):
    with pytest.raises(InvalidFieldError):
        await chunks.registry.mark_soft("ns", ["a/b"])
