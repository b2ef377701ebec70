"""Which chunks of one call share an object, as a pure function (docs/adr/0015-packing.md)."""

from collections.abc import Iterable
from dataclasses import dataclass

PACKED_CHUNK_BYTES = 256 * 1024  # larger ones have an object of their own
PACKED_OBJECT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PlannedObject:
    """The `number`th object of a call: the chunks with these digests, one behind the other."""

    number: int
    digests: tuple[bytes, ...]
    size: int


def plan_objects(chunks: Iterable[tuple[bytes, int]]) -> list[PlannedObject]:
    """Objects for chunks (digest, size), each digest once. Packed chunks stay in their order, so that reading a
    file of them in order reads its objects in order. Empty chunks need no object.
    """
    planned: list[PlannedObject] = []
    packed: list[bytes] = []
    packed_size = 0

    def close_packed() -> None:
        nonlocal packed, packed_size
        if packed:
            planned.append(PlannedObject(len(planned), tuple(packed), packed_size))
            packed, packed_size = [], 0

    for digest, size in chunks:
        if size > PACKED_CHUNK_BYTES:
            planned.append(PlannedObject(len(planned), (digest,), size))
        elif size:
            if packed_size + size > PACKED_OBJECT_BYTES:
                close_packed()
            packed.append(digest)
            packed_size += size
    close_packed()
    return planned


def object_name(upload: str, call: str, number: int) -> str:
    """The name below the namespace's prefix. `call` is random and never used again, so neither is the name."""
    return f"{upload}/{call}.{number}"
