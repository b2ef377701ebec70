"""How files travel: cut into chunks, gathered into batches and calls. Pure; bytes are read and sent elsewhere."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from moorage.core.ids import format_hash, parse_hash
from moorage.core.wire import MAX_BATCH_FILES

CHUNK_BYTES = 4 * 1024 * 1024
SMALL_BYTES = 256 * 1024
"""Chunks up to this size share calls, and so objects in S3 (DESIGN.md, packing)."""
CALL_BYTES = 4 * 1024 * 1024
"""The most bytes of small chunks in one call."""
BATCH_BYTES = 256 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Piece:
    """One chunk of a local file: where its bytes begin there, how many they are, and their `sha256_<hex>`."""

    offset: int
    size: int
    hash: str


def hash_of(data: bytes) -> str:
    return format_hash(hashlib.sha256(data).digest())


def plan_pieces(size: int) -> Iterator[tuple[int, int]]:
    """Offset and length of each chunk of a file of `size` bytes; none for an empty one."""
    return ((offset, min(CHUNK_BYTES, size - offset)) for offset in range(0, size, CHUNK_BYTES))


def content_hash(hashes: Iterable[str]) -> str:
    """The `hash` of a version: SHA-256 over the digests of its chunks in file order (PROTOCOL.md, Files)."""
    return format_hash(hashlib.sha256(b"".join(parse_hash(text) for text in hashes)).digest())


def plan_batches(files: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """Files, with their sizes, that share an upload, in their order: up to 1,000 and `BATCH_BYTES`, so that what was
    stored before an interruption stays stored. A larger file is a batch by itself.
    """
    return _gather(files, BATCH_BYTES, MAX_BATCH_FILES)


def plan_calls(chunks: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """Chunks, with their sizes, as the calls that carry them: large ones alone, small ones together up to `CALL_BYTES`."""
    small: list[tuple[T, int]] = []
    for chunk, length in chunks:
        if length > SMALL_BYTES:
            yield [chunk]
        else:
            small.append((chunk, length))
    yield from _gather(small, CALL_BYTES)


def _gather(items: Iterable[tuple[T, int]], most_bytes: int, most: int | None = None) -> Iterator[list[T]]:
    """Items with their sizes, in their order, as many together as may be; never none."""
    group: list[T] = []
    size = 0
    for item, length in items:
        if group and (len(group) == most or size + length > most_bytes):
            yield group
            group, size = [], 0
        group.append(item)
        size += length
    if group:
        yield group
