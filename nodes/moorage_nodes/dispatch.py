"""From a path to its route in one walk over the path's segments, however many routes there are.

Starlette tries its routes one after the other by regular expression; with the routes of a metadata server that
alone costs more than the rest of a request (docs/adr/0003-direct-dispatch.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Step(Generic[T]):
    fixed: "dict[str, _Step[T]]" = field(default_factory=dict)
    any: "_Step[T] | None" = None
    # By method: the route's value, the names of its parameters in order, its template.
    ends: "dict[str, Match[T]]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """A route: what was added, its template (for metrics), the names of its parameters in path order."""

    value: T
    template: str
    names: tuple[str, ...]


class RouteTree(Generic[T]):
    """Templates are `/fixed/{parameter}`; a parameter is one whole, non-empty segment. Where a fixed segment and
    a parameter both fit, the fixed one is tried first.
    """

    def __init__(self) -> None:
        self._root: _Step[T] = _Step()

    def add(self, method: str, template: str, value: T) -> None:
        """ValueError when `method` at this template is taken, whatever its parameters are called."""
        step = self._root
        names: list[str] = []
        for segment in template.split("/")[1:]:
            if segment.startswith("{") and segment.endswith("}"):
                names.append(segment[1:-1])
                step.any = step.any or _Step()
                step = step.any
            elif "{" in segment:
                raise ValueError(f"{template}: a parameter must be a whole segment")
            else:
                step = step.fixed.setdefault(segment, _Step())
        if method in step.ends:
            raise ValueError(f"{method} {template} stands twice")
        step.ends[method] = Match(value, template, tuple(names))

    def find(self, method: str, path: str) -> tuple[Match[T] | None, list[str], list[str]]:
        """The match and its parameters' values; without one, the methods that the path does have.

        HEAD is what GET is where a path has no HEAD of its own (RFC 9110, 9.3.2); the server leaves out the body.
        """
        allowed: set[str] = set()
        for step, values in _ends(self._root, path.split("/"), 1, []):
            match = step.ends.get(method)
            if match is None and method == "HEAD":
                match = step.ends.get("GET")
            if match is not None:
                return match, values, []
            allowed.update(step.ends)
            if "GET" in step.ends:
                allowed.add("HEAD")
        return None, [], sorted(allowed)


def _ends(
    step: _Step[T], segments: list[str], position: int, values: list[str]
) -> Iterator[tuple[_Step[T], list[str]]]:
    if position == len(segments):
        if step.ends:
            yield step, values
        return
    segment = segments[position]
    below = step.fixed.get(segment)
    if below is not None:
        yield from _ends(below, segments, position + 1, values)
    if step.any is not None and segment:
        yield from _ends(step.any, segments, position + 1, [*values, segment])
