import pytest
from upload_bed import INCARNATION, NAMESPACE, Bed, digest_of

from moorage.core.errors import DamagedTreeError, StoreUnavailableError
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.segments import (
    build_segment_txns,
    observe_segments,
    read_segments,
    write_segments,
)
from moorage_nodes.metadata.records import SEGMENT_ENTRIES
from moorage_nodes.stores.contracts import MAX_REQUEST_BYTES, Delete, Put, Txn
from moorage_nodes.stores.limits import check_txn, estimate_bytes

LONGEST_NAME = "n" * 128


def entries(count: int, name: str | None = None):
    return [(name, digest_of(str(number).encode()), number) for number in range(count)]


@pytest.mark.parametrize("count", [1, SEGMENT_ENTRIES, SEGMENT_ENTRIES + 1, 3 * SEGMENT_ENTRIES])
async def test_a_list_comes_back_as_it_was_written(bed: Bed, count: int):
    await write_segments(bed.store, NAMESPACE, {"u.0": entries(count)}, INCARNATION.encode())
    assert await read_segments(bed.store, NAMESPACE, "u.0", count) == entries(count)
    assert await bed.engine.read(NAMESPACE, lambda view: observe_segments(view, "u.0", count)) == entries(
        count
    )
    found, _ = await bed.store.range(b"n/ns/g/", b"n/ns/g0")
    assert len(found.kvs) == -(-count // SEGMENT_ENTRIES)


def test_every_transaction_is_within_the_limits_of_etcd():
    txns = list(build_segment_txns(NAMESPACE, {"u.0": entries(20_000, LONGEST_NAME)}, b"i" * 32))
    for txn in txns:
        check_txn(txn)
        assert estimate_bytes(txn, key_prefix=64) < MAX_REQUEST_BYTES
    assert sum(len(txn.then) for txn in txns) == 5


def test_short_entries_share_transactions():
    lists = {"u.0": entries(10_000), "u.1": entries(10_000)}
    assert len(list(build_segment_txns(NAMESPACE, lists, b"i" * 32))) == 2


def test_very_many_short_lists_share_transactions_too():
    txns = list(build_segment_txns(NAMESPACE, {f"u.{n}": entries(2) for n in range(1000)}, b"i" * 32))
    for txn in txns:
        check_txn(txn)
    assert len(txns) == 10


async def test_a_list_that_is_not_whole_is_damage(bed: Bed):
    await write_segments(bed.store, NAMESPACE, {"u.0": entries(SEGMENT_ENTRIES + 1)}, INCARNATION.encode())
    await bed.store.transact(Txn(then=(Delete(keys.segment(NAMESPACE, "u.0", 1)),)))
    with pytest.raises(DamagedTreeError):
        await read_segments(bed.store, NAMESPACE, "u.0", SEGMENT_ENTRIES + 1)


async def test_nothing_is_written_to_a_restored_cluster(bed: Bed):
    await bed.store.transact(Txn(then=(Put(keys.INCARNATION, b"second"),)))
    with pytest.raises(StoreUnavailableError):
        await write_segments(bed.store, NAMESPACE, {"u.0": entries(1)}, INCARNATION.encode())
    assert await bed.store.get(keys.segment(NAMESPACE, "u.0", 0)) is None
