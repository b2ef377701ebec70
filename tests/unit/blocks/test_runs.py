from hypothesis import given
from hypothesis import strategies as st

from moorage_nodes.blocks.runs import RUN_BYTES, plan_runs
from moorage_nodes.peer_api import Place

OBJECTS = {"a": bytes(range(256)), "b": bytes(reversed(range(256)))}


def place(name: str, offset: int, size: int) -> Place:
    return Place(
        hash=f"{name}{offset}", size=size, pool="p", object=name if size else "", offset=offset, state="live"
    )


def bytes_of(runs) -> bytes:
    sent = []
    for run in runs:
        read = OBJECTS[run.object][run.offset : run.offset + run.length]
        assert len(read) == run.length
        whole = b"".join(
            read[chunk.offset - run.offset : chunk.offset - run.offset + chunk.size] for chunk in run.chunks
        )
        sent.append(whole[run.skip : run.skip + run.take])
        assert len(sent[-1]) == run.take
    return b"".join(sent)


def content(chunks) -> bytes:
    return b"".join(OBJECTS[c.object][c.offset : c.offset + c.size] if c.size else b"" for c in chunks)


PLACES = st.builds(place, st.sampled_from("ab"), st.integers(0, 200), st.integers(0, 56))


@given(st.lists(PLACES, max_size=12), st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 100))
def test_runs_give_exactly_the_bytes_of_the_range(chunks, one, other, start):
    whole = content(chunks)
    if not whole:
        assert list(plan_runs(chunks, start, start, start)) == []
        return
    first, last = sorted((one % len(whole), other % len(whole)))
    runs = list(plan_runs(chunks, start, start + first, start + last))
    assert bytes_of(runs) == whole[first : last + 1]


def test_packed_chunks_in_a_row_are_one_read():
    chunks = [place("a", offset, 10) for offset in range(0, 250, 10)]
    (run,) = plan_runs(chunks, 0, 0, 249)
    assert (run.offset, run.length, run.take) == (0, 250, 250)


def test_a_chunk_that_comes_again_and_again_is_read_once():
    (run,) = plan_runs([place("a", 5, 10)] * 1000, 0, 0, 9999)
    assert (run.length, run.take) == (10, 10_000)


def test_a_run_is_bounded_in_what_it_reads_and_in_what_it_sends():
    half = RUN_BYTES // 2
    far = [
        Place(hash="h", size=1, pool="p", object="o", offset=offset, state="live")
        for offset in (0, RUN_BYTES)
    ]
    assert [run.length for run in plan_runs(far, 0, 0, 1)] == [1, 1]
    repeated = [Place(hash="h", size=half, pool="p", object="o", offset=0, state="live")] * 5
    assert [run.take for run in plan_runs(repeated, 0, 0, 5 * half - 1)] == [RUN_BYTES, RUN_BYTES, half]


def test_a_large_chunk_is_a_run_of_its_own():
    large = Place(hash="h", size=4 * RUN_BYTES, pool="p", object="o", offset=0, state="live")
    runs = list(plan_runs([place("a", 0, 1), large, place("a", 1, 1)], 0, 0, 4 * RUN_BYTES + 1))
    assert [(run.object, run.take) for run in runs] == [("a", 1), ("o", 4 * RUN_BYTES), ("a", 1)]
