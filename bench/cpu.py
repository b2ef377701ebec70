"""The CPU that a measured part costs the processes that do the work: what a busy machine distorts least."""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from measure import Sample

TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """`with Meter() as meter: …` around what is timed; then `meter.sample(units)`.

    Counts all processes below this one, and with `itself` this one too: where the work is done here.
    """

    def __init__(self, *, itself: bool = False) -> None:
        self._itself = itself

    def __enter__(self) -> Self:
        below = _below(os.getpid())
        self._cpu = below + self._own()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Looking at the others costs something too: it is not counted.
        self.seconds, own = time.perf_counter() - self._began, self._own()
        self.cpu = own + _below(os.getpid()) - self._cpu

    def sample(self, units: int, seconds: float | None = None) -> Sample:
        """`units` done in `seconds` (None: as long as the block took)."""
        return Sample(units / (self.seconds if seconds is None else seconds), self.cpu / units)

    def _own(self) -> float:
        return time.process_time() if self._itself else 0.0


def _below(root: int) -> float:
    """CPU seconds of all living descendants, threads that have ended included."""
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        spent[pid] = (int(fields[11]) + int(fields[12])) / TICKS
    return sum(seconds for pid, seconds in spent.items() if pid != root and _descends(pid, root, parents))


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        pid = parents.get(pid, 0)
        if pid == root:
            return True
    return False
