"""How old things are, by revisions and clocks that somebody sets."""

from hypothesis import given, settings
from hypothesis import strategies as st

from moorage_nodes.gc.age import MAX_SAMPLES, MAX_UNSEEN, Reading, add_sample, advance, horizon, read_clock
from moorage_nodes.metadata.records import CollectorState

HOUR = 3600 * 1000


def at(wall: int, uptime: int, boot: str = "b") -> Reading:
    return Reading(wall=wall, uptime=uptime, boot=boot)


def test_the_first_look_at_the_clock_makes_nothing_old():
    state = advance(CollectorState(), at(50 * HOUR, HOUR))
    assert (state.age, horizon(state, 0)) == (0, 0)


def test_within_a_boot_only_the_uptime_counts():
    state = advance(CollectorState(), at(50 * HOUR, HOUR))
    assert advance(state, at(9000 * HOUR, 3 * HOUR)).age == 2 * HOUR
    assert advance(state, at(1, 3 * HOUR)).age == 2 * HOUR


def test_over_boots_the_wall_counts_forward_and_within_bounds():
    state = advance(CollectorState(), at(50 * HOUR, HOUR))
    assert advance(state, at(52 * HOUR, 1, "c")).age == 2 * HOUR
    assert advance(state, at(40 * HOUR, 1, "c")).age == 0
    assert advance(state, at(99_999 * HOUR, 1, "c")).age == MAX_UNSEEN
    # An uptime that went back is another boot, whatever it is called.
    assert advance(state, at(52 * HOUR, 1)).age == 2 * HOUR


def test_where_a_boot_has_no_name_the_wall_counts():
    state = advance(CollectorState(), at(50 * HOUR, HOUR, ""))
    assert advance(state, at(51 * HOUR, 9 * HOUR, "")).age == HOUR


def test_a_horizon_is_the_newest_sample_that_is_old_enough():
    state = advance(CollectorState(), at(HOUR, 0))
    for revision, hours in ((10, 0), (20, 1), (30, 5)):
        state = add_sample(advance(state, at(HOUR, hours * HOUR)), revision)
    assert [horizon(state, seconds) for seconds in (0, 1, 3600, 4 * 3600, 5 * 3600, 5 * 3600 + 1)] == [
        30,
        20,
        20,
        20,
        10,
        0,
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 10 * HOUR), max_size=3 * MAX_SAMPLES), st.integers(0, 100 * 3600))
def test_however_many_samples_there_were_a_horizon_is_never_too_young(steps: list[int], seconds: int):
    state = advance(CollectorState(), at(HOUR, 0))
    uptime = 0
    truth = []
    for revision, step in enumerate(steps):
        uptime += step
        state = add_sample(advance(state, at(HOUR, uptime)), revision + 1)
        truth.append((revision + 1, uptime))
        assert len(state.samples) <= MAX_SAMPLES
    found = horizon(state, seconds)
    assert all(written <= uptime - seconds * 1000 for revision, written in truth if revision <= found)
    if truth and len(truth) <= MAX_SAMPLES:
        assert found == max((r for r, written in truth if written <= uptime - seconds * 1000), default=0)


def test_this_machine_has_clocks():
    one, other = read_clock(), read_clock()
    assert other.uptime >= one.uptime > 0
    assert other.boot == one.boot
    assert one.wall > 1_700_000_000_000
