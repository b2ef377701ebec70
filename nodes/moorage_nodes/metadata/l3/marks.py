"""The advisory mark on chunks that a deletion let go (PROTOCOL.md, Deletion 6). Pure."""

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import CHUNK_LIVE, CHUNK_SOFT_DELETED, Chunk
from moorage_nodes.stores.contracts import Compare, KeyValue, Put, Target, Txn, unchanged

TXN_MARKS = 50  # each is a compare and a put; more do not fit into a member of a group


def plan_marks(found: Iterable[KeyValue], incarnation: bytes) -> Iterator[Txn]:
    """Transactions that mark those of these chunk records that are live, each compared with what was read."""
    live = [(kv, chunk) for kv in found if (chunk := records.decode(Chunk, kv.value)).state == CHUNK_LIVE]
    fence = Compare(keys.INCARNATION, Target.VALUE, incarnation)
    for start in range(0, len(live), TXN_MARKS):
        part = live[start : start + TXN_MARKS]
        yield Txn(
            (fence, *(unchanged(kv.key, kv.mod_revision) for kv, _ in part)),
            tuple(
                Put(kv.key, records.encode(replace(chunk, state=CHUNK_SOFT_DELETED))) for kv, chunk in part
            ),
        )
