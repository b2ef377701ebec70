"""Many calls, a few at a time."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from moorage.transfers.bounded import run_bounded, run_stoppable


async def test_each_item_is_called_once_and_no_more_than_so_many_are_under_way():
    under_way, most = 0, 0

    async def call(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001 * (number % 3))
        under_way -= 1
        return number * 2

    done = await run_bounded(range(50), call, parallel=4)
    assert sorted(done) == [(number, number * 2) for number in range(50)]
    assert most == 4


async def test_the_first_error_ends_all_and_is_raised_as_it_is():
    ended: list[int] = []

    async def call(number: int) -> None:
        try:
            await asyncio.sleep(60 if number else 0)
        finally:
            ended.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        await run_bounded(range(1000), call, parallel=3)
    assert sorted(ended) == [0, 1, 2]


async def test_nothing_to_do_is_done():
    assert await run_bounded([], asyncio.sleep, parallel=3) == []


async def test_work_in_a_thread_ends_soon_after_its_caller_was_cancelled():
    looked = 0
    ended = threading.Event()

    def work(look: Callable[[], None]) -> None:
        nonlocal looked
        try:
            while True:
                look()
                looked += 1
                time.sleep(0.001)
        finally:
            ended.set()

    task = asyncio.create_task(run_stoppable(work))
    while not looked:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 5)


async def test_work_in_a_thread_answers():
    assert await run_stoppable(lambda look: look() or 7) == 7
