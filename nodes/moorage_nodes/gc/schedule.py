"""When collections run: a cron schedule in UTC (five fields, as Kubernetes' CronJob reads it). Pure."""

from datetime import UTC, datetime

from croniter import croniter

from moorage.core.errors import InvalidFieldError


def check_schedule(schedule: str) -> None:
    """InvalidFieldError for what is no cron schedule of five fields, or never comes."""
    if len(schedule.split()) != 5 or not croniter.is_valid(schedule):  # type: ignore[no-untyped-call]
        raise InvalidFieldError(
            f"{schedule!r} is no cron schedule of five fields, such as 17 3 * * *.",
            field="settings.gc.schedule",
        )


def find_next(schedule: str, after: float) -> float:
    """The first time behind `after`; both in Unix seconds."""
    times = croniter(schedule, datetime.fromtimestamp(after, UTC))
    return float(times.get_next(float))  # type: ignore[no-untyped-call]


def is_overdue(schedule: str, last: float, now: float) -> bool:
    """Whether a time has passed since `last` at which nobody collected: the machine was off."""
    return find_next(schedule, last) <= now
