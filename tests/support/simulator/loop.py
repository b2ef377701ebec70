"""An event loop whose clock jumps: whatever waits longest is due at once, and nothing depends on the machine.

Order comes from the times that tasks sleep until, which a seed decides, and from asyncio's own first-come rule.
Threads would bring the machine's timing in, so what is sent to one is run on the spot.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")
START = 1_700_000_000.0  # Unix seconds at which every simulation begins
LONGEST_RUN = 400 * 24 * 3600.0  # of virtual seconds: whoever waits longer waits for ever


class StuckError(AssertionError):
    """Nothing is left to happen, and the simulation has not ended."""


class _Selector:
    """In the place of one: nothing outside is ever waited for."""


class _Handle:
    """As asyncio's, of what is called soon or at a time, without what a loop for real work needs."""

    __slots__ = ("_args", "_callback", "_context", "_when", "is_cancelled")

    def __init__(self, callback: Callable[..., Any], args: Any, context: Context | None, when: float) -> None:
        self._callback = callback
        self._args = args
        self._context = copy_context() if context is None else context
        self._when = when
        self.is_cancelled = False

    def run(self) -> None:
        self._context.run(self._callback, *self._args)

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self._when


class VirtualLoop(asyncio.BaseEventLoop):
    """No sockets, no signals, no threads. Its own queues, since most of a simulation's work is theirs."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Selector()
        self._now = 0.0
        self._soon: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._count = itertools.count()

    def time(self) -> float:
        return self._now

    def now(self) -> float:
        """Unix seconds."""
        return START + self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        handle = _Handle(callback, args, context, 0.0)
        self._soon.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Handle:
        handle = _Handle(callback, args, context, when)
        heappush(self._timers, (when, next(self._count), handle))
        return handle

    def _run_once(self) -> None:
        soon, timers = self._soon, self._timers
        while timers and (timers[0][2].is_cancelled or timers[0][0] <= self._now):
            soon.append(heappop(timers)[2])
        if not soon:
            if self._stopping:  # type: ignore[attr-defined]
                return
            if not timers or self._now > LONGEST_RUN:
                raise StuckError("every task waits for something that never comes")
            self._now = timers[0][0]
            while timers and timers[0][0] <= self._now:
                soon.append(heappop(timers)[2])
        for _ in range(len(soon)):
            handle = soon.popleft()
            if handle.is_cancelled:
                continue
            try:
                handle.run()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                self.call_exception_handler({"message": "a callback failed", "exception": error})

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
