"""Times on the wire: RFC 3339 in UTC (PROTOCOL.md); in records they are Unix milliseconds."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_time(milliseconds: int) -> str:
    """`2026-11-03T08:15:30.125Z`. Exact: no float between the integer and the text."""
    time = _EPOCH + timedelta(milliseconds=milliseconds)
    return time.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
