"""How a row is measured: both sides in turn, several times, and the median of the ratios."""

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

ROUNDS = 5


@dataclass(frozen=True)
class Row:
    """`ours` and `theirs` are medians in `unit`; `ratio` the median of each round's ratio (ours / theirs, or
    for memory the figure itself against its bound). `reach` is what we set out for. `ours_cpu` and `theirs_cpu` are
    medians in milliseconds of CPU a unit.
    """

    name: str
    against: str
    unit: str
    ours: float
    theirs: float | None
    ratio: float | None
    reach: str
    reached: bool
    ours_cpu: float | None = None
    theirs_cpu: float | None = None


@dataclass(frozen=True)
class Sample:
    """Of one round: units a second, and seconds of CPU a unit of the processes that did the work."""

    rate: float
    cpu: float


async def side_by_side(
    name: str,
    against: str,
    ours: Callable[[int], Awaitable[Sample]],
    theirs: Callable[[int], Awaitable[Sample]],
    *,
    reach: float,
    unit: str = "/s",
) -> Row:
    """Rates of both sides, `ROUNDS` times in turn after one round of warming up; more is better."""
    await ours(-1)
    await theirs(-1)
    pairs = [(await ours(n), await theirs(n)) for n in range(ROUNDS)]
    ratio = statistics.median(a.rate / b.rate for a, b in pairs)
    return Row(
        name,
        against,
        unit,
        statistics.median(a.rate for a, _ in pairs),
        statistics.median(b.rate for _, b in pairs),
        ratio,
        f"≥ {reach}",
        ratio >= reach,
        1000 * statistics.median(a.cpu for a, _ in pairs),
        1000 * statistics.median(b.cpu for _, b in pairs),
    )


def bound(name: str, value: float, limit: float, unit: str) -> Row:
    return Row(name, "–", unit, value, None, None, f"< {limit:g} {unit}", value < limit)
