"""How files are cut, gathered and sent."""

import hashlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from moorage.core.transfer import (
    BATCH_BYTES,
    CALL_BYTES,
    CHUNK_BYTES,
    SMALL_BYTES,
    content_hash,
    hash_of,
    plan_batches,
    plan_calls,
    plan_pieces,
)
from moorage.core.wire import MAX_BATCH_FILES

sizes = st.lists(
    st.one_of(
        st.integers(0, 2000), st.integers(SMALL_BYTES - 2, SMALL_BYTES + 2), st.integers(0, CHUNK_BYTES)
    ),
    max_size=60,
)


@given(st.integers(0, 5 * CHUNK_BYTES + 1))
def test_pieces_are_a_file_from_its_first_byte_to_its_last(size):
    at = 0
    for offset, length in plan_pieces(size):
        assert offset == at
        assert 0 < length <= CHUNK_BYTES
        at += length
    assert at == size


def test_an_empty_file_has_no_pieces():
    assert list(plan_pieces(0)) == []


@given(sizes)
def test_calls_carry_each_chunk_once_and_small_ones_together(lengths):
    calls = list(plan_calls(enumerate_sizes(lengths)))
    assert sorted(number for call in calls for number in call) == list(range(len(lengths)))
    for call in calls:
        assert len(call) == 1 or all(lengths[number] <= SMALL_BYTES for number in call)
        assert len(call) == 1 or sum(lengths[number] for number in call) <= CALL_BYTES
    small = [call for call in calls if len(call) > 1 or lengths[call[0]] <= SMALL_BYTES]
    # Two neighbours that would fit into one call are in one.
    for one, other in itertools.pairwise(small):
        assert sum(lengths[number] for number in one) + lengths[other[0]] > CALL_BYTES


def enumerate_sizes(lengths):
    return [(number, length) for number, length in enumerate(lengths)]


@given(st.lists(st.integers(0, BATCH_BYTES + 5), max_size=30))
def test_batches_keep_the_order_and_are_bounded_but_for_a_file_that_is_larger(lengths):
    batches = list(plan_batches(enumerate_sizes(lengths)))
    assert [number for batch in batches for number in batch] == list(range(len(lengths)))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or sum(lengths[number] for number in batch) <= BATCH_BYTES


def test_a_batch_has_no_more_files_than_a_call_takes():
    batches = list(plan_batches((number, 0) for number in range(2 * MAX_BATCH_FILES + 1)))
    assert list(map(len, batches)) == [MAX_BATCH_FILES, MAX_BATCH_FILES, 1]


def test_the_hash_of_a_content_is_that_of_its_chunks_digests():
    chunks = [b"one", b"two"]
    digests = b"".join(hashlib.sha256(chunk).digest() for chunk in chunks)
    assert content_hash(map(hash_of, chunks)) == f"sha256_{hashlib.sha256(digests).hexdigest()}"
