"""Our values to etcd's protobuf messages and back. Pure. Every key goes under the store's prefix.

Messages are filled in place (`add()`): half the cost of building each part and handing it to the next.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from etcd3aio._protobuf import RangeRequest, TxnRequest, WatchRequest

from moorage_nodes.stores.contracts import (
    Compare,
    Delete,
    DeleteResult,
    Event,
    KeyValue,
    OpResult,
    Put,
    Range,
    RangeResult,
    Target,
    Txn,
    TxnResult,
)

# Values of the enumerations in etcd's rpc.proto and kv.proto.
_TARGETS = {
    Target.VERSION: (0, "version"),
    Target.CREATE: (1, "create_revision"),
    Target.MOD: (2, "mod_revision"),
    Target.VALUE: (3, "value"),
}
_ASCEND = 1
_DESCEND = 2
_SORT_BY_CREATE = 2
_EVENT_DELETE = 1
_ONLY_PUTS: list[tuple[None, ...]] = [(None,) * count for count in range(129)]


class Wire:
    """`prefix` is not empty, so that every key, even the empty one, is a key to etcd, and an end is never one
    of etcd's special ones.
    """

    def __init__(self, prefix: bytes) -> None:
        if not prefix:
            raise ValueError("etcd's keys need a prefix")
        self.prefix = prefix
        self._cut = len(prefix)

    # --- requests

    def build_range(self, op: Range, revision: int = 0, *, by_create_revision: bool = False) -> Any:
        request = RangeRequest(key=self.prefix + op.key, revision=revision)
        self._fill_range(request, op)
        if by_create_revision:
            # etcd 3.7 cuts to the limit before it sorts unless the order is said as well.
            request.sort_target = _SORT_BY_CREATE
            request.sort_order = _DESCEND if op.descending else _ASCEND
        return request

    def build_reads(self, keys: Iterable[bytes | Range], revision: int = 0) -> Any:
        """One transaction that reads each of `keys`, in order."""
        request = TxnRequest()
        add = request.success.add
        prefix = self.prefix
        for key in keys:
            op = add().request_range
            if isinstance(key, bytes):
                op.key = prefix + key
            else:
                op.key = prefix + key.key
                self._fill_range(op, key)
            if revision:
                op.revision = revision
        return request

    def build_txn(self, txn: Txn) -> Any:
        request = TxnRequest()
        self._fill_txn(request, txn)
        return request

    def build_watch(self, key: bytes, end: bytes, from_revision: int) -> Any:
        request = WatchRequest()
        create = request.create_request
        create.key = self.prefix + key
        create.range_end = self.prefix + end
        create.start_revision = from_revision
        return request

    def _fill_txn(self, request: Any, txn: Txn) -> None:
        prefix = self.prefix
        for compare in txn.compares:
            self._fill_compare(request.compare.add(), compare)
        for field, ops in ((request.success, txn.then), (request.failure, txn.orelse)):
            for op in ops:
                slot = field.add()
                if type(op) is Put:
                    put = slot.request_put
                    put.key = prefix + op.key
                    put.value = op.value
                    if op.lease:
                        put.lease = op.lease
                elif type(op) is Range:
                    ranged = slot.request_range
                    ranged.key = prefix + op.key
                    self._fill_range(ranged, op)
                elif type(op) is Delete:
                    delete = slot.request_delete_range
                    delete.key = prefix + op.key
                    if op.end is not None:
                        delete.range_end = prefix + op.end
                elif type(op) is Txn:
                    slot.request_txn.SetInParent()
                    self._fill_txn(slot.request_txn, op)

    def _fill_compare(self, request: Any, compare: Compare) -> None:
        request.target, operand = _TARGETS[compare.target]
        request.key = self.prefix + compare.key
        setattr(request, operand, compare.operand)

    def _fill_range(self, request: Any, op: Range) -> None:
        if op.end is not None:
            request.range_end = self.prefix + op.end
        if op.limit:
            request.limit = op.limit
        if op.keys_only:
            request.keys_only = True
        if op.descending:
            request.sort_order = _DESCEND

    # --- answers

    def parse_kv(self, kv: Any) -> KeyValue:
        return KeyValue(
            kv.key[self._cut :], kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease
        )

    def parse_range(self, response: Any) -> RangeResult:
        return RangeResult(tuple(map(self.parse_kv, response.kvs)), response.more)

    def parse_reads(
        self, keys: Iterable[bytes | Range], response: Any
    ) -> tuple[dict[bytes, KeyValue], dict[Range, RangeResult]]:
        """The answer to `build_reads`: the keys that exist, and the ranges."""
        found: dict[bytes, KeyValue] = {}
        ranges: dict[Range, RangeResult] = {}
        for key, slot in zip(keys, response.responses, strict=True):
            if isinstance(key, bytes):
                for kv in slot.response_range.kvs:
                    found[key] = self.parse_kv(kv)
            else:
                ranges[key] = self.parse_range(slot.response_range)
        return found, ranges

    def parse_txn(self, txn: Txn, response: Any) -> TxnResult:
        return self._parse_txn(txn, response, response.header.revision)

    def _parse_txn(self, txn: Txn, response: Any, revision: int) -> TxnResult:
        succeeded = response.succeeded
        ops = txn.then if succeeded else txn.orelse
        results = _ONLY_PUTS[len(ops)] if _only_puts(ops) else self._parse_results(ops, response, revision)
        return TxnResult(succeeded, revision, results)

    def _parse_results(self, ops: Sequence[Any], response: Any, revision: int) -> tuple[OpResult, ...]:
        results: list[OpResult] = []
        for op, slot in zip(ops, response.responses, strict=True):
            if type(op) is Put:
                results.append(None)
            elif type(op) is Range:
                results.append(self.parse_range(slot.response_range))
            elif type(op) is Delete:
                results.append(DeleteResult(slot.response_delete_range.deleted))
            else:
                results.append(self._parse_txn(op, slot.response_txn, revision))
        return tuple(results)

    def parse_event(self, event: Any) -> Event:
        if event.type == _EVENT_DELETE:
            kv = event.kv
            return Event(KeyValue(kv.key[self._cut :], b"", 0, kv.mod_revision, 0), deleted=True)
        return Event(self.parse_kv(event.kv), deleted=False)


def _only_puts(ops: Sequence[Any]) -> bool:
    return all(type(op) is Put for op in ops)
