"""How a row is measured: both sides in turn, several times, and the median of the ratios."""

import statistics
from collections.abc import Awaitable, Callable, Iterable
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
    """Of one round: units a second, and seconds of CPU a unit of the processes that did the work, if counted."""

    rate: float
    cpu: float | None


async def side_by_side(
    name: str,
    against: str,
    ours: Callable[[int], Awaitable[Sample | float]],
    theirs: Callable[[int], Awaitable[Sample | float]],
    *,
    reach: float,
    unit: str = "/s",
) -> Row:
    """Rates (or samples) of both sides, `ROUNDS` times in turn after one round of warming up; more is better."""
    await ours(-1)
    await theirs(-1)
    pairs = [(_sample(await ours(n)), _sample(await theirs(n))) for n in range(ROUNDS)]
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
        _milliseconds(a.cpu for a, _ in pairs),
        _milliseconds(b.cpu for _, b in pairs),
    )


def _sample(value: Sample | float) -> Sample:
    return value if isinstance(value, Sample) else Sample(value, None)


def _milliseconds(seconds: Iterable[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return 1000 * statistics.median(known) if known else None


def bound(name: str, value: float, limit: float, unit: str) -> Row:
    return Row(name, "–", unit, value, None, None, f"< {limit:g} {unit}", value < limit)
