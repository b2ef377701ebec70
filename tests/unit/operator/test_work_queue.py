import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

from moorage_operator.work_queue import FIRST_RETRY_SECONDS, WorkQueue


@contextlib.asynccontextmanager
async def running(queue: WorkQueue[str]) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def holds(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_key_that_comes_again_while_it_waits_is_done_once() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    queue = WorkQueue[str](work)
    for _ in range(100):
        queue.add("a")
    async with running(queue):
        await holds(lambda: len(queue) == 0)
    assert done == ["a"]


async def test_a_key_that_comes_while_it_is_worked_on_is_done_once_more_and_never_twice_at_once() -> None:
    gate = asyncio.Event()
    at_once = most = runs = 0

    async def work(_: str) -> None:
        nonlocal at_once, most, runs
        at_once += 1
        most, runs = max(most, at_once), runs + 1
        await gate.wait()
        at_once -= 1

    queue = WorkQueue[str](work, workers=4)
    async with running(queue):
        queue.add("a")
        await holds(lambda: runs == 1)
        for _ in range(10):
            queue.add("a")
            await asyncio.sleep(0)
        gate.set()
        await holds(lambda: len(queue) == 0)
    assert (runs, most) == (2, 1)


async def test_a_key_that_hangs_does_not_stop_another() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        if key == "hangs":
            await asyncio.Event().wait()
        done.append(key)

    queue = WorkQueue[str](work, workers=2)
    async with running(queue):
        queue.add("hangs")
        queue.add("goes on")
        await holds(lambda: done == ["goes on"])
        assert queue.oldest_seconds() > 0


async def test_failures_are_tried_again_at_growing_distances_and_success_forgets_them() -> None:
    now = 0.0
    tries: list[float] = []

    async def work(_: str) -> None:
        tries.append(now)
        if len(tries) < 4:
            raise RuntimeError("not yet")

    queue = WorkQueue[str](work, monotonic=lambda: now, spread=lambda: 1.0)
    queue.add("a")
    async with running(queue):
        for expected in (1, 2, 3, 4):
            await holds(lambda expected=expected: len(tries) == expected and not len(queue))
            now += FIRST_RETRY_SECONDS * 2 ** (expected - 1)
            queue._changed.set()
    steps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert steps == [FIRST_RETRY_SECONDS, 2 * FIRST_RETRY_SECONDS, 4 * FIRST_RETRY_SECONDS]


async def test_what_is_due_later_is_done_at_once_when_it_is_added_again() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    queue = WorkQueue[str](work)
    queue.add("a", after=3600)
    async with running(queue):
        await asyncio.sleep(0.02)
        assert done == []
        queue.add("a")
        await holds(lambda: done == ["a"])
        await asyncio.sleep(0.02)
    assert done == ["a"]


async def test_work_says_when_it_is_due_again() -> None:
    done: list[str] = []

    async def work(key: str) -> float | None:
        done.append(key)
        return 0.01 if len(done) < 3 else None

    queue = WorkQueue[str](work)
    queue.add("a")
    async with running(queue):
        await holds(lambda: len(done) == 3)
        await asyncio.sleep(0.05)
    assert done == ["a"] * 3
