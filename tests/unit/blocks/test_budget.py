import asyncio

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
