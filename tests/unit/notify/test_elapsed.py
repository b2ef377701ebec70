"""The clock of deadlines: what it has counted has certainly passed, whatever machines' clocks do."""

import random

import pytest

from moorage_nodes.notify import keys
from moorage_nodes.notify.elapsed import ElapsedClock, choose_step, parse_reading
from moorage_nodes.stores.faulty import Fault, FaultyStore, Plan
from moorage_nodes.stores.memory import MemoryStore


async def reading_in(store):
    kv = await store.get(keys.CLOCK)
    return parse_reading(kv)


def clock_of(store, time, step=2000) -> ElapsedClock:
    return ElapsedClock(store, step=step, monotonic=lambda: time.monotonic)


@pytest.mark.parametrize(
    ("deadline", "step"), [(1, 100), (24 * 3600, 60_000), (90 * 24 * 3600, 60_000), (100, 2000)]
)
def test_a_step_is_a_small_part_of_the_deadline(deadline: int, step: int):
    assert choose_step(deadline) == step


async def test_what_passes_is_counted_a_little_short(store, time, elapsed):
    time.pass_by(1.5)
    await elapsed.advance()
    assert 1490 <= elapsed.elapsed <= 1500
    assert (await reading_in(store)).elapsed == elapsed.elapsed


async def test_one_addition_is_at_most_a_step(time, elapsed):
    time.pass_by(500)
    await elapsed.advance()
    assert elapsed.elapsed == 2000
    await elapsed.advance()
    assert elapsed.elapsed == 2000


async def test_two_servers_count_the_same_time_once(store, time, elapsed):
    other = clock_of(store, time)
    await other.open()
    for _ in range(10):
        time.pass_by(1)
        await elapsed.advance()
        await other.advance()
    assert elapsed.elapsed <= 10_000
    assert (await reading_in(store)).elapsed <= 10_000


async def test_one_that_slept_adds_nothing_of_its_sleep(store, time, elapsed):
    asleep = clock_of(store, time)
    await asleep.open()
    for _ in range(5):
        time.pass_by(2)
        await elapsed.advance()
    await asleep.advance()  # knows only how things stood before
    assert (await reading_in(store)).elapsed == elapsed.elapsed
    assert asleep.elapsed == elapsed.elapsed


async def test_it_goes_on_where_it_was_after_a_restart(store, time, elapsed):
    time.pass_by(2)
    await elapsed.advance()
    time.pass_by(3600)  # nobody runs
    again = clock_of(store, time)
    await again.open()
    assert again.elapsed == elapsed.elapsed
    await again.advance()
    assert again.elapsed == elapsed.elapsed


async def test_steps_of_the_wall_clock_are_not_seen(time, elapsed):
    time.wall += 3600
    await elapsed.advance()
    assert elapsed.elapsed == 0
    time.wall -= 7200
    time.pass_by(1)
    await elapsed.advance()
    assert elapsed.elapsed <= 1000


async def test_a_lost_answer_is_found_in_the_store(time):
    store = MemoryStore()
    plan = Plan()
    clock = clock_of(FaultyStore(store, plan), time)
    await clock.open()
    plan.faults = {len(plan.calls): Fault.LOST_ANSWER}
    time.pass_by(1)
    with pytest.raises(Exception, match="lost"):
        await clock.advance()
    stands = (await reading_in(store)).elapsed
    assert stands > 0
    await clock.advance()
    assert clock.elapsed == stands


async def test_watchers_learn_of_every_value_once_and_who_wrote_it(store, time, elapsed):
    seen: list[bool] = []
    elapsed.subscribe(seen.append)
    time.pass_by(1)
    await elapsed.advance()
    kv = await store.get(keys.CLOCK)
    elapsed.observe(kv)  # the watch tells the same
    other = clock_of(store, time)
    await other.open()
    time.pass_by(1)
    await other.advance()
    kv = await store.get(keys.CLOCK)
    elapsed.observe(kv)
    assert seen == [True, False]


@pytest.mark.parametrize("seed", range(40))
async def test_no_deadline_is_early_whatever_servers_do(seed: int):
    """Servers with other steps start, sleep, restart and count; each deadline, once reached, has really passed."""
    rng = random.Random(seed)
    now = 0.0  # true time
    store = MemoryStore()
    steps = [rng.choice([500, 1000, 5000]) for _ in range(3)]
    offsets = [rng.uniform(0, 1e6) for _ in steps]

    def start(number: int) -> ElapsedClock:
        offsets[number] = rng.uniform(0, 1e6)  # a monotonic clock begins anywhere
        return ElapsedClock(store, step=steps[number], monotonic=lambda: now + offsets[number])

    clocks = [start(number) for number in range(len(steps))]
    for clock in clocks:
        await clock.open()
    deadlines: list[tuple[float, int]] = []
    reached = 0
    for _ in range(400):
        now += rng.choice([0.0, 0.01, 0.3, 2.0, rng.uniform(0, 20)])
        number = rng.randrange(len(clocks))
        match rng.randrange(5):
            case 0:
                seconds = rng.choice([0.5, 3.0, 30.0])
                deadlines.append((now + seconds, (await reading_in(store)).due_after(seconds)))
            case 1:
                clocks[number] = start(number)
                await clocks[number].open()
            case 2:
                clocks[number].observe(await store.get(keys.CLOCK))
            case _:
                await clocks[number].advance()
        for clock in clocks:
            for at, due in deadlines:
                if clock.elapsed >= due:
                    reached += 1
                    assert now >= at, f"seed {seed}"
    assert reached
