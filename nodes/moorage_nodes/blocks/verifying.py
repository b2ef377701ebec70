"""Reading chunks again where they lie, to see whether their bytes are still those of their hashes."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Literal, Protocol

from moorage.core.errors import ObjectNotFoundError, RangeError
from moorage.core.ids import HASH_PREFIX, MAX_CHUNK_BYTES
from moorage_nodes.stores.contracts import ObjectStore

Verdict = Literal["ok", "lost", "damaged"]


class Lying(Protocol):
    """Where a chunk lies."""

    @property
    def hash(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def object(self) -> str: ...
    @property
    def offset(self) -> int: ...


async def verify_chunks(objects: ObjectStore, namespace: str, chunks: Sequence[Lying]) -> list[Verdict]:
    """Of each chunk: `ok`, `lost` (its object, or that part of it, is not there) or `damaged` (other bytes).

    Chunks that lie in one object are read together. `StoreUnavailableError` says nothing about any of them.
    """
    verdicts: dict[int, Verdict] = {}
    order = sorted(range(len(chunks)), key=lambda at: (chunks[at].object, chunks[at].offset))
    run: list[int] = []
    for at in order:
        if run and not _fits(chunks[run[0]], chunks[at]):
            verdicts.update(await _verify_run(objects, namespace, [(each, chunks[each]) for each in run]))
            run = []
        run.append(at)
    if run:
        verdicts.update(await _verify_run(objects, namespace, [(each, chunks[each]) for each in run]))
    return [verdicts[at] for at in range(len(chunks))]


def _fits(first: Lying, chunk: Lying) -> bool:
    return first.object == chunk.object and chunk.offset + chunk.size - first.offset <= MAX_CHUNK_BYTES


async def _verify_run(
    objects: ObjectStore, namespace: str, run: Sequence[tuple[int, Lying]]
) -> dict[int, Verdict]:
    start = run[0][1].offset
    length = max(chunk.offset + chunk.size for _, chunk in run) - start
    try:
        data: bytes | memoryview = b""
        if length:
            data = await objects.get(f"{namespace}/{run[0][1].object}", offset=start, length=length)
    except (ObjectNotFoundError, RangeError):
        if len(run) == 1:
            return {run[0][0]: "lost"}
        # One of them is out of the object's reach; the others may be whole.
        found: dict[int, Verdict] = {}
        for each in run:
            found.update(await _verify_run(objects, namespace, [each]))
        return found
    return await asyncio.to_thread(_hash, memoryview(data), start, run)


def _hash(data: memoryview, start: int, run: Sequence[tuple[int, Lying]]) -> dict[int, Verdict]:
    verdicts: dict[int, Verdict] = {}
    for at, chunk in run:
        part = data[chunk.offset - start : chunk.offset - start + chunk.size]
        right = hashlib.sha256(part).hexdigest() == chunk.hash.removeprefix(HASH_PREFIX)
        verdicts[at] = "ok" if right else "damaged"
    return verdicts
