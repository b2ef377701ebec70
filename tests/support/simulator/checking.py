"""fsck beside everything else: it finds nothing wrong wherever the invariants hold (docs/fsck.md)."""

from dataclasses import dataclass

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.fsck.check import Result, check_store
from moorage_nodes.fsck.pools import DirectPool
from simulator.process import Process
from simulator.ways import FarObjects, FarStore
from simulator.witness import Violation
from simulator.world import POOL, World

# What a world leaves behind that has become quiet and was collected: nothing that fsck could tell of.
LEFT_OVER = (
    "orphan_object",
    "chunk_unreferenced",
    "segment_unreferenced",
    "stored_leftover",
    "manifest_leftover",
    "name_stale",
)


@dataclass
class Checks:
    """The checks of a world: each reads on its way, while others write."""

    world: World
    count: int = 0

    async def check(self, *, deep: bool) -> Result | None:
        """Raises `Violation`. None: the store forgot its past faster than it could be read."""
        world = self.world
        self.count += 1
        process = Process(f"fsck-{self.count}", world.loop)
        store = FarStore(world.store, process, world.weather)
        pool = DirectPool(FarObjects(world.objects, process, world.weather))
        try:
            result = await check_store(store, {POOL: pool}, deep=deep)
        except StoreUnavailableError as error:
            world.note(f"{process.name}: {error!r}")
            return None
        if not result.is_clean:
            found = [
                f"{each.kind} {each.namespace}/{each.subject}: {each.detail}"
                for each in result.findings.listed
            ]
            raise Violation("fsck finds nothing wrong", "; ".join(found[:5]))
        return result

    async def check_quiet(self) -> None:
        """Nor anything that the collector has left. Raises `Violation`."""
        result = await self.check(deep=True)
        left = {} if result is None else {word: result.findings.counts[word] for word in LEFT_OVER}
        if result is None or any(left.values()):
            raise Violation("nothing leaks", f"fsck: {left}")
