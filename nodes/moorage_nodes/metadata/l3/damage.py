"""What reading chunks again says of their records: damaged, or readable after all. Pure.

Like the advisory mark (marks.py) this moves no head: it compares the record as it was read, so a chunk that somebody
stored anew, moved or collected meanwhile is left to them. A damaged record takes nothing away: kept versions go on
naming the chunk, reads of it are refused, and the next upload of its bytes replaces the record (registration.py).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import CHUNK_CONDEMNED, CHUNK_DAMAGED, CHUNK_LIVE, Chunk
from moorage_nodes.stores.contracts import Compare, KeyValue, Put, Target, Txn, unchanged


@dataclass(frozen=True, slots=True)
class Verified:
    """A chunk record as it was read, and whether its bytes were right afterwards."""

    kv: KeyValue
    chunk: Chunk
    is_right: bool


@dataclass(frozen=True, slots=True)
class Change:
    """`is_damage`, or else the chunk can be read again."""

    digest: bytes
    is_damage: bool
    txn: Txn


def plan_damage(verified: Iterable[Verified], incarnation: bytes) -> Sequence[Change]:
    """One transaction for each record that does not say what was found. What is condemned is the collector's."""
    return [
        _plan_change(each, incarnation)
        for each in verified
        if each.is_right == (each.chunk.state == CHUNK_DAMAGED) and each.chunk.state != CHUNK_CONDEMNED
    ]


def _plan_change(each: Verified, incarnation: bytes) -> Change:
    state = CHUNK_LIVE if each.is_right else CHUNK_DAMAGED
    compares = (
        Compare(keys.INCARNATION, Target.VALUE, incarnation),
        unchanged(each.kv.key, each.kv.mod_revision),
    )
    put = Put(each.kv.key, records.encode(replace(each.chunk, state=state)))
    return Change(each.kv.key[-32:], not each.is_right, Txn(compares, (put,)))
