"""Which reads of objects give which bytes of a file, as a pure function.

Small chunks that lie near one another in one object are read together: a file of 100,000 packed chunks costs as
many reads as it has objects, not one a chunk, and a chunk that comes again and again is read once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moorage_nodes.peer_api import Place

RUN_BYTES = 512 * 1024  # read, and sent, at once


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive chunks of a file that one read gives: `length` bytes at `offset` of `object` hold them all.
    Of the bytes of the chunks together, `skip` are left out at the front and `take` are sent.
    """

    object: str
    offset: int
    length: int
    chunks: tuple[Place, ...]
    skip: int
    take: int


def plan_runs(chunks: Sequence[Place], start: int, first: int, last: int) -> Iterator[Run]:
    """Runs that give the bytes `first` to `last` (both inclusive) of a file, as far as `chunks`, whose first begins
    at the byte `start`, have them. A chunk larger than `RUN_BYTES` is a run of its own. Empty chunks give nothing.
    """
    gathered: list[Place] = []
    low = high = size = skip = reached = 0
    position = start
    for chunk in chunks:
        begin, position = position, position + chunk.size
        if chunk.size == 0 or position <= first or begin > last:
            continue
        if gathered and not _fits(gathered[0], chunk, low, high, size):
            yield _run(gathered, low, high, skip, size - max(0, reached - 1 - last))
            gathered = []
        if not gathered:
            low, high, size = chunk.offset, chunk.offset + chunk.size, 0
            skip = max(0, first - begin)
        gathered.append(chunk)
        low, high = min(low, chunk.offset), max(high, chunk.offset + chunk.size)
        size += chunk.size
        reached = position
    if gathered:
        yield _run(gathered, low, high, skip, size - max(0, reached - 1 - last))


def _fits(head: Place, chunk: Place, low: int, high: int, size: int) -> bool:
    return (
        chunk.object == head.object
        and max(high, chunk.offset + chunk.size) - min(low, chunk.offset) <= RUN_BYTES
        and size + chunk.size <= RUN_BYTES
    )


def _run(gathered: list[Place], low: int, high: int, skip: int, end: int) -> Run:
    return Run(gathered[0].object, low, high - low, tuple(gathered), skip, end - skip)
