"""Many calls, a few at a time; and long work in threads, which ends with its caller."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def run_bounded(
    items: Iterable[T], call: Callable[[T], Awaitable[R]], *, parallel: int
) -> list[tuple[T, R]]:
    """`call` for each item, at most `parallel` at once; the answers in the order in which they came.

    The first error ends all: the others are cancelled, and it is raised as it is.
    """
    waiting = iter(items)
    done: list[tuple[T, R]] = []

    async def work() -> None:
        for item in waiting:
            done.append((item, await call(item)))  # noqa: PERF401 - answers are to be kept as they come

    workers = [asyncio.ensure_future(work()) for _ in range(parallel)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return done


class StoppedError(Exception):
    """Nobody waits for this work any more."""


async def run_stoppable(work: Callable[[Callable[[], None]], R]) -> R:
    """`work` in a thread. It is given a function to call now and then: that raises when the caller was cancelled, so that
    the end of the process does not wait for the end of a long file.
    """
    stopped = threading.Event()

    def look() -> None:
        if stopped.is_set():
            raise StoppedError

    try:
        return await asyncio.to_thread(work, look)
    finally:
        stopped.set()
