import asyncio
import random

import pytest

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.blocks.budget import ByteBudget


async def turn():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_held_is_given_back_at_the_end_also_after_an_error():
    budget = ByteBudget(100)

    async def fail():
        with budget.room() as room:
            await room.grow(60)
            assert budget.used == 60
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert budget.used == 0


async def test_who_finds_no_room_waits_in_order():
    budget = ByteBudget(100)
    order = []

    async def take(name):
        with budget.room() as room:
            await room.grow(60)
            order.append(name)
            await turn()

    await asyncio.gather(*(take(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert budget.used == 0


async def test_the_oldest_always_gets_more_so_that_it_can_end():
    budget = ByteBudget(100)
    peak = 0

    async def take_by_and_by():
        nonlocal peak
        with budget.room() as room:
            for _ in range(8):
                await room.grow(10)
                peak = max(peak, budget.used)
                await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*(take_by_and_by() for _ in range(20))), 5)
    assert budget.used == 0
    assert peak <= 100 + 80


async def test_a_request_larger_than_all_gets_its_turn():
    budget = ByteBudget(100)
    with budget.room() as room:
        await room.grow(1000)
        assert budget.used == 1000


async def test_a_later_small_request_does_not_overtake_a_waiting_large_one():
    budget = ByteBudget(100)
    order = []

    async def take(size):
        with budget.room() as room:
            await room.grow(size)
            order.append(size)

    with budget.room() as first:
        await first.grow(50)
        large, small = asyncio.create_task(take(90)), asyncio.create_task(take(10))
        await turn()
        assert order == []
    await asyncio.gather(large, small)
    assert order == [90, 10]


async def test_who_goes_away_while_waiting_leaves_nothing_behind():
    budget = ByteBudget(100)
    with budget.room() as first:
        await first.grow(100)

        async def wait():
            with budget.room() as room:
                await room.grow(10)

        gone, next_one = asyncio.create_task(wait()), asyncio.create_task(wait())
        await turn()
        gone.cancel()
        await turn()
    await next_one
    assert gone.cancelled()
    assert budget.used == 0


async def test_waiting_ends_with_an_error_after_a_while():
    budget = ByteBudget(100, wait_seconds=0.01)
    with budget.room() as first, budget.room() as second:
        await first.grow(100)
        with pytest.raises(StoreUnavailableError):
            await second.grow(1)
    assert budget.used == 0


async def test_those_who_wait_share_the_fate_of_those_they_wait_for():
    budget = ByteBudget(100)
    with budget.room() as first:
        await first.grow(100)

        async def wait():
            with budget.room() as room:
                await room.grow(10)

        waiting = [asyncio.create_task(wait()) for _ in range(3)]
        await turn()
        budget.fail_waiting(StoreUnavailableError("S3 is down."))
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["S3 is down."] * 3
    assert budget.used == 0


async def test_one_users_slow_requests_leave_half_of_it_to_others_and_do_not_hold_them_up():
    budget = ByteBudget(100, wait_seconds=60)
    slow = [budget.room("slow") for _ in range(10)]
    waiting = [asyncio.create_task(room.grow(20)) for room in slow]
    await turn()
    assert budget.used == 40
    await asyncio.wait_for(take_once(budget, "other", 60), 5)
    assert budget.used == 40
    await asyncio.wait_for(take_once(budget, "", 60), 5)
    for room, task in zip(slow, waiting, strict=True):
        await asyncio.wait_for(task, 5)
        room.close()
        await turn()
    assert budget.used == 0


async def take_once(budget: ByteBudget, owner: str, size: int) -> None:
    with budget.room(owner) as room:
        await room.grow(size)


async def test_the_oldest_of_a_users_requests_may_hold_more_than_the_users_share():
    budget = ByteBudget(100, wait_seconds=60)
    with budget.room("first") as first, budget.room("user") as oldest, budget.room("user") as second:
        await first.grow(10)
        await oldest.grow(50)
        later = asyncio.create_task(second.grow(10))
        await turn()
        assert not later.done()
        await asyncio.wait_for(oldest.grow(30), 5)
        oldest.close()
        await asyncio.wait_for(later, 5)


async def test_many_of_many_users_come_to_their_end_whatever_they_hold():
    rng = random.Random(7)
    budget = ByteBudget(100, wait_seconds=60)
    peak = 0

    async def work(owner: str) -> None:
        nonlocal peak
        with budget.room(owner) as room:
            for _ in range(rng.randrange(1, 8)):
                await room.grow(rng.randrange(1, 20))
                peak = max(peak, budget.used)
                await asyncio.sleep(0)
                if rng.random() < 0.2:
                    room.shrink(rng.randrange(1, 20))

    jobs = [work(rng.choice(["a", "b", "c", ""])) for _ in range(300)]
    await asyncio.wait_for(asyncio.gather(*jobs), 30)
    assert budget.used == 0
    assert peak <= 100 + 8 * 20
