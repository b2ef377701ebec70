"""etcd's keyspace as a pure data structure: revisions, history, transactions, compaction, leases' keys.

No clock, no waiting. The semantics are those of etcd 3.7.3 (server/etcdserver/txn, server/storage/mvcc): a
transaction that writes anything makes one revision; all compares of its tree are evaluated before any write;
a range in it sees the writes that stand before it.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator, Sequence

from msgspec import Struct

from moorage.core.errors import CompactedError, RequestRefusedError
from moorage_nodes.stores.contracts import (
    Compare,
    Delete,
    DeleteResult,
    Event,
    KeyValue,
    Op,
    OpResult,
    Put,
    Range,
    RangeResult,
    Target,
    Txn,
    TxnResult,
)
from moorage_nodes.stores.limits import check_txn

FIRST_REVISION = 1  # an empty etcd's


class _Write(Struct, frozen=True, gc=False):
    """One write of a key; None is a deletion."""

    revision: int
    kv: KeyValue | None


class _Plan(Struct, frozen=True):
    """A transaction of the tree with its branch chosen; `nested` has the plans of its nested ones, in order."""

    succeeded: bool
    ops: tuple[Op, ...]
    nested: "tuple[_Plan, ...]"


class Keyspace:
    """All keys with their history since the last compaction. Not thread-safe."""

    def __init__(self) -> None:
        self.revision = FIRST_REVISION
        self.compacted = 0
        self._keys: list[bytes] = []  # sorted; every key with a history
        self._history: dict[bytes, list[_Write]] = {}  # oldest first
        self._events: list[Event] = []  # in order; a deletion's revision is its kv.mod_revision
        self._lease_keys: dict[int, set[bytes]] = {}

    # --- reading

    def check_revision(self, revision: int) -> int:
        """`revision`, or the current one for 0."""
        if revision > self.revision:
            raise RequestRefusedError(f"Revision {revision} is yet to come; the store is at {self.revision}.")
        if 0 < revision < self.compacted:
            raise CompactedError(f"Revision {revision} is compacted; the oldest is {self.compacted}.")
        return revision or self.revision

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None:
        at = self.check_revision(revision)
        writes = self._history.get(key)
        if not writes:
            return None
        found = bisect_right(writes, at, key=_revision_of)
        return writes[found - 1].kv if found else None

    def iterate(self, start: bytes, end: bytes | None, revision: int = 0) -> Iterator[KeyValue]:
        """Live keys in [start, end) at `revision`, in order; only `start` when `end` is None."""
        if end is None:
            kv = self.get(start, revision)
            if kv is not None:
                yield kv
            return
        low = bisect_left(self._keys, start)
        high = bisect_left(self._keys, end)
        for key in self._keys[low:high]:
            kv = self.get(key, revision)
            if kv is not None:
                yield kv

    def range(self, op: Range, revision: int = 0, *, by_create_revision: bool = False) -> RangeResult:
        kvs = list(self.iterate(op.key, op.end, self.check_revision(revision)))
        if by_create_revision:
            kvs.sort(key=lambda kv: kv.create_revision, reverse=op.descending)
        elif op.descending:
            kvs.reverse()
        more = 0 < op.limit < len(kvs)
        if more:
            kvs = kvs[: op.limit]
        if op.keys_only:
            kvs = [without_value(kv) for kv in kvs]
        return RangeResult(tuple(kvs), more)

    def events(self, start: bytes, end: bytes, from_revision: int) -> list[Event]:
        """Changes of [start, end) from `from_revision` on; `CompactedError` when some of them are gone."""
        if from_revision < self.compacted:
            raise CompactedError(f"Changes before revision {self.compacted} are compacted.")
        first = bisect_left(self._events, from_revision, key=lambda event: event.kv.mod_revision)
        return [event for event in self._events[first:] if start <= event.kv.key < end]

    # --- writing

    def apply(self, txn: Txn, leases: Collection[int] = ()) -> TxnResult:
        """Run `txn`; puts may name one of `leases`. `RequestRefusedError`: nothing was written."""
        check_txn(txn)
        plan = self._plan(txn)
        _check_leases(plan, leases)
        revision = self.revision + 1
        before = len(self._events)
        results = self._execute(plan, revision)
        if len(self._events) > before:
            self.revision = revision
        return _with_revision(plan, results, self.revision)

    def delete_lease(self, lease: int) -> None:
        """Delete the keys of an ended lease, at one revision; none if it has no keys."""
        keys = sorted(self._lease_keys.get(lease, ()))
        if keys:
            revision = self.revision + 1
            for key in keys:
                self._delete(key, revision)
            self.revision = revision
        self._lease_keys.pop(lease, None)

    def compact(self, revision: int) -> None:
        """Forget the history before `revision`; reads at `revision` and later still work."""
        if revision > self.revision:
            raise RequestRefusedError(f"Revision {revision} is yet to come; the store is at {self.revision}.")
        if revision <= self.compacted:
            raise CompactedError(f"Revision {revision} is compacted already.")
        self.compacted = revision
        for key, writes in list(self._history.items()):
            keep = max(bisect_right(writes, revision, key=_revision_of) - 1, 0)
            left = writes[keep:]
            if left[0].kv is None and left[0].revision <= revision:
                left = left[1:]
            if left:
                self._history[key] = left
            else:
                del self._history[key]
                del self._keys[bisect_left(self._keys, key)]
        first = bisect_left(self._events, revision, key=lambda event: event.kv.mod_revision)
        self._events = self._events[first:]

    # --- a transaction's parts

    def _plan(self, txn: Txn) -> _Plan:
        succeeded = all(self._holds(compare) for compare in txn.compares)
        ops = txn.then if succeeded else txn.orelse
        return _Plan(succeeded, ops, tuple(self._plan(op) for op in ops if type(op) is Txn))

    def _holds(self, compare: Compare) -> bool:
        kv = self.get(compare.key)
        match compare.target:
            case Target.VALUE:
                return kv is not None and kv.value == compare.operand
            case Target.VERSION:
                actual = kv.version if kv else 0
            case Target.MOD:
                actual = kv.mod_revision if kv else 0
            case Target.CREATE:
                actual = kv.create_revision if kv else 0
        return actual == compare.operand

    def _execute(self, plan: _Plan, revision: int) -> list[OpResult]:
        results: list[OpResult] = []
        nested = iter(plan.nested)
        for op in plan.ops:
            if type(op) is Put:
                self._put(op, revision)
                results.append(None)
            elif type(op) is Delete:
                keys = [kv.key for kv in self._now(op.key, op.end)]
                for key in keys:
                    self._delete(key, revision)
                results.append(DeleteResult(len(keys)))
            elif type(op) is Range:
                results.append(self._range_now(op))
            else:
                inner = next(nested)
                results.append(TxnResult(inner.succeeded, 0, tuple(self._execute(inner, revision))))
        return results

    def _now(self, start: bytes, end: bytes | None) -> list[KeyValue]:
        """Live keys as the running transaction has left them so far."""
        if end is None:
            keys: Sequence[bytes] = [start] if start in self._history else []
        else:
            keys = self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, end)]
        return [kv for key in keys if (kv := self._history[key][-1].kv) is not None]

    def _range_now(self, op: Range) -> RangeResult:
        kvs = self._now(op.key, op.end)
        if op.descending:
            kvs.reverse()
        more = 0 < op.limit < len(kvs)
        kvs = kvs[: op.limit] if more else kvs
        return RangeResult(tuple(without_value(kv) for kv in kvs) if op.keys_only else tuple(kvs), more)

    def _put(self, op: Put, revision: int) -> None:
        last = self._last(op.key)
        self._unlease(last)
        if op.lease:
            self._lease_keys.setdefault(op.lease, set()).add(op.key)
        kv = KeyValue(
            op.key,
            bytes(op.value),
            last.create_revision if last else revision,
            revision,
            last.version + 1 if last else 1,
            op.lease,
        )
        self._record(op.key, _Write(revision, kv))
        self._events.append(Event(kv, deleted=False))

    def _delete(self, key: bytes, revision: int) -> None:
        self._unlease(self._last(key))
        self._record(key, _Write(revision, None))
        self._events.append(Event(KeyValue(key, b"", 0, revision, 0), deleted=True))

    def _last(self, key: bytes) -> KeyValue | None:
        writes = self._history.get(key)
        return writes[-1].kv if writes else None

    def _unlease(self, kv: KeyValue | None) -> None:
        if kv is not None and kv.lease:
            self._lease_keys[kv.lease].discard(kv.key)

    def _record(self, key: bytes, write: _Write) -> None:
        writes = self._history.get(key)
        if writes is None:
            self._history[key] = [write]
            insort(self._keys, key)
        else:
            writes.append(write)


def without_value(kv: KeyValue) -> KeyValue:
    return KeyValue(kv.key, b"", kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def _revision_of(write: _Write) -> int:
    return write.revision


def _check_leases(plan: _Plan, leases: Collection[int]) -> None:
    for op in plan.ops:
        if type(op) is Put and op.lease and op.lease not in leases:
            raise RequestRefusedError(f"Lease {op.lease} has ended or never was.")
    for nested in plan.nested:
        _check_leases(nested, leases)


def _with_revision(plan: _Plan, results: Sequence[OpResult], revision: int) -> TxnResult:
    """The result with the transaction's revision in it and in all nested ones."""
    nested = iter(plan.nested)
    filled = tuple(
        _with_revision(next(nested), result.results, revision) if type(result) is TxnResult else result
        for result in results
    )
    return TxnResult(plan.succeeded, revision, filled)
