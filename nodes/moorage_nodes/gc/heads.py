"""The collector's transactions on a namespace: each compares the head and moves its generation.

Every server that knows something of the namespace forgets it then (metadata/knowledge.py), and every change that was
planned on the state before is planned again: so nobody builds on what the collector takes away.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from msgspec import Struct

from moorage.core.errors import MoorageError
from moorage_nodes.gc.tenure import Tenure
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import Head
from moorage_nodes.stores.contracts import (
    Compare,
    Delete,
    KeyValue,
    MetadataStore,
    Put,
    Target,
    Txn,
    TxnResult,
    unchanged,
)

# etcd counts 128 along a path: the outer operations, and the compares or operations of the largest group.
GROUP_OPS = 40
GROUP_RECORDS = 32  # chunk records in a group, each compared
MAX_GROUPS = 80
MAX_WRITE_BYTES = 512 * 1024
MAX_ATTEMPTS = 100
T = TypeVar("T")


class Group(Struct, frozen=True):
    """What is done together if its own compares hold; at most `GROUP_OPS` of either.."""

    compares: tuple[Compare, ...]
    ops: tuple[Put | Delete, ...]

    @property
    def weight(self) -> int:
        return sum(64 + len(compare.key) for compare in self.compares) + sum(
            128 + 2 * len(op.key) + (len(op.value) if isinstance(op, Put) else 0) for op in self.ops
        )


class NamespaceHead:
    """A namespace's head as this collector last knew it."""

    def __init__(self, store: MetadataStore, namespace: str, incarnation: bytes, tenure: Tenure) -> None:
        self._store = store
        self._incarnation = incarnation
        self.tenure = tenure
        self.namespace = namespace
        self.key = keys.head(namespace)
        self.head = Head()
        self.revision = 0

    @property
    def fences(self) -> tuple[Compare, ...]:
        """Of every write, also of those that need no head."""
        return Compare(keys.INCARNATION, Target.VALUE, self._incarnation), self.tenure.fence

    def see(self, kv: KeyValue | None) -> None:
        """The head as just read."""
        self.head = Head() if kv is None else records.decode(Head, kv.value)
        self.revision = 0 if kv is None else kv.mod_revision

    def step_back(self, sequence: int) -> None:
        """Not all of the journal up to the head was read: nothing can be written before that is done."""
        self.head, self.revision = Head(sequence=sequence, generation=self.head.generation), -1

    async def read(self) -> None:
        self.see(await self._store.get(self.key))

    async def write(self, groups: Sequence[Group]) -> list[bool] | None:
        """One transaction at the head that is known: which groups were done. None: the head has moved on."""
        moved = Head(sequence=self.head.sequence, generation=self.head.generation + 1)
        compares = (unchanged(self.key, self.revision), *self.fences)
        nested = tuple(Txn(group.compares, group.ops) for group in groups)
        result = await self._store.transact(
            Txn(compares, (Put(self.key, records.encode(moved)), *nested)),
        )
        if not result.succeeded:
            await self.tenure.check(self._incarnation)
            return None
        self.tenure.written += 1
        self.head, self.revision = moved, result.revision
        return [type(each) is TxnResult and each.succeeded for each in result.results[1:]]

    async def write_aside(self, compares: Sequence[Compare], groups: Sequence[Group]) -> list[bool] | None:
        """One transaction that needs no head and moves none; None: one of `compares` does not hold."""
        nested = tuple(Txn(group.compares, group.ops) for group in groups)
        result = await self._store.transact(Txn((*self.fences, *compares), nested))
        if not result.succeeded:
            await self.tenure.check(self._incarnation)
            return None
        self.tenure.written += 1
        return [type(each) is TxnResult and each.succeeded for each in result.results]

    async def write_anyway(self, groups: Sequence[Group]) -> int:
        """Write what is right at any head if its own compares hold; how many groups were done."""
        done = 0
        for part in split(groups):
            for _ in range(MAX_ATTEMPTS):
                written = await self.write(part)
                if written is not None:
                    done += sum(written)
                    break
                await self.read()
            else:
                raise too_busy(self.namespace)
        return done


def split(groups: Sequence[Group]) -> list[list[Group]]:
    """Parts that fit into one transaction each."""
    parts: list[list[Group]] = []
    weight = 0
    for group in groups:
        if not parts or len(parts[-1]) >= MAX_GROUPS or weight + group.weight > MAX_WRITE_BYTES:
            parts.append([])
            weight = 0
        parts[-1].append(group)
        weight += group.weight
    return parts


def cut(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """The items in parts of at most `size`."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


class NamespaceBusyError(MoorageError):
    """A namespace changes faster than it can be collected: the next collection comes to it again."""

    word = "namespace_busy"


def too_busy(namespace: str) -> NamespaceBusyError:
    return NamespaceBusyError(f"The namespace {namespace} changes faster than it can be collected.")
