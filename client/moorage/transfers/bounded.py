"""Many calls, a few at a time."""

import asyncio
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
