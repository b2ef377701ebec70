"""What keys transactions touch, and how large they are: what decides whether two may travel together. Pure.

etcd evaluates all compares of a nested tree before any write, so two members of one outer transaction must not
touch one another's keys: each could pass on a state that the other changes (write skew).
"""

from bisect import bisect_left, insort
from collections.abc import Sequence

from moorage_nodes.stores.contracts import Delete, Put, Range, Txn

Span = tuple[bytes, bytes]  # a range of keys [start, end)

# An upper bound of what protobuf and a store's prefix add to the bytes of one compare or operation.
_OVERHEAD = 48


class Extent:
    """How large a transaction is: `ops` counts as etcd does (stores/limits.py), `size` is an upper bound of the encoded
    bytes, `leased` says that something is put under a lease.
    """

    __slots__ = ("leased", "ops", "size")

    def __init__(self, txn: Txn) -> None:
        self.size = 0
        self.leased = False
        self.ops = self._take(txn)

    def _take(self, txn: Txn) -> int:
        size = _OVERHEAD
        for compare in txn.compares:
            operand = compare.operand
            size += _OVERHEAD + len(compare.key) + (len(operand) if type(operand) is bytes else 0)
        below = 0
        for branch in (txn.then, txn.orelse):
            for op in branch:
                if type(op) is Put:
                    size += _OVERHEAD + len(op.key) + len(op.value)
                    if op.lease:
                        self.leased = True
                elif type(op) is Txn:
                    below = max(below, self._take(op))
                elif type(op) is Delete or type(op) is Range:
                    size += _OVERHEAD + 2 * len(op.key)
        self.size += size
        return max(len(txn.compares), len(txn.then), len(txn.orelse)) + below


class Footprint:
    """What one transaction touches. `written`: keys put or deleted, `looked`: keys compared or read; ranges are spans."""

    __slots__ = ("looked", "looked_spans", "written", "written_spans")

    def __init__(self, txn: Txn) -> None:
        self.written: list[bytes] = []
        self.looked: list[bytes] = []
        self.written_spans: list[Span] = []
        self.looked_spans: list[Span] = []
        self._take(txn)

    def _take(self, txn: Txn) -> None:
        looked, written = self.looked, self.written
        for compare in txn.compares:
            looked.append(compare.key)
        for branch in (txn.then, txn.orelse):
            for op in branch:
                if type(op) is Put:
                    written.append(op.key)
                elif type(op) is Txn:
                    self._take(op)
                elif type(op) is Delete:
                    if op.end is None:
                        written.append(op.key)
                    else:
                        self.written_spans.append((op.key, op.end))
                elif type(op) is Range:
                    if op.end is None:
                        looked.append(op.key)
                    else:
                        self.looked_spans.append((op.key, op.end))


class Touched:
    """What several transactions touch together.

    Keys and written spans are kept in order: a batch of 60 members is looked through once per member, and by
    bisection that costs a few microseconds each.
    """

    __slots__ = (
        "_looked",
        "_looked_in_order",
        "_looked_spans",
        "_written",
        "_written_in_order",
        "_written_spans",
    )

    def __init__(self) -> None:
        self._written: set[bytes] = set()
        self._looked: set[bytes] = set()
        self._written_in_order: list[bytes] = []
        self._looked_in_order: list[bytes] = []
        self._written_spans: list[Span] = []  # in order; they do not overlap
        self._looked_spans: list[Span] = []

    def add(self, footprint: Footprint) -> None:
        for keys, in_order, added in (
            (self._written, self._written_in_order, footprint.written),
            (self._looked, self._looked_in_order, footprint.looked),
        ):
            for key in added:
                if key not in keys:
                    keys.add(key)
                    insort(in_order, key)
        for span in footprint.written_spans:
            if _overlaps(self._written_spans, span):
                self._written_spans = _merged([*self._written_spans, span])
            elif span[0] < span[1]:
                insort(self._written_spans, span)
        self._looked_spans += footprint.looked_spans

    def conflicts(self, footprint: Footprint) -> bool:
        """Whether one writes what the other writes or looks at."""
        return (
            not self._written.isdisjoint(footprint.written)
            or not self._written.isdisjoint(footprint.looked)
            or not self._looked.isdisjoint(footprint.written)
            or any(map(self._touches, footprint.written_spans))
            or any(_holds(self._written_in_order, span) for span in footprint.looked_spans)
            or any(_overlaps(self._written_spans, span) for span in footprint.looked_spans)
            or (
                bool(self._written_spans)
                and any(
                    _is_within(self._written_spans, key)
                    for keys in (footprint.written, footprint.looked)
                    for key in keys
                )
            )
            or any(start <= key < end for start, end in self._looked_spans for key in footprint.written)
        )

    def _touches(self, span: Span) -> bool:
        """Whether anything here lies in a span that is written."""
        start, end = span
        return (
            _holds(self._written_in_order, span)
            or _holds(self._looked_in_order, span)
            or _overlaps(self._written_spans, span)
            or any(start < other_end and other_start < end for other_start, other_end in self._looked_spans)
        )


class Together:
    """Transactions that are to travel together, or to be passed by: what conflicts with any of them does not join.

    Those of different scopes cannot conflict, so what they touch is only looked at where two are of one scope. One
    without a scope is not put beside any with one: nobody has promised that they keep apart.
    """

    __slots__ = ("_alone", "_touched")

    def __init__(self) -> None:
        self._alone: dict[str, Txn] = {}  # by scope, where it is the only one
        self._touched: dict[str, Touched] = {}

    def add(self, txn: Txn) -> None:
        scope = txn.scope
        if scope in self._touched:
            self._touched[scope].add(Footprint(txn))
        elif scope in self._alone:
            touched = self._touched[scope] = Touched()
            touched.add(Footprint(self._alone.pop(scope)))
            touched.add(Footprint(txn))
        else:
            self._alone[scope] = txn

    def conflicts(self, txn: Txn) -> bool:
        scope = txn.scope
        if scope in self._touched:
            if self._touched[scope].conflicts(Footprint(txn)):
                return True
        elif scope in self._alone:
            touched = self._touched[scope] = Touched()
            touched.add(Footprint(self._alone.pop(scope)))
            if touched.conflicts(Footprint(txn)):
                return True
        if scope:
            return "" in self._alone or "" in self._touched
        return any(self._alone) or any(self._touched)


def _merged(spans: Sequence[Span]) -> list[Span]:
    """The same keys in spans that do not overlap."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _holds(keys: Sequence[bytes], span: Span) -> bool:
    """Whether any of `keys`, in order, lies in `span`."""
    place = bisect_left(keys, span[0])
    return place < len(keys) and keys[place] < span[1]


def _overlaps(spans: Sequence[Span], span: Span) -> bool:
    """Whether `span` overlaps any of `spans`, which are in order and do not overlap."""
    start, end = span
    place = bisect_left(spans, (start, b""))
    return (place < len(spans) and spans[place][0] < end) or (place > 0 and start < spans[place - 1][1])


def _is_within(spans: Sequence[Span], key: bytes) -> bool:
    """Whether `key` lies in any of `spans`, which are in order and do not overlap."""
    place = bisect_left(spans, (key + b"\x00", b""))
    return place > 0 and key < spans[place - 1][1]
