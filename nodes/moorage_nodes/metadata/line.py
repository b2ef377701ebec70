"""Those who wait to change one namespace, and the transactions of it that are under way."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage_nodes.metadata.view import Plan, State, View
from moorage_nodes.stores.fanout import build_behind, build_own, should_fail_too

T = TypeVar("T")

MAX_BATCH_PLANS = 256
MAX_ATTEMPTS = 40
CONTENDED = "Too many others change this tree at the same time; try again."
MAX_UNDER_WAY = 2


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    plan: Plan[T]
    request: str
    done: "asyncio.Future[T]"
    since: float  # by the event loop's clock
    attempts: int = 0

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(build_own(error))


Outcome = tuple[Waiting[Any], Any, Exception | None]


def deliver(outcomes: list[Outcome]) -> None:
    for waiting, value, error in outcomes:
        if waiting.done.done():  # the caller went away
            continue
        if error is not None:
            waiting.done.set_exception(error)
        else:
            waiting.done.set_result(value)


class Flight:
    """A transaction that is under way. `behind` is the view that is planned, or sent, on top of it."""

    def __init__(self, view: View, outcomes: list[Outcome]) -> None:
        self.view = view
        self.outcomes = outcomes
        self.behind: View | None = None
        self._carried_out: bool | None = None  # False also where nobody knows
        self._ended: asyncio.Event | None = None

    def may_be_followed(self) -> bool:
        """Whether the next transaction may be planned before this one has ended: one at a time, and not where another
        process changes the namespace too, and so probably comes between.
        """
        return self.view.follows is None and not self.view.state.wary

    def land(self, state: State | None) -> None:
        """It was carried out and has left this state behind (None: which is not known any more)."""
        if self.behind is not None and state is not None:
            self.behind.rebase(state)
        self.end(carried_out=True)

    def end(self, *, carried_out: bool) -> None:
        """Only the first time counts."""
        if self._carried_out is None:
            self._carried_out = carried_out
            if self._ended is not None:
                self._ended.set()

    def has_failed(self) -> bool:
        return self._carried_out is False

    async def has_been_carried_out(self) -> bool:
        """Wait for the end."""
        if self._carried_out is None:
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()
        return self._carried_out is True


@dataclass(slots=True, eq=False)
class Line:
    """Of one namespace. `planning`: one of its workers is at it; `newest`: the flight sent last, while it is under way.
    `stale`: a compare has failed, so what is known is not the present.
    """

    waiting: list[Waiting[Any]] = field(default_factory=list)
    planning: bool = False
    under_way: int = 0
    newest: Flight | None = None
    stale: bool = False

    def has_work(self) -> bool:
        """Whether one more worker should begin."""
        return bool(self.waiting) and not self.planning and self.under_way < MAX_UNDER_WAY

    def is_over(self) -> bool:
        return not (self.waiting or self.planning or self.under_way)

    def take(self) -> list[Waiting[Any]]:
        """Those who go together next."""
        taken = self.waiting[:MAX_BATCH_PLANS]
        del self.waiting[:MAX_BATCH_PLANS]
        return taken

    def hand_back(self, batch: list[Waiting[Any]], planned: int) -> None:
        """All but the first `planned` of a batch wait again, first in line."""
        self.waiting[:0] = batch[planned:]
        del batch[planned:]

    def try_again(self, batch: Sequence[Waiting[Any]]) -> None:
        """Their transaction came too late: they are first in line, but for those for whom it was once too often."""
        for waiting in batch:
            waiting.attempts += 1
            if waiting.attempts >= MAX_ATTEMPTS:
                waiting.fail(StoreUnavailableError(CONTENDED))
        self.waiting[:0] = [waiting for waiting in batch if not waiting.done.done()]

    def fail_behind(self, error: MoorageError) -> None:
        """Tell those who have waited for long enough behind a batch that the store did not answer."""
        now = asyncio.get_running_loop().time()
        while self.waiting and should_fail_too(error, self.waiting[0].since, now):
            self.waiting.pop(0).fail(build_behind(error))
