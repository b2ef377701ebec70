"""More than fits into memory is sorted exactly."""

import random

import pytest

from moorage_nodes.metadata.spill import SortedSpill


@pytest.mark.parametrize("max_bytes", [1, 1000, 100_000, 1 << 30])
def test_items_come_in_order_each_once_whatever_fits_into_memory(max_bytes):
    rng = random.Random(max_bytes)
    items = [rng.randbytes(rng.randrange(40)) for _ in range(300)] + [b"", b"\0", b"\xff" * 400_000]
    with SortedSpill(max_bytes) as spill:
        for start in range(0, len(items), 7):
            spill.update(items[start : start + 7])
            spill.update(items[:3])
        assert list(spill) == sorted(set(items))
        assert list(spill) == sorted(set(items))


def test_two_may_walk_at_once():
    with SortedSpill(500) as spill:
        spill.update(b"%05d" % n for n in range(50_000))
        for n, (one, other) in enumerate(zip(spill, iter(spill), strict=True)):
            assert one == other == b"%05d" % n


def test_memory_stays_bounded():
    with SortedSpill(10_000) as spill:
        for n in range(1000):
            spill.update([b"%08d" % n])
            assert len(spill._items) <= 10_000 // 90 + 1


def test_nothing_is_left_after_the_end():
    spill = SortedSpill(100)
    spill.update(b"%d" % n for n in range(100))
    spill.close()
    assert list(spill) == []
    spill.close()
