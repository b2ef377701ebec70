"""A namespace in which every kind of the collector's work waits, and what must be left of it in the end."""

from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from collector_bed import DAY, RULES, CollectorBed
from upload_bed import NAMESPACE, digest_of, hash_of

from moorage_nodes.gc import letting_go, rewriting, sweeping
from moorage_nodes.metadata import scan
from moorage_nodes.metadata.l1 import commit as commit_module
from moorage_nodes.metadata.l1 import preparation, segments, targets, uploads
from moorage_nodes.stores.contracts import KeyValue

KEPT = [bytes([number]) * 100 for number in range(8)]
LONG = [b"long %d" % number for number in range(6)]


def take_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that make a small case take as many steps as a large one."""
    for module in (commit_module, preparation, targets, uploads):
        monkeypatch.setattr(module, "INLINE_ENTRIES", 5)
    monkeypatch.setattr(segments, "SEGMENT_ENTRIES", 3)
    monkeypatch.setattr(scan, "SEGMENT_ENTRIES", 3)
    monkeypatch.setattr(letting_go, "CHILDREN_TOGETHER", 2)
    monkeypatch.setattr(letting_go, "WRITTEN_TOGETHER", 2)
    monkeypatch.setattr(sweeping, "CHANGED_TOGETHER", 4)
    for module in (sweeping, rewriting):
        monkeypatch.setattr(module, "GROUP_RECORDS", 2)
    monkeypatch.setattr(sweeping, "REMOVED_TOGETHER", 5)
    monkeypatch.setattr(sweeping, "DELETED_TOGETHER", 2)


async def prepare(bed: CollectorBed) -> None:
    """Work waits for the next collection, and for the one after the grace."""
    bed.rules = msgspec.structs.replace(RULES, retained_versions=2, retained_feed=5 * DAY)
    for number in range(3):
        begun = await bed.begin("long", number)
        await bed.store_chunks(begun.id, [(f"l{n}", part + b"%d" % number) for n, part in enumerate(LONG)])
        await bed.commit(begun.id, "long", number + 1)
    await bed.mkdir("d", "/d")
    await bed.mkdir("e", "/d/e")
    for number in range(5):
        begun = await bed.begin(f"b{number}", parent="de"[number % 2], name=f"b{number}")
        await bed.store_chunks(begun.id, {f"b{number}": b"below %d" % number})
        await bed.commit(begun.id, f"b{number}", 1)
    await bed.write("gone", 0, {"x": b"gone"})
    await bed.delete("gone", 1, end=True)
    await bed.delete_directory("d", end=True)
    await bed.write("waits", 0, {"y": b"waits"})
    await bed.begin("idle")
    await bed.collect()
    bed.hands.pass_by(1.5 * DAY)
    await bed.delete("waits", 1, end=True)
    begun = await bed.begin("packed")
    await bed.store_chunks(begun.id, [(None, part) for part in [*KEPT, *(bytes(300 + n) for n in range(5))]])
    await bed.commit(begun.id, "packed", 1, [hash_of(part) for part in KEPT[:2]])
    idle = await bed.begin("idle2")
    await bed.store_chunks(idle.id, {"z": b"idle"})
    await bed.collect()
    bed.hands.pass_by(DAY)


async def check_held(bed: CollectorBed) -> None:
    assert await bed.read("packed") == b"".join(KEPT[:2])
    assert await bed.read("long") == b"".join(part + b"2" for part in LONG)
    assert await bed.read("long", 2) == b"".join(part + b"1" for part in LONG)


async def check_nothing_else(bed: CollectorBed) -> None:
    held = [*KEPT[:2], b"waits", *(part + b"%d" % number for number in (1, 2) for part in LONG)]
    assert await bed.digests() == {digest_of(data) for data in held}
    assert len(await bed.object_names()) == 4
    for kind, count in {"g": 4, "m": 5, "c": 3, "t": 0, "l": 0, "o": 0, "u": 0, "s": 0}.items():
        found = [kv async for kvs in _scan(bed, kind) for kv in kvs]
        assert len(found) == count, (kind, found)


def _scan(bed: CollectorBed, kind: str) -> AsyncIterator[Sequence[KeyValue]]:
    prefix = f"n/{NAMESPACE}/{kind}/".encode()
    return bed.store.scan(prefix, prefix[:-1] + b"0")
