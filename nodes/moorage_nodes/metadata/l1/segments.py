"""Long lists of chunks: cut into segments that are written before the record that names them (DESIGN.md).

Segments are immutable and found by a base that is never used twice, so writing them needs no compare but the
cluster's incarnation, and whatever a crash leaves behind belongs to nobody and is collected.
"""

from collections.abc import Iterator, Mapping, Sequence

from moorage.core.errors import DamagedTreeError, StoreUnavailableError
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.bulk_reads import read_keys
from moorage_nodes.metadata.records import SEGMENT_ENTRIES, Entry, Segment
from moorage_nodes.metadata.view import View
from moorage_nodes.stores.contracts import Compare, KeyValue, MetadataStore, Put, Target, Txn

MAX_WRITE_BYTES = 700 * 1024  # of segments in one transaction
MAX_WRITE_PUTS = 100


def segment_keys(namespace: str, base: str, count: int) -> list[bytes]:
    """The keys of all segments of a list of `count` entries."""
    return [keys.segment(namespace, base, index) for index in range(-(-count // SEGMENT_ENTRIES))]


def build_segment_txns(
    namespace: str, lists: Mapping[str, Sequence[Entry]], incarnation: bytes
) -> Iterator[Txn]:
    """The transactions that write lists, by their bases, each within etcd's limits; to be sent one by one."""
    fence = (Compare(keys.INCARNATION, Target.VALUE, incarnation),)
    puts: list[Put] = []
    size = 0
    for put in _puts(namespace, lists):
        if puts and (size + len(put.value) > MAX_WRITE_BYTES or len(puts) == MAX_WRITE_PUTS):
            yield Txn(fence, tuple(puts))
            puts, size = [], 0
        puts.append(put)
        size += len(put.value)
    if puts:
        yield Txn(fence, tuple(puts))


def _puts(namespace: str, lists: Mapping[str, Sequence[Entry]]) -> Iterator[Put]:
    for base, entries in lists.items():
        for index, key in enumerate(segment_keys(namespace, base, len(entries))):
            start = index * SEGMENT_ENTRIES
            yield Put(key, records.encode(Segment(1, list(entries[start : start + SEGMENT_ENTRIES]))))


async def write_segments(
    store: MetadataStore, namespace: str, lists: Mapping[str, Sequence[Entry]], incarnation: bytes
) -> None:
    """StoreUnavailableError: some may be written, which does no harm; begin anew under other bases."""
    for txn in build_segment_txns(namespace, lists, incarnation):
        if not (await store.transact(txn)).succeeded:
            raise StoreUnavailableError("This metadata cluster was restored; its servers must start anew.")


async def read_segments(store: MetadataStore, namespace: str, base: str, count: int) -> list[Entry]:
    """The whole list. `DamagedTreeError` when some of it is not there."""
    wanted = segment_keys(namespace, base, count)
    found: Mapping[bytes, KeyValue] = await read_keys(store, wanted)
    return _joined(base, count, [found[key].value if key in found else None for key in wanted])


def observe_segments(view: View, base: str, count: int) -> list[Entry]:
    """As `read_segments`, in a plan."""
    return _joined(base, count, view.present(segment_keys(view.namespace, base, count)))


def _joined(base: str, count: int, parts: Sequence[bytes | None]) -> list[Entry]:
    entries: list[Entry] = []
    for data in parts:
        if data is not None:
            entries.extend(records.decode(Segment, data).entries)
    if len(entries) != count:
        raise DamagedTreeError(f"Segments of the list {base!r} are missing.")
    return entries
