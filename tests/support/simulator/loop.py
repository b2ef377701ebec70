"""An event loop whose clock jumps: whatever waits longest is due at once, and nothing depends on the machine.

Order comes from the times that tasks sleep until, which a seed decides, and from asyncio's own first-come rule.
Threads would bring the machine's timing in, so what is sent to one is run on the spot.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
START = 1_700_000_000.0  # Unix seconds at which every simulation begins
LONGEST_RUN = 400 * 24 * 3600.0  # of virtual seconds: whoever waits longer waits for ever


class StuckError(AssertionError):
    """Nothing is left to happen, and the simulation has not ended."""


class _Clock:
    """In the place of a selector: waiting for events is the clock's next jump."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None or self.now > LONGEST_RUN:
            raise StuckError("every task waits for something that never comes")
        if timeout > 0:
            self.now += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """No sockets, no signals, no threads."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = _Clock()
        self._selector = self._virtual
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._virtual.now

    def now(self) -> float:
        """Unix seconds."""
        return START + self._virtual.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run to its end on a loop of its own; what it leaves behind is dropped without a word, as by a power cut."""
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _loop, _context: None)
    try:
        return loop.run_until_complete(main)
    finally:
        _abandon(loop)
        loop.close()


def _abandon(loop: VirtualLoop) -> None:
    """Throw away every task. Those that try to go on when they are cancelled are cancelled again."""
    for _ in range(20):
        tasks = asyncio.all_tasks(loop)
        if not tasks:
            break
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks, timeout=0.001))
    loop.run_until_complete(loop.shutdown_asyncgens())
