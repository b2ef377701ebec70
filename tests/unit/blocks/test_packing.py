from hypothesis import given
from hypothesis import strategies as st

from moorage_nodes.blocks.packing import (
    PACKED_CHUNK_BYTES,
    PACKED_OBJECT_BYTES,
    object_name,
    plan_objects,
)


def numbered(*sizes):
    return [(number.to_bytes(32), size) for number, size in enumerate(sizes)]


def test_a_thousand_small_chunks_are_one_object():
    (planned,) = plan_objects(numbered(*[4096] * 1000))
    assert len(planned.digests) == 1000
    assert planned.size == 4_096_000


def test_a_large_chunk_has_an_object_of_its_own():
    planned = plan_objects(numbered(10, PACKED_CHUNK_BYTES + 1, 20))
    assert sorted(len(each.digests) for each in planned) == [1, 2]


def test_an_empty_chunk_needs_no_object():
    assert plan_objects(numbered(0)) == []


def test_no_object_of_packed_chunks_is_larger_than_allowed():
    planned = plan_objects(numbered(*[PACKED_CHUNK_BYTES] * 40))
    assert [each.size for each in planned] == [PACKED_OBJECT_BYTES, 8 * PACKED_CHUNK_BYTES]


@given(st.lists(st.integers(0, 2 * PACKED_CHUNK_BYTES), max_size=100))
def test_every_chunk_is_in_one_object_in_its_order(sizes):
    chunks = numbered(*sizes)
    planned = plan_objects(chunks)
    assert [each.number for each in planned] == list(range(len(planned)))
    placed = [digest for each in planned for digest in each.digests]
    assert sorted(placed) == [digest for digest, size in chunks if size]
    by_digest = dict(chunks)
    for each in planned:
        assert list(each.digests) == sorted(each.digests)
        assert each.size == sum(by_digest[digest] for digest in each.digests)


def test_names_of_objects_tell_their_upload_and_call():
    assert object_name("up", "0123", 2) == "up/0123.2"
