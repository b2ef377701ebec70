"""A collector beside servers on one store, with the objects that chunks lie in: what tests of collections need."""

import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from upload_bed import INCARNATION, NAMESPACE, Bed, digest_of, hash_of

from moorage.core.ids import format_hash
from moorage_nodes.blocks.collecting import copy_chunks, delete_objects, list_page
from moorage_nodes.gc.age import Reading
from moorage_nodes.gc.collector import Collector, Rules
from moorage_nodes.gc.report import Report
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.names import read_names
from moorage_nodes.metadata.records import Chunk
from moorage_nodes.peer_api import RegisteredChunk, RegisterRequest
from moorage_nodes.stores.contracts import MetadataStore, ObjectStore
from moorage_nodes.stores.objects_memory import MemoryObjects

HOUR = 3600
DAY = 24 * HOUR
RULES = Rules(
    grace=HOUR,
    upload_idle=DAY,
    upload_max=7 * DAY,
    retained_versions=3,
    retained_deleted=2 * DAY,
    retained_feed=30 * DAY,
    max_deletions=1000,
)


@dataclass
class Hands:
    """The clocks of a machine, turned by hand. `seconds` is the true time."""

    seconds: float = 1_000.0
    wall_ahead: float = 1_700_000_000.0
    boot: str = "boot-1"
    booted: float = 0.0

    def read(self) -> Reading:
        return Reading(
            wall=int((self.seconds + self.wall_ahead) * 1000),
            uptime=int((self.seconds - self.booted) * 1000),
            boot=self.boot,
        )

    def monotonic(self) -> float:
        return self.seconds

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds

    def step(self, seconds: float) -> None:
        """Somebody sets the clock of the wall."""
        self.wall_ahead += seconds

    def boot_again(self) -> None:
        self.booted = self.seconds
        self.boot = f"{self.boot}+"


class DirectPools:
    """`moorage_nodes.gc.pools.Pools` without block servers between: what those do, on object stores."""

    def __init__(self, stores: Mapping[str, ObjectStore]) -> None:
        self._stores = stores
        self.names = tuple(stores)

    async def list_objects(self, pool: str, namespace: str) -> AsyncIterator[list[tuple[str, int]]]:
        after, more = "", True
        while more:
            found, more = await list_page(self._stores[pool], namespace, after)
            if found:
                yield found
                after = found[-1][0]

    async def delete_objects(self, pool: str, namespace: str, names: Sequence[str]) -> None:
        await delete_objects(self._stores[pool], namespace, names)

    async def copy_chunks(
        self, pool: str, namespace: str, source: str, target: str, chunks: Sequence[tuple[bytes, int, int]]
    ) -> None:
        wanted = [(format_hash(digest), offset, size) for digest, offset, size in chunks]
        await copy_chunks(self._stores[pool], namespace, source, target, wanted)


@dataclass
class StoringBed(Bed):
    """As `Bed`, with chunks packed into objects, one a call, and read back from where their records say."""

    objects: ObjectStore = field(default_factory=MemoryObjects)

    async def store_chunks(
        self, upload: str, chunks: Mapping[str | None, bytes] | Sequence[tuple[str | None, bytes]]
    ) -> None:
        pairs = list(chunks.items()) if isinstance(chunks, Mapping) else list(chunks)
        call = next(self.calls)
        different = {digest_of(data): data for _, data in pairs if data}
        name = f"{upload}/{call}.0"
        if different:
            await self.objects.put(f"{NAMESPACE}/{name}", list(different.values()))
        ends = list(itertools.accumulate(map(len, different.values())))
        offsets = dict(zip(different, [0, *ends], strict=False))
        registered = [
            RegisteredChunk(
                chunk_id=hash_of(data) if each is None else each,
                hash=hash_of(data),
                size=len(data),
                object=name if data else "",
                offset=offsets.get(digest_of(data), 0),
            )
            for each, data in pairs
        ]
        await self.registry.register(
            RegisterRequest(namespace=NAMESPACE, upload=upload, call=call, pool="p1", chunks=registered)
        )

    async def bytes_of(self, digest: bytes) -> bytes:
        kv = await self.store.get(keys.chunk(NAMESPACE, digest))
        assert kv is not None, f"{format_hash(digest)} has no record"
        chunk = records.decode(Chunk, kv.value)
        if not chunk.size:
            return b""
        name = f"{NAMESPACE}/{chunk.object}"
        data = bytes(await self.objects.get(name, offset=chunk.offset, length=chunk.length))
        assert digest_of(data) == digest
        return data

    async def read(self, file_id: str, version: int | None = None) -> bytes:
        return b"".join(
            [await self.bytes_of(digest) for _, digest, _ in await self.entries(file_id, version)]
        )

    async def meaning_digest(self, name: str) -> bytes | None:
        return (await read_names(self.store, NAMESPACE, [name])).get(name)

    async def object_names(self) -> list[str]:
        prefix = f"{NAMESPACE}/"
        return [info.name.removeprefix(prefix) async for page in self.objects.list(prefix) for info in page]

    async def digests(self) -> set[bytes]:
        """Of all chunks that have a record."""
        found, _ = await self.store.range(*keys.kind_range(NAMESPACE, "k"))
        return {kv.key[-32:] for kv in found.kvs}


@dataclass
class CollectorBed(StoringBed):
    """`hands` are the collector's clocks; `rules` its settings. Other processes of its store are made by `beside`."""

    hands: Hands = field(default_factory=Hands)
    rules: Rules = RULES
    pools: Any = None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(100))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pools = self.pools or DirectPools({"p1": self.objects})

    def beside(self, store: MetadataStore | None = None, **changes: Any) -> "CollectorBed":
        """Another process, over another way to the same store."""
        shared: dict[str, Any] = {
            "objects": self.objects,
            "hands": self.hands,
            "rules": self.rules,
            "seed": next(self.numbers),
            "numbers": self.numbers,
        }
        return CollectorBed(store or self.store, **{**shared, **changes})

    def collector(self) -> Collector:
        return Collector(
            self.store,
            self.pools,
            self.rules,
            server_key="c1",
            name=f"collector-{self.seed}",
            incarnation=INCARNATION.encode(),
            clock=self.hands.read,
            monotonic=self.hands.monotonic,
            rng=self.rng,
        )

    async def collect(self, *, after: float = 0.0) -> Report:
        """One collection, `after` so many seconds; it must be complete."""
        self.hands.pass_by(after)
        report = await self.collector().run()
        assert report.outcome == "complete", (report.reason, report.skipped)
        return report

    async def quiet(self, rounds: int = 3, *, after: float = 2 * HOUR) -> list[Report]:
        """Collections, a grace and more apart, beginning after one."""
        return [await self.collect(after=after) for _ in range(rounds)]
