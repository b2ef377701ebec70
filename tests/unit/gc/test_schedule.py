"""When collections run, by a clock that somebody sets."""

import asyncio
from datetime import UTC, datetime

import pytest

from moorage.core.errors import InvalidFieldError, StoreUnavailableError
from moorage_nodes.gc import server
from moorage_nodes.gc.report import ABORTED, COMPLETE, Report
from moorage_nodes.gc.schedule import check_schedule, find_next, is_overdue
from moorage_nodes.gc.server import Gc
from moorage_nodes.gc.tenure import CollectorBusyError


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("schedule", ["17 3 * * *", "*/5 * * * *", "0 4 * * sun", "0 0 1-7 jan,jul 1"])
def test_schedules_of_cron_are_understood(schedule):
    check_schedule(schedule)


@pytest.mark.parametrize("schedule", ["", "* * * *", "99 * * * *", "* * * * * *", "a b c d e", "0 0 0 * *"])
def test_what_is_no_schedule_is_refused(schedule):
    with pytest.raises(InvalidFieldError):
        check_schedule(schedule)


def test_times_are_in_utc():
    assert find_next("17 3 * * *", at("2026-03-29T01:00")) == at("2026-03-29T03:17")
    assert find_next("17 3 * * *", at("2026-03-29T03:17")) == at("2026-03-30T03:17")


def test_a_time_that_was_missed_is_overdue():
    assert is_overdue("17 3 * * *", at("2026-01-01T03:17"), at("2026-01-02T03:18"))
    assert not is_overdue("17 3 * * *", at("2026-01-01T03:18"), at("2026-01-02T03:16"))
    assert is_overdue("17 3 * * *", 0.0, at("2026-01-02T03:16"))


class Days:
    """A clock that passes while the collector waits; `steps`: what somebody does to it, by the number of waits."""

    def __init__(self, monkeypatch, start: str, steps: dict[int, float] | None = None) -> None:
        self.now = at(start)
        self.waits = 0
        self.steps = steps or {}
        monkeypatch.setattr(server.asyncio, "sleep", self.sleep)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.waits += 1
        self.now += seconds + self.steps.pop(self.waits, 0.0)


class Collecting:
    def __init__(
        self,
        clock: Days,
        runs: int,
        failures: dict[int, Exception] | None = None,
        outcome: str = COMPLETE,
    ) -> None:
        self.clock, self.runs, self.failures, self.outcome = clock, runs, failures or {}, outcome
        self.times: list[str] = []

    async def run(self) -> Report:
        self.times.append(datetime.fromtimestamp(self.clock.now, UTC).isoformat(timespec="minutes")[:16])
        if len(self.times) == self.runs:
            raise asyncio.CancelledError
        failure = self.failures.get(len(self.times))
        if failure is not None:
            raise failure
        return Report(server_key="c1", outcome=self.outcome)


async def times_of(clock: Days, last: str, runs: int, **more) -> list[str]:
    collecting = Collecting(clock, runs, **more)
    with pytest.raises(asyncio.CancelledError):
        await Gc(collecting, "17 3 * * *", clock).run(at(last))
    return collecting.times


async def test_it_runs_at_its_times(monkeypatch):
    clock = Days(monkeypatch, "2026-01-01T12:00")
    assert await times_of(clock, "2026-01-01T03:18", 3) == [
        "2026-01-02T03:17",
        "2026-01-03T03:17",
        "2026-01-04T03:17",
    ]


async def test_what_was_missed_comes_soon_after_the_start(monkeypatch):
    clock = Days(monkeypatch, "2026-01-03T12:00")
    assert await times_of(clock, "2026-01-01T03:18", 2) == ["2026-01-03T12:02", "2026-01-04T03:17"]


@pytest.mark.parametrize(
    ("failure", "following"),
    [
        (CollectorBusyError("another"), "2026-01-03T03:17"),
        (StoreUnavailableError("no"), "2026-01-02T03:27"),
        (ValueError(), "2026-01-03T03:17"),
    ],
)
async def test_a_failed_run_is_followed_by_the_next(monkeypatch, failure, following):
    clock = Days(monkeypatch, "2026-01-01T12:00")
    times = await times_of(clock, "2026-01-01T03:18", 2, failures={1: failure})
    assert times == ["2026-01-02T03:17", following]


async def test_an_aborted_run_is_tried_again_soon(monkeypatch):
    clock = Days(monkeypatch, "2026-01-01T12:00")
    times = await times_of(clock, "2026-01-01T03:18", 2, outcome=ABORTED)
    assert times == ["2026-01-02T03:17", "2026-01-02T03:27"]


async def test_a_clock_that_is_set_back_or_ahead_stops_nothing(monkeypatch):
    year = 365 * 24 * 3600.0
    clock = Days(monkeypatch, "2026-01-01T12:00", {5: -year})
    assert await times_of(clock, "2026-01-01T03:18", 2) == ["2025-01-02T03:17", "2025-01-03T03:17"]
    clock = Days(monkeypatch, "2026-01-01T12:00", {5: year})
    assert (await times_of(clock, "2026-01-01T03:18", 2))[1] == "2027-01-02T03:17"
