"""Collections beside everything else: each a process of its own, which may die, stand still, or meet another one."""

import asyncio
import random
from dataclasses import dataclass

from moorage_nodes.gc.age import Reading
from moorage_nodes.gc.collector import Collector, Rules
from moorage_nodes.gc.pools import BlockServers
from moorage_nodes.gc.report import COMPLETE, Report
from moorage_nodes.gc.tenure import CollectorBusyError, TenureLostError
from moorage_nodes.metadata import keys
from moorage_nodes.metrics import Metrics
from simulator.network import SimulatedPeers
from simulator.process import Faults, MortalStore, Process, RandomFaults, ScriptedFaults
from simulator.ways import FarStore
from simulator.witness import Limits
from simulator.world import POOL, SERVER_KEY, World

CAPPED = 3  # deletions, where they are capped


def build_rules(limits: Limits, *, max_deletions: int = 1_000_000) -> Rules:
    return Rules(
        grace=int(limits.grace),
        upload_idle=int(limits.upload_idle),
        upload_max=int(limits.upload_max),
        retained_versions=limits.retained_versions,
        retained_deleted=int(limits.retention_deleted),
        retained_feed=int(limits.retention_feed),
        max_deletions=max_deletions,
    )


@dataclass
class Collections:
    """The collectors of a world. `machine` is what the clock of a boot is told from."""

    world: World
    machine: str = "boot-1"
    booted: float = 0.0
    count: int = 0

    async def collect(self, *, capped: bool = False) -> Report | None:
        """One collection; None when it died or another one was at work."""
        world = self.world
        self.count += 1
        process = Process(f"gc-{self.count}", world.loop, skew=world.skew_of_machines)
        world.processes.append(process)
        world.note(f"start {process.name}")
        world.witness.collections[process.name] = world.loop.now()
        running = process.spawn(self._run(process, capped=capped))
        try:
            await asyncio.wait({running})
        finally:
            del world.witness.collections[process.name]
            world.processes.remove(process)
        if running.cancelled():
            world.note(f"{process.name} died")
            return None
        error = running.exception()
        if isinstance(error, CollectorBusyError | TenureLostError):
            world.note(f"{process.name}: {error.detail}")
            return None
        if error is not None:
            if process.dead:
                return None
            if not world.is_expected(error):
                world.broken(process.name, error)
            world.note(f"{process.name}: {error!r}")
            return None
        report = running.result()
        world.note(
            f"{process.name}: {report.outcome} {report.reason} condemned {report.condemned} removed {report.removed}"
            f" objects {report.objects_deleted} rewritten {report.objects_rewritten}"
        )
        if report.skipped:
            world.broken(process.name, AssertionError(f"left out: {report.skipped}"))
        return report

    async def collect_whole(self) -> None:
        """One that is complete, however often it takes."""
        while True:
            report = await self.collect()
            if report is not None and report.outcome == COMPLETE:
                return
            await asyncio.sleep(120.0)

    def boot(self) -> None:
        """The machine of the collectors starts again."""
        self.booted = self.world.loop.time()
        self.machine += "'"

    async def _run(self, process: Process, *, capped: bool) -> Report:
        world = self.world
        faults: Faults = RandomFaults(process, world.weather, world.note)
        if world.script is not None:
            faults = ScriptedFaults(process, world.script)
        store = MortalStore(FarStore(world.store, process, world.weather), process, faults)
        incarnation = await store.get(keys.INCARNATION)
        assert incarnation is not None

        def read_clock() -> Reading:
            return Reading(
                wall=int(process.clock() * 1000),
                uptime=int((world.loop.time() - self.booted) * 1000),
                boot=self.machine,
            )

        peers = SimulatedPeers(world.network, world.files.signers["gc"], Metrics())
        limits = world.limits
        rules = build_rules(limits, max_deletions=CAPPED) if capped else build_rules(limits)
        collector = Collector(
            store,
            BlockServers(peers, SERVER_KEY, [POOL]),
            rules,
            server_key=SERVER_KEY,
            name=process.name,
            incarnation=incarnation.value,
            clock=read_clock,
            monotonic=world.loop.time,
            rng=random.Random(world.rng.getrandbits(64)),
        )
        return await collector.run()
