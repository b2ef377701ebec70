"""One seed: a world, its devices, its bad luck, and what must hold at its end."""

import asyncio
import contextlib
import random
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from moorage_nodes.blocks import packing
from moorage_nodes.metadata import scan
from moorage_nodes.metadata.l1 import (
    commit,
    deletion,
    deletions,
    let_go,
    preparation,
    segments,
    targets,
    uploads,
)
from moorage_nodes.metadata.l2 import contents, listing
from moorage_nodes.notify import clients, delivery, elapsed, hub, settling
from moorage_nodes.notify import server as notify_server
from simulator.checking import Checks
from simulator.collecting import Collections
from simulator.device import FILES, Device
from simulator.follower import Follower
from simulator.history import History
from simulator.listener import Listener
from simulator.loop import StuckError, VirtualLoop, run_virtually
from simulator.process import Weather, monotonic
from simulator.witness import Limits, Violation
from simulator.world import World

HOUR = 3600.0
USERS = ("ada", "bob")
CROWD, CROWDED_PACE = 6, 0.002  # devices of one user, seconds between the requests of each
LONGEST = 400 * HOUR  # of one seed: longer means that something waits for what never comes


def choose_limits(rng: random.Random) -> Limits:
    """From impatient, where everything is collected while it is in use, to such as people set."""
    unit = rng.choice([30.0, 300.0, HOUR, 4 * HOUR])
    return Limits(
        retained_versions=rng.choice([2, 3, 20]),
        retention_deleted=2 * unit,
        retention_feed=8 * unit,
        upload_idle=unit * rng.choice([1, 3]),
        upload_max=4 * unit,
        grace=unit,
        ack_deadline=max(unit / 2, 300.0),
        skew=min(HOUR, unit / 4),
    )


# Constants of the servers that decide when a case is a large one, and how they are made small: (module, name, value).
ALWAYS: list[tuple[Any, str, Any]] = [
    (packing, "PACKED_CHUNK_BYTES", 40),
    (packing, "PACKED_OBJECT_BYTES", 64),
    (deletions, "SCAN_SECONDS", 300.0),
    (deletions, "SCANS_TO_PARKED", 12),
    (settling, "SCAN_SECONDS", 300.0),
    (delivery, "SWEEP_SECONDS", 600.0),
    (elapsed, "STEPS", 4),
    (elapsed, "LONGEST_STEP", 24 * 3_600_000),
    (notify_server, "time", SimpleNamespace(monotonic=monotonic)),
    (clients.Clients.__init__, "__defaults__", (monotonic,)),
    (delivery.Delivery.__init__, "__defaults__", (monotonic,)),
    (hub.Hub.__init__, "__defaults__", (monotonic,)),
    (settling.Settling.__init__, "__defaults__", (monotonic,)),
]
SMALL: list[tuple[Any, str, Any]] = [
    *((module, "INLINE_ENTRIES", 2) for module in (commit, preparation, targets, uploads)),
    *((module, "SEGMENT_ENTRIES", 2) for module in (segments, contents, listing, scan)),
    (preparation, "MAX_PLAN_NAMES", 1),
    (preparation, "BOUND_TOGETHER", 2),
    (preparation, "CHECKED_TOGETHER", 2),
    (commit, "MAX_PLAN_CALLS", 1),
    (commit, "MAX_PLAN_FILES", 2),
    (commit, "MAX_FILE_REVIVALS", 1),
    (commit, "MAX_PLAN_REVIVALS", 1),
    (deletion, "WALKED_TOGETHER", 1),
    (let_go, "CHILDREN_TOGETHER", 1),
    (let_go, "MARKED_TOGETHER", 2),
    (let_go, "MANIFESTS_TOGETHER", 1),
    (let_go, "FILES_TOGETHER", 2),
]


@dataclass(frozen=True)
class Result:
    """`trace`: what went on before, where an invariant did not hold."""

    seed: int
    violation: Violation | None
    trace: tuple[str, ...]
    requests: int
    revisions: int
    seconds: float  # of virtual time
    cause: str = ""  # the traceback of what a server failed with

    @property
    def invariant(self) -> str:
        return "" if self.violation is None else self.violation.invariant


@contextlib.contextmanager
def small_limits(*, small: bool) -> Iterator[None]:
    changed = [*ALWAYS, *(SMALL if small else ())]
    before = [(module, name, getattr(module, name)) for module, name, _ in changed]
    try:
        for module, name, value in changed:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def simulate(seed: int) -> Result:
    """The same for the same seed, in any process that has the same PYTHONHASHSEED."""
    rng = random.Random(seed)
    with small_limits(small=rng.random() < 0.4):
        return run_virtually(_Seed(seed, rng).run())


class _Seed:
    def __init__(self, seed: int, rng: random.Random) -> None:
        self.seed = seed
        self.rng = rng

    async def run(self) -> Result:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        rng = self.rng
        weather = Weather(
            random.Random(rng.getrandbits(64)),
            rate=rng.choice([0.0, 0.005, 0.02, 0.05]),
            slow=rng.choice([0.01, 0.05, 0.2]),
            longest=rng.choice([0.2, 2.0, 20.0]),
        )
        self.limits = choose_limits(rng)
        self.world = World(rng, loop, weather, self.limits)
        self.collections = Collections(self.world)
        self.checks = Checks(self.world)
        self.history = History(self.world.witness, {})
        try:
            async with asyncio.timeout(LONGEST):
                await self._until_failure(self._play())
        except TimeoutError:
            self.world.fail(Violation("everything ends", "the simulation did not come to its end"))
        except Violation as violation:
            self.world.fail(violation)
        except AssertionError as error:
            self.world.broken("the simulation", error)
        await self.world.aclose()
        failure = self.world.failure
        return Result(
            self.seed,
            failure,
            tuple(self.world.trace) if failure is not None else (),
            len(self.history.operations),
            self.world.witness.revision,
            loop.time(),
            "" if failure is None or failure.__cause__ is None else _traceback(failure.__cause__),
        )

    async def _until_failure(self, play: Any) -> None:
        playing = asyncio.ensure_future(play)
        failed = asyncio.ensure_future(self.world.failed.wait())
        try:
            await asyncio.wait({playing, failed}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                playing.result()
        finally:
            playing.cancel()
            failed.cancel()

    async def _play(self) -> None:
        world, rng = self.world, self.rng
        world.weather.calm = True
        await world.start_all()
        # A crowd keeps a server's line full: its transactions are planned while others are under way.
        crowd = rng.random() < 0.15
        devices = [
            Device(world, self.history, user, f"{user}-{number}", random.Random(rng.getrandbits(64)))
            for user in USERS
            for number in range(CROWD if crowd and user == USERS[0] else rng.choice([1, 2, 3]))
        ]
        for device in {device.user: device for device in devices}.values():
            await device.prepare()
        followers = [Follower(device) for device in devices]
        for device, follower in zip(devices, followers, strict=True):
            device.dawdles = rng.choice([0.0, 0.1])
            device.more.append((follower.follow, 5))
            if rng.random() < 0.6:
                listener = Listener(device)
                device.more += [(listener.poll, 8), (listener.hasten, 4)]
        pace = CROWDED_PACE if crowd else rng.choice([0.05, 0.5, 5.0, self.limits.grace / 5])
        background = [
            asyncio.create_task(world.keep_alive()),
            asyncio.create_task(self._bad_luck(pace)),
            *(asyncio.create_task(self._collect(pace)) for _ in range(2)),
            asyncio.create_task(self._check(pace)),
        ]
        world.weather.calm = False
        await asyncio.gather(
            *(device.run(rng.randint(10, 25), lambda rng: rng.expovariate(1 / pace)) for device in devices)
        )
        for task in background[1:]:
            task.cancel()
        world.note("all is well from here on")
        world.weather.calm = True
        for process in world.processes:
            process.stalled_until = 0.0
        for place in world.network.places:
            if place.process is not None:
                place.process.skew = place.process.stalled_until = 0.0
        await self._settle()
        world.witness.check_all()
        await self.checks.check(deep=False)
        await self._read_everything(devices)
        for follower in followers:
            if not await follower.follow():
                raise Violation("the feed can be followed", follower.device.id)
            follower.check_converged()
        await self._be_quiet()
        world.witness.check_quiet()
        world.witness.check_all()
        await self.checks.check_quiet()
        await self._read_everything(devices)
        for task in background:
            task.cancel()

    async def _bad_luck(self, pace: float) -> None:
        """Deaths, clocks that step, processes that stand still, a store that forgets its past."""
        world, rng = self.world, self.world.weather.rng
        rests = self._rests(pace * rng.choice([1.0, 5.0, 20.0]))
        while True:
            await asyncio.sleep(rng.expovariate(1 / next(rests)))
            place = rng.choice(world.network.places)
            match rng.choice(["kill", "kill", "clock", "stall", "compact", "collector", "boot"]):
                case "kill":
                    world.kill(place)
                case "collector" if world.processes:
                    process = rng.choice(world.processes)
                    if rng.random() < 0.5:
                        process.kill()
                    else:
                        process.stalled_until = world.loop.time() + rng.choice([1.0, 30.0, 300.0])
                        world.note(f"{process.name} stands still")
                case "boot" if not self.collections.booted:
                    self.collections.boot()
                case "clock" if place.process is not None:
                    skew = self.limits.skew / 2
                    world.skew_of_machines = rng.uniform(-skew, skew)
                    place.process.skew = rng.uniform(-skew, skew)
                    world.note(f"clock of {place.process.name}: {place.process.skew:+.0f} s")
                case "stall" if place.process is not None:
                    seconds = rng.choice([1.0, 10.0, 300.0])
                    place.process.stalled_until = world.loop.time() + seconds
                    world.note(f"{place.process.name} stands still for {seconds:.0f} s")
                case "compact" if world.store.told > 1:
                    with contextlib.suppress(Exception):
                        await world.store.compact(world.store.told)

    def _rests(self, often: float) -> Iterator[float]:
        """Seconds between things that happen: `often`, and ever longer while no client asks for anything."""
        longest = max(often, self.limits.grace / 2)
        rest, asked = often, 0
        while True:
            begun = len(self.history.operations)
            rest = often if begun > asked else min(2 * rest, longest)
            asked = begun
            yield rest

    async def _collect(self, pace: float) -> None:
        """Collections, now and then, also while another one runs."""
        rng, wanted = self.world.rng, self.world.collector_wanted
        rests = self._rests(min(10 * pace, self.limits.grace / 2))
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rng.expovariate(1 / next(rests))):
                    await wanted.wait()
            wanted.clear()
            await self.collections.collect(capped=rng.random() < 0.1)

    async def _check(self, pace: float) -> None:
        """fsck on the live system, a few times."""
        rng = self.world.weather.rng
        rests = self._rests(400 * pace)
        while True:
            await asyncio.sleep(rng.expovariate(1 / next(rests)))
            try:
                await self.checks.check(deep=rng.random() < 0.5)
            except Violation as violation:
                self.world.fail(violation)

    async def _be_quiet(self) -> None:
        """Everything passes its time, and what nothing needs is collected: old versions, then what they held, and
        once more, since packed objects are written anew first.
        """
        longest = max(self.limits.retention_deleted, self.limits.upload_max, self.limits.grace)
        for pause in (0.0, longest, longest, *(self.limits.grace + self.limits.skew,) * 3, 0.0):
            await asyncio.sleep(pause)
            await self.collections.collect_whole()

    async def _settle(self) -> None:
        """Every deletion comes to its end, whoever began it."""
        witness = self.world.witness
        for _ in range(200):
            if not witness.work | witness.parked:
                return
            await asyncio.sleep(max(300.0, self.limits.ack_deadline / 5))
        raise Violation("everything ends", f"deletions wait: {sorted(witness.work | witness.parked)}")

    async def _read_everything(self, devices: list[Device]) -> None:
        for device in {device.user: device for device in devices}.values():
            for file_id in FILES:
                answered = await device.read_whole(file_id)
                if answered is None or answered.status not in {200, 404, 410}:
                    raise Violation("what was acknowledged survives", f"{device.user}/{file_id}: {answered}")


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


__all__ = ["Result", "StuckError", "simulate"]
