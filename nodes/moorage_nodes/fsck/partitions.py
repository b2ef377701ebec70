"""Joins of any size in bounded memory: records are dealt out by hash, and each part is looked at by itself."""

import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

PARTS = 256
SPILLED_ITEMS = 150_000  # kept in memory over all parts, at most about 30 MB

_decoder = msgspec.msgpack.Decoder()


class Partitions:
    """`parts[number].append(record)` adds one; `settle` between batches keeps memory bounded.

    What does not fit goes to a temporary file that has no name. Order within a part is kept.
    """

    def __init__(self) -> None:
        self.parts: list[list[bytes]] = [[] for _ in range(PARTS)]
        self._spilled: list[list[tuple[int, int, int]]] = [[] for _ in range(PARTS)]
        self._file: BinaryIO | None = None

    def settle(self) -> None:
        if sum(map(len, self.parts)) > SPILLED_ITEMS:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="moorage-fsck-")  # noqa: SIM115 - closed by `close`
        for number, records in enumerate(self.parts):
            if records:
                data = b"".join(records)
                self._spilled[number].append((self._file.tell(), len(data), len(records)))
                self._file.write(data)
                records.clear()

    def blocks(self, number: int) -> Iterator[tuple[int, bytes]]:
        """The records of a part, joined: how many, and their bytes. Each part may be read once."""
        for offset, length, count in self._spilled[number]:
            assert self._file is not None
            self._file.seek(offset)
            yield count, self._file.read(length)
        records, self.parts[number] = self.parts[number], []
        if records:
            yield len(records), b"".join(records)

    def rows(self, number: int) -> Iterator[Any]:
        """The records of a part, where each is one msgpack value."""
        for count, data in self.blocks(number):
            yield from _decoder.decode(b"\xdd" + count.to_bytes(4) + data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
