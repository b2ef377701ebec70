"""What the collector has a block server do with objects: list, copy what lives of one, delete.

The block server trusts the collector's token for *what* may go: that nothing names an object any more is proved by
the collector, against the records. Here only the names are checked, so that no call reaches beyond its namespace.
"""

import contextlib
import hashlib
from collections.abc import Sequence

from moorage.core.errors import (
    DamagedChunkError,
    InvalidFieldError,
    ObjectExistsError,
    ObjectNotFoundError,
    RangeError,
)
from moorage.core.ids import parse_hash, parse_id
from moorage_nodes.blocks.packing import PACKED_OBJECT_BYTES
from moorage_nodes.stores.contracts import ObjectStore

LISTED_TOGETHER = 1000


async def list_page(objects: ObjectStore, namespace: str, after: str) -> tuple[list[tuple[str, int]], bool]:
    """A namespace's objects behind the name `after` (empty: from the first), with their sizes; and whether there
    are more. At least `LISTED_TOGETHER`, unless those are all.
    """
    prefix = f"{parse_id(namespace, 'namespace')}/"
    found: list[tuple[str, int]] = []
    start_after = prefix + parse_object(after, "after") if after else ""
    async for page in objects.list(prefix, start_after=start_after):
        found.extend((info.name.removeprefix(prefix), info.size) for info in page)
        if len(found) >= LISTED_TOGETHER:
            return found, True
    return found, False


async def delete_objects(objects: ObjectStore, namespace: str, names: Sequence[str]) -> None:
    prefix = f"{parse_id(namespace, 'namespace')}/"
    await objects.delete([prefix + parse_object(name, f"objects[{n}]") for n, name in enumerate(names)])


async def copy_chunks(
    objects: ObjectStore, namespace: str, source: str, target: str, chunks: Sequence[tuple[str, int, int]]
) -> int:
    """Put the object `target` together of chunks (hash, offset in `source`, size), each verified; its size.

    Idempotent: an object of that name is the same call's. `DamagedChunkError`.
    """
    prefix = f"{parse_id(namespace, 'namespace')}/"
    source, target = parse_object(source, "source"), parse_object(target, "target")
    if sum(size for _, _, size in chunks) > PACKED_OBJECT_BYTES:
        raise InvalidFieldError("These chunks do not fit into a packed object.", field="chunks")
    try:
        whole = memoryview(await objects.get(prefix + source))
    except (ObjectNotFoundError, RangeError):
        raise DamagedChunkError("The object is not there.") from None
    parts = []
    for chunk_hash, offset, size in chunks:
        part = whole[offset : offset + size]
        if hashlib.sha256(part).digest() != parse_hash(chunk_hash, "chunks"):
            raise DamagedChunkError("The bytes of this chunk are damaged.", hash=chunk_hash)
        parts.append(bytes(part))
    with contextlib.suppress(ObjectExistsError):
        await objects.put(prefix + target, parts)
    return sum(map(len, parts))


def parse_object(name: str, field: str) -> str:
    """`<upload>/<call>.<n>`; InvalidFieldError."""
    upload, slash, rest = name.partition("/")
    if not slash:
        raise InvalidFieldError(f"`{field}` must be the name of an object below a namespace.", field=field)
    return f"{parse_id(upload, field)}/{parse_id(rest, field)}"
