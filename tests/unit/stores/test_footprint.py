"""Which transactions may travel together, held against the definition: nobody writes what another touches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage_nodes.stores.contracts import Compare, Delete, Put, Range, Target, Txn, absent
from moorage_nodes.stores.etcd_wire import Wire
from moorage_nodes.stores.footprint import Extent, Footprint, Together, Touched
from moorage_nodes.stores.limits import count_ops, estimate_bytes

KEYS = [b"%c" % letter for letter in b"abcdef"]
keys = st.sampled_from(KEYS)
ends = st.none() | keys
ops = st.one_of(
    st.builds(Put, keys, st.binary(max_size=3)),
    st.builds(Delete, keys, ends),
    st.builds(Range, keys, ends),
)


def txns(inner):
    branch = st.lists(inner, max_size=2).map(tuple)
    compares = st.lists(st.builds(absent, keys), max_size=2).map(tuple)
    return st.builds(Txn, compares, branch, branch)


trees = txns(st.recursive(ops, txns, max_leaves=4))


def touched_by(txn: Txn) -> tuple[set[bytes], set[bytes]]:
    """Of `KEYS`: those written, those touched."""
    written, touched = set(), {compare.key for compare in txn.compares}
    for op in (*txn.then, *txn.orelse):
        if isinstance(op, Txn):
            inner_written, inner_touched = touched_by(op)
            written |= inner_written
            touched |= inner_touched
            continue
        end = getattr(op, "end", None)
        hit = {op.key} if end is None else {key for key in KEYS if op.key <= key < end}
        touched |= hit
        if not isinstance(op, Range):
            written |= hit
    return written, touched | written


@given(st.lists(trees, max_size=3), trees)
def test_a_conflict_is_never_missed(others, newcomer):
    together = Touched()
    written, touched = set(), set()
    for other in others:
        together.add(Footprint(other))
        other_written, other_touched = touched_by(other)
        written |= other_written
        touched |= other_touched
    new_written, new_touched = touched_by(newcomer)
    if written & new_touched or new_written & touched:
        assert together.conflicts(Footprint(newcomer))


@given(trees, trees)
def test_points_that_do_not_meet_do_not_conflict(one, other):
    def has_range(txn):
        return any(
            has_range(op) if isinstance(op, Txn) else getattr(op, "end", None) is not None
            for op in (*txn.then, *txn.orelse)
        )

    written, touched = touched_by(one)
    other_written, other_touched = touched_by(other)
    meet = bool(written & other_touched or other_written & touched)
    together = Touched()
    together.add(Footprint(one))
    if not has_range(one) and not has_range(other):
        assert together.conflicts(Footprint(other)) is meet


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        (Range(b"a", b"c"), Put(b"c", b""), False),
        (Range(b"a", b"c"), Put(b"b", b""), True),
        (Range(b"a", b"c"), Range(b"b", b"d"), False),
        (Delete(b"a", b"c"), Range(b"b", b"d"), True),
        (Delete(b"a", b"c"), Delete(b"c", b"d"), False),
        (Delete(b"a", b"c"), Delete(b"b", b"d"), True),
        (Delete(b"a", b"c"), Range(b"b"), True),
    ],
)
def test_ranges_meet_where_they_overlap(one, other, conflict):
    for first, second in ((one, other), (other, one)):
        together = Touched()
        together.add(Footprint(Txn(then=(first,))))
        assert together.conflicts(Footprint(Txn(then=(second,)))) is conflict


@given(trees)
def test_sizes_and_counts_are_upper_bounds_of_what_etcd_is_sent(txn):
    request = Wire(b"/moorage/").build_txn(txn)
    extent = Extent(txn)
    assert extent.size >= request.ByteSize()
    assert estimate_bytes(txn, len(b"/moorage/")) >= request.ByteSize()
    assert extent.ops == count_ops(txn)


def test_a_large_value_and_a_large_operand_count_in_full():
    txn = Txn((Compare(b"k", Target.VALUE, bytes(500)),), (Put(b"k", bytes(1000)),))
    size = Wire(b"/moorage/").build_txn(txn).ByteSize()
    assert 1500 < size <= estimate_bytes(txn, 9) < size + 200
    assert size <= Extent(txn).size < size + 200


def test_a_lease_anywhere_in_the_tree_is_seen():
    assert not Extent(Txn(then=(Put(b"k", b""),))).leased
    assert Extent(Txn(orelse=(Txn(then=(Put(b"k", b"", 7),)),))).leased


@given(
    st.lists(st.tuples(st.sampled_from(["", "one", "other"]), trees), max_size=4),
    trees,
    st.sampled_from(["", "one"]),
)
def test_within_a_scope_and_without_one_a_conflict_is_never_missed(others, newcomer, scope):
    together = Together()
    met = False
    new_written, new_touched = touched_by(newcomer)
    for of_scope, other in others:
        together.add(Txn(other.compares, other.then, other.orelse, scope=of_scope))
        written, touched = touched_by(other)
        if of_scope == scope:
            met = met or bool(written & new_touched or new_written & touched)
    newcomer = Txn(newcomer.compares, newcomer.then, newcomer.orelse, scope=scope)
    stands_beside_a_promise = any(bool(of_scope) is not bool(scope) for of_scope, _ in others)
    if met or stands_beside_a_promise:
        assert together.conflicts(newcomer)


def test_transactions_of_different_scopes_go_together():
    together = Together()
    together.add(Txn(then=(Put(b"a", b""),), scope="one"))
    assert not together.conflicts(Txn(then=(Put(b"b", b""),), scope="other"))
    assert not together.conflicts(Txn(then=(Put(b"b", b""),), scope="one"))
    assert together.conflicts(Txn(then=(Put(b"a", b""),), scope="one"))
