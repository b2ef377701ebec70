"""Sorting more than fits into memory: exact, with bounded memory, by sorted runs in temporary files.

The set of all chunks that something refers to is as large as the namespace. Kept in order it can be walked beside
the chunk records, which etcd gives in the same order, so neither need be held.
"""

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import IO, Self

MAX_BYTES = 32 * 1024 * 1024  # held before a run is written
ITEM_OVERHEAD = 90  # bytes that Python needs for an item of a set, about
READ_BYTES = 128 * 1024  # of each run at once
_LENGTH_BYTES = 4
_ADDED_TOGETHER = 1024


class SortedSpill:
    """Items of bytes, given in any order, got back in byte order, each once. Use it in a `with` block."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_items_bytes = max_bytes
        self._items: set[bytes] = set()
        self._bytes = 0
        self._runs: list[IO[bytes]] = []

    def update(self, items: Iterable[bytes]) -> None:
        """Add items. OSError when the disk is full."""
        rest = iter(items)
        while part := list(islice(rest, _ADDED_TOGETHER)):
            before = len(self._items)
            self._items.update(part)
            added = len(self._items) - before
            # What came before is counted as long as the others of its part: it is a bound that is wanted.
            self._bytes += added * ITEM_OVERHEAD + sum(map(len, part)) * added // len(part)
            if self._bytes > self._max_items_bytes:
                self._write_run()

    def __iter__(self) -> Iterator[bytes]:
        """All items; they stay, and may be walked again. None may be added while somebody walks."""
        if not self._runs:
            yield from sorted(self._items)
            return
        if self._items:
            self._write_run()
        last: bytes | None = None
        for item in heapq.merge(*map(_read_run, self._runs)):
            if item != last:
                yield item
                last = item

    def close(self) -> None:
        """Idempotent."""
        self._items.clear()
        while self._runs:
            self._runs.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_run(self) -> None:
        run = tempfile.TemporaryFile(prefix="moorage-")  # noqa: SIM115 - closed by `close`
        self._runs.append(run)
        buffer = bytearray()
        for item in sorted(self._items):
            buffer += len(item).to_bytes(_LENGTH_BYTES)
            buffer += item
            if len(buffer) >= READ_BYTES:
                run.write(buffer)
                buffer.clear()
        run.write(buffer)
        run.flush()
        self._items.clear()
        self._bytes = 0


def _read_run(run: IO[bytes]) -> Iterator[bytes]:
    """Reads at places of its own, so that the same run may be walked by several at once."""
    place, rest = 0, b""
    while True:
        run.seek(place)
        data = run.read(READ_BYTES)
        if not data:
            return
        place += len(data)
        rest += data
        at = 0
        while at + _LENGTH_BYTES <= len(rest):
            end = at + _LENGTH_BYTES + int.from_bytes(rest[at : at + _LENGTH_BYTES])
            if end > len(rest):
                break
            yield rest[at + _LENGTH_BYTES : end]
            at = end
        rest = rest[at:]
