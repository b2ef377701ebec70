"""What a read asks for and is answered with, as pure functions (RFC 9110: Range, If-Range, If-None-Match)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from moorage.core.errors import RangeError

_RANGE = re.compile(r"bytes=[ \t]*(\d{0,100})-(\d{0,100})[ \t]*", re.ASCII | re.IGNORECASE)
_ETAGS = re.compile(r'(?:W/)?"([^"]*)"')


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """`length` bytes from `first` on are sent; `headers` say so. Nothing is sent with 304."""

    status: int  # 200, 206 or 304
    first: int
    length: int
    headers: dict[str, str]


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first and last byte asked for; None for the whole. `RangeError` (416) when the range begins behind the end.

    As RFC 9110 has it, what is not a range of bytes is ignored; so are several ranges at once, which may be
    answered whole. Of an empty representation every range is the whole of it: 416 would tell nobody anything.
    """
    match = _RANGE.fullmatch(header) if header is not None else None
    if match is None or size == 0:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        if int(last) == 0:
            raise range_error(size)
        return max(0, size - int(last)), size - 1
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise range_error(size)
    return int(first), min(int(last), size - 1) if last else size - 1


def range_error(size: int) -> RangeError:
    return RangeError(f"The range begins behind the end; there are {size} bytes.", size=size)


def should_send_not_modified(header: str | None, etag: str) -> bool:
    """Whether `If-None-Match` lists this representation. `etag` without its quotes; weak comparison."""
    if header is None:
        return False
    return header.strip() == "*" or etag in _ETAGS.findall(header)


def plan_read(headers: Mapping[str, str], *, size: int, etag: str) -> ReadPlan:
    """What to answer to a GET or HEAD with these request headers. `RangeError` carries `size`."""
    common = {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
    if should_send_not_modified(headers.get("if-none-match"), etag):
        return ReadPlan(304, 0, 0, common)
    condition = headers.get("if-range")
    asked = None
    if condition is None or condition.strip() == f'"{etag}"':
        asked = parse_range(headers.get("range"), size)
    if asked is None:
        return ReadPlan(200, 0, size, {**common, "Content-Length": str(size)})
    first, last = asked
    return ReadPlan(
        206,
        first,
        last - first + 1,
        {
            **common,
            "Content-Length": str(last - first + 1),
            "Content-Range": f"bytes {first}-{last}/{size}",
        },
    )
