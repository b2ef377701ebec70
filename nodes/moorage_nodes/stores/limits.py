"""etcd's rules for the shape of a transaction, as pure functions (read in etcd 3.7.3: v3rpc/key.go,
`checkTxnRequest` and `checkIntervals`).
"""

from collections.abc import Sequence

from moorage.core.errors import RequestRefusedError
from moorage_nodes.stores.contracts import MAX_REQUEST_BYTES, MAX_TXN_OPS, Delete, Op, Put, Range, Txn

# An upper bound of what protobuf adds to the bytes of one compare or operation: tags, lengths, integers.
_OVERHEAD = 32


def count_ops(txn: Txn) -> int:
    """The operations that etcd counts against `MAX_TXN_OPS`: along the costliest path of nesting, the sum of
    each level's greatest of (compares, `then`, `orelse`).
    """
    here = max(len(txn.compares), len(txn.then), len(txn.orelse))
    below = 0
    for branch in (txn.then, txn.orelse):
        for op in branch:
            if type(op) is Txn:
                below = max(below, count_ops(op))
    return here + below


def estimate_bytes(txn: Txn, key_prefix: int = 0) -> int:
    """An upper bound of the encoded request's size when every key grows by `key_prefix` bytes."""
    fixed = _OVERHEAD + key_prefix
    size = _OVERHEAD
    for compare in txn.compares:
        operand = compare.operand
        size += fixed + len(compare.key) + (len(operand) if type(operand) is bytes else 0)
    for branch in (txn.then, txn.orelse):
        for op in branch:
            if type(op) is Put:
                size += fixed + len(op.key) + len(op.value)
            elif type(op) is Delete or type(op) is Range:
                size += 2 * fixed + len(op.key) + len(op.end or b"")
            elif type(op) is Txn:
                size += estimate_bytes(op, key_prefix)
    return size


def check_txn(txn: Txn) -> None:
    """Raise `RequestRefusedError` where etcd would refuse `txn` whatever the store holds."""
    if count_ops(txn) > MAX_TXN_OPS:
        raise RequestRefusedError(
            f"A transaction has at most {MAX_TXN_OPS} operations along a path of nesting."
        )
    if estimate_bytes(txn) > MAX_REQUEST_BYTES:
        raise RequestRefusedError(f"A transaction has at most {MAX_REQUEST_BYTES} bytes.")
    _written_keys(txn.then)
    _written_keys(txn.orelse)


class _Deletions:
    """Deleted keys and ranges of one list of operations; asks whether a key is among them."""

    def __init__(self) -> None:
        self._points: set[bytes] = set()
        self._ranges: list[tuple[bytes, bytes]] = []

    def add(self, op: Delete) -> None:
        if op.end is None:
            self._points.add(op.key)
        else:
            self._ranges.append((op.key, op.end))

    def merge(self, other: "_Deletions") -> None:
        self._points |= other._points
        self._ranges += other._ranges

    def __contains__(self, key: bytes) -> bool:
        return key in self._points or any(start <= key < end for start, end in self._ranges)


def _written_keys(ops: Sequence[Op]) -> tuple[set[bytes], _Deletions]:
    """What a branch may put and delete. The two branches of one nested transaction exclude each other, so they
    may put the same key. In etcd's order: a nested put is held against the deletions of this level and of the
    nested transactions before it, not of those behind it.
    """
    deletions = _Deletions()
    for op in ops:
        if type(op) is Delete:
            deletions.add(op)
    puts: set[bytes] = set()
    for op in ops:
        if type(op) is not Txn:
            continue
        then_puts, then_deletions = _written_keys(op.then)
        else_puts, else_deletions = _written_keys(op.orelse)
        for key in then_puts | else_puts:
            if key in puts or key in deletions:
                raise _duplicate(key)
        puts |= then_puts | else_puts
        deletions.merge(then_deletions)
        deletions.merge(else_deletions)
    for op in ops:
        if type(op) is Put:
            if op.key in puts or op.key in deletions:
                raise _duplicate(op.key)
            puts.add(op.key)
    return puts, deletions


def _duplicate(key: bytes) -> RequestRefusedError:
    return RequestRefusedError(f"A transaction puts a key twice, or puts and deletes it: {key!r}.")
