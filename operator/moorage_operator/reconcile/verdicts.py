"""What has been found out about things that were taken off a list: whether they may go, and when to ask again.

In memory alone: another process asks anew.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

ASK_SECONDS = 10.0
"""Between two questions while an answer is on its way."""
POLL_SECONDS = 60.0
"""Between two questions about what a person or a collection has to change."""

C = TypeVar("C", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why` it may not go, None when it may. `closed`: nothing new comes to it any more. `mark`: the revision of etcd
    behind which nothing new came to it, once that is known. `again`: seconds until the next question.
    """

    why: str | None
    closed: bool
    again: float | None
    mark: int | None = None


def why_unknown(role: str, reports: Sequence[object | None]) -> str | None:
    """Why nothing can be judged by the reports of all servers of a role; None when each of them has answered."""
    if not reports:
        return f"no {role} server is there"
    silent = sum(report is None for report in reports)
    return f"{silent} of {len(reports)} {role} servers did not answer" if silent else None


class Verdicts(Generic[C]):
    """Of each case: the last verdict, and since when it is closed. `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._verdicts: dict[C, Verdict] = {}
        self._closed: dict[C, float] = {}
        self._asked: dict[C, float] = {}

    def get(self, case: C) -> Verdict | None:
        return self._verdicts.get(case)

    def is_due(self, case: C) -> bool:
        verdict, asked = self._verdicts.get(case), self._asked.get(case)
        if verdict is None or asked is None or verdict.again is None:
            return True
        return self._monotonic() - asked >= verdict.again * 0.9

    def closed_for(self, case: C, asked: float) -> float | None:
        """For how many seconds it had been closed when a question was sent; None when it had not."""
        closed = self._closed.get(case)
        return None if closed is None else asked - closed

    def note(self, case: C, verdict: Verdict) -> bool:
        """Whether it says something else than the last one."""
        now = self._asked[case] = self._monotonic()
        if not verdict.closed:
            self._closed.pop(case, None)
        else:
            self._closed.setdefault(case, now)
        before = self._verdicts.get(case)
        self._verdicts[case] = verdict
        return before is None or before.why != verdict.why

    def forget(self, is_old: Callable[[C], bool]) -> None:
        for case in [one for one in self._verdicts if is_old(one)]:
            for known in (self._verdicts, self._closed, self._asked):
                known.pop(case, None)
