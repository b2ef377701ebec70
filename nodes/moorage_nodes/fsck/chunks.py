"""The joins by chunk and by object: what kept versions need is in the registry, and what that names is in the bucket."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from moorage_nodes.fsck.partitions import PARTS, Partitions
from moorage_nodes.fsck.tables import Tables
from moorage_nodes.metadata.records import CHUNK_CONDEMNED, CHUNK_DAMAGED

_REFERENCE = 36  # bytes: digest, size
_CHUNK = 37  # bytes: digest, size, state


@dataclass(frozen=True, slots=True)
class Trouble:
    """A needed chunk that something is wrong with; who needs it is looked up afterwards."""

    kind: str
    digest: bytes
    detail: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A chunk as the registry places it, since the revision `since`."""

    digest: bytes
    size: int
    offset: int
    is_damaged: bool
    since: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the registry says of one object; `size` is what the bucket's listing says, None: it is not there."""

    pool: str
    name: str
    size: int | None
    chunks: tuple[Placed, ...]

    def hurt(self) -> list[Placed]:
        """The chunks that are not within it, but for those that are marked as damaged."""
        reach = -1 if self.size is None else self.size
        return [chunk for chunk in self.chunks if chunk.offset + chunk.size > reach and not chunk.is_damaged]


def _cut(data: bytes, width: int) -> Iterator[bytes]:
    for start in range(0, len(data), width):
        yield data[start : start + width]


def check_chunks(tables: Tables) -> Iterator[Trouble | None]:
    """What is wrong with chunks that kept versions need; None now and then, to breathe."""
    findings = tables.findings
    for number in range(PARTS):
        needed = {each for _, data in tables.references.blocks(number) for each in _cut(data, _REFERENCE)}
        held: dict[bytes, bytes] = {}
        for _, data in tables.chunks.blocks(number):
            held.update((each[:32], each[32:]) for each in _cut(data, _CHUNK))
        names = {each for _, data in tables.names.blocks(number) for each in _cut(data, 32)}
        if not (needed or held or names):
            continue
        for reference in needed:
            trouble = _judge(reference[:32], reference[32:], held.get(reference[:32]))
            if trouble is not None:
                yield trouble
        digests = {reference[:32] for reference in needed}
        idle = [digest for digest in held if digest not in digests]
        damaged = sum(held[digest][4] == CHUNK_DAMAGED for digest in idle)
        findings.count("chunk_unreferenced", len(idle) - damaged)
        findings.count("damaged_unreferenced", damaged)
        findings.count("name_stale", sum(digest not in held for digest in names))
        yield None


def _judge(digest: bytes, size: bytes, held: bytes | None) -> Trouble | None:
    if held is None:
        return Trouble("chunk_missing", digest, "The registry has no record of it.")
    if held[:4] != size:
        told, known = int.from_bytes(size), int.from_bytes(held[:4])
        return Trouble("chunk_size_wrong", digest, f"A manifest says {told} bytes, the registry {known}.")
    if held[4] == CHUNK_CONDEMNED:
        return Trouble("chunk_condemned", digest, "It is condemned.")
    if held[4] == CHUNK_DAMAGED:
        return Trouble("chunk_damaged", digest, "It is marked as damaged.")
    return None


def join_objects(
    tables: Tables, listed: Mapping[str, Partitions], is_open: Callable[[str], bool]
) -> Iterator[StoredObject]:
    """Every object that the registry names, with its size in the bucket, and every other one of the bucket that
    belongs to no upload that `is_open` (with no chunks). `listed`: by pool, rows of (name below the namespace, size);
    an object in a pool that was not listed has no size.
    """
    for number in range(PARTS):
        chunks: dict[tuple[str, str], list[Placed]] = defaultdict(list)
        for pool, name, offset, size, digest, is_damaged, since in tables.objects.rows(number):
            chunks[pool, name].append(Placed(digest, size, offset, is_damaged, since))
        sizes = {(pool, name): size for pool, each in listed.items() for name, size in each.rows(number)}
        for (pool, name), placed in chunks.items():
            size = sizes.pop((pool, name), None)
            yield StoredObject(pool, name, size, tuple(sorted(placed, key=lambda chunk: chunk.offset)))
        for (pool, name), size in sizes.items():
            if not is_open(name.partition("/")[0]):
                yield StoredObject(pool, name, size, ())
