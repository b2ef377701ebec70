"""The whole of Moorage in one process: stores in memory, processes that come and go, one virtual clock."""

import asyncio
import json
import random
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from realm import Realm

from moorage.core.errors import StoreUnavailableError
from moorage.core.routing import parse_routing_table
from moorage_nodes.blocks import server as block_server
from moorage_nodes.livefile import LiveFile
from moorage_nodes.metadata.l1 import server as l1_server
from moorage_nodes.metadata.l2 import server as l2_server
from moorage_nodes.metadata.l3 import server as l3_server
from moorage_nodes.metrics import Metrics
from moorage_nodes.notify import server as notify_server
from moorage_nodes.server import Server, Shared
from moorage_nodes.settings import Settings
from moorage_nodes.stores.contracts import Event
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.objects_memory import MemoryObjects
from moorage_nodes.stores.observer import NullObserver
from moorage_nodes.tokens import Audience, Signer, Verifier
from moorage_nodes.trust import parse_trust
from simulator.loop import VirtualLoop
from simulator.network import Asked, Network, Place, Plane, SimulatedPeers
from simulator.process import (
    Faults,
    MortalObjects,
    MortalStore,
    Process,
    RandomFaults,
    Script,
    ScriptedFaults,
    Weather,
    follow_processes,
)
from simulator.ways import FarObjects, FarStore
from simulator.witness import Limits, Violation, Witness

ROLES = ("l1", "l1", "l2", "l3", "l3", "block", "block", "notify", "notify")
NOTIFIER = "n1"
REALM_ID = "realm"
SERVER_KEY = "c1"
POOL = "p1"
TRACE_LENGTH = 4000


class WatchedStore(MemoryStore):
    """Tells the witness of every revision the moment it stands."""

    told = 0

    def __init__(self, witness: Callable[[int, Sequence[Event]], None], clock: Callable[[], float]) -> None:
        super().__init__(clock=clock, progress_interval=600.0)
        self._witness = witness

    async def _pause(self) -> None:
        """Others have had their turn on the way to it (ways.py)."""
        self._end_leases()

    def _wake_watches(self) -> None:
        keyspace = self._keyspace
        if keyspace.revision > self.told:
            events = keyspace.events(b"", b"\xff", self.told + 1)
            self.told = keyspace.revision
            self._witness(keyspace.revision, events)
        super()._wake_watches()


class WatchedObjects(MemoryObjects):
    """Tells the witness of every object that comes and goes."""

    witness: Witness

    async def put(self, name: str, data: bytes | memoryview | Sequence[bytes]) -> None:
        await super().put(name, data)
        self.witness.stored(name, self._objects[name])

    async def delete(self, names: Sequence[str]) -> None:
        await super().delete(names)
        self.witness.deleted(names)


@dataclass
class _Files:
    """The files of a realm that every simulated server shares: made once in a process of tests."""

    realm: Realm
    routing: LiveFile[Any]
    trust: LiveFile[Any]
    clock: "_SharedClock"
    settings: dict[str, Settings]
    signers: dict[str, Signer]
    verifier: Verifier


class _SharedClock:
    """Tokens live by the true time: what a server does with a skewed clock is tested apart from its tokens."""

    loop: VirtualLoop | None = None

    def __call__(self) -> float:
        assert self.loop is not None
        return self.loop.now()


@cache
def _files() -> _Files:
    folder = Path(tempfile.mkdtemp(prefix="simulator-"))
    realm = Realm(folder)
    cluster = {
        "server_key": SERVER_KEY,
        "pools": [POOL],
        "write_pools": [POOL],
        "notifiers": [NOTIFIER],
    }
    table = {"revision": 1, "hosts": ["127.0.0.1"], "clusters": [cluster]}
    (folder / "routing.json").write_text(json.dumps(table))
    routing = LiveFile(folder / "routing.json", parse_routing_table)
    trust = LiveFile(folder / "trust.json", parse_trust)
    clock = _SharedClock()
    settings = {role: realm.settings(role, cluster={"server_key": SERVER_KEY}) for role in ("l1", "l2", "l3")}
    settings["block"] = realm.settings("block", pool=POOL, peers={"l3": {SERVER_KEY: ["http://l3"]}})
    signers = {role: realm.signer(role, clock) for role in realm.keys}
    return _Files(realm, routing, trust, clock, settings, signers, Verifier(trust.value, clock))


@dataclass
class World:
    """`rng` decides everything; `failure` is the first invariant that did not hold."""

    rng: random.Random
    loop: VirtualLoop
    weather: Weather
    limits: Limits
    script: Script | None = None
    failure: Violation | None = None
    trace: deque[str] = field(default_factory=lambda: deque(maxlen=TRACE_LENGTH))

    def __post_init__(self) -> None:
        follow_processes(self.loop)
        self.files = _files()
        self.files.clock.loop = self.loop
        self.witness = Witness(self.loop.now, self.limits, self.fail)
        self.store = WatchedStore(self.witness.changed, self.loop.time)
        self.queues = WatchedStore(self.witness.notified, self.loop.time)  # the notifier's etcd
        deadline = max(1, int(self.limits.ack_deadline))
        self.notify_settings = self.files.realm.settings(
            "notify", notify={"name": NOTIFIER, "ack_deadline": deadline, "queue_limit": 6}
        )
        self.objects = WatchedObjects()
        self.objects.witness = self.witness
        self.network = Network(self.weather, self.note)
        self.network.places = [Place(role) for role in ROLES]
        self.failed = asyncio.Event()
        self.collector_wanted = asyncio.Event()
        self._died = asyncio.Event()
        self.processes: list[Process] = []  # those that serve nothing
        self.skew_of_machines = 0.0
        self._count = 0

    # --- what went on

    def note(self, text: str) -> None:
        self.trace.append(f"{self.loop.time():12.4f} {text}")

    def fail(self, violation: Violation) -> None:
        if self.failure is None:
            self.failure = violation
            self.note(f"VIOLATION {violation}")
            self.failed.set()

    def broken(self, what: str, error: BaseException) -> None:
        """A server answered what only a bug can."""
        violation = Violation("no server fails", f"{what}: {type(error).__name__}: {error}")
        violation.__cause__ = error
        self.fail(violation)

    def is_expected(self, error: BaseException) -> bool:
        """Whether a process may end with it in bad weather: a store that is away, or its own silence."""
        return isinstance(error, StoreUnavailableError)

    # --- processes

    async def start_all(self) -> None:
        for place in self.network.places:
            await self.start(place)

    async def start(self, place: Place) -> Process:
        """Begin a process at this place, with faults as the weather has them once it serves."""
        self._count += 1
        process = Process(f"{place.role}-{self._count}", self.loop, booted=self.rng.uniform(0, 1e6))
        await process.spawn(self._open(place, process))
        return process

    async def _open(self, place: Place, process: Process) -> None:
        faults: Faults = RandomFaults(process, self.weather, self.note)
        if self.script is not None:
            faults = ScriptedFaults(process, self.script)
        server = await self.open_server(place.role, process, faults)
        verifier = self.files.verifier
        process.on_death.append(self._died.set)
        place.process = process
        place.public = Plane(server.public, server.context, verifier, self.broken)
        place.internal = Plane(server.internal, server.context, verifier, self.broken)

    async def open_server(self, role: str, process: Process, faults: Faults) -> Server[Any]:
        store = MortalStore(FarStore(self.store, process, self.weather), process, faults)
        shared = self.shared(role, process)
        settings = shared.settings
        if role == "l1":
            return await l1_server.open_on(store, REALM_ID, settings, shared, NullObserver())
        if role == "notify":
            queues = MortalStore(FarStore(self.queues, process, self.weather), process, faults)
            return await notify_server.open_on(queues, REALM_ID, self.notify_settings, shared)
        if role == "l2":
            return await l2_server.open_on(store, REALM_ID, settings, shared)
        if role == "l3":
            return await l3_server.open_on(store, REALM_ID, settings, shared, NullObserver())
        objects = MortalObjects(FarObjects(self.objects, process, self.weather), process, faults)
        return block_server.open_on(objects, settings, shared)

    def shared(self, role: str, process: Process) -> Shared:
        files, metrics = self.files, Metrics()
        signer = files.signers[role]
        return Shared(
            settings=self.notify_settings if role == "notify" else files.settings[role],
            routing=files.routing,
            trust=files.trust,
            signer=signer,
            verifier=files.verifier,
            peers=SimulatedPeers(self.network, signer, metrics, has_notifier=True),
            generations=None,
            metrics=metrics,
            clock=process.clock,
            rng=random.Random(self.rng.getrandbits(64)),
        )

    def kill(self, place: Place) -> None:
        if place.process is not None and not place.process.dead:
            self.note(f"kill {place.process.name}")
            place.process.kill()

    async def keep_alive(self) -> None:
        """Start what has died again, after a while; for ever."""
        while True:
            await self._died.wait()
            self._died.clear()
            await asyncio.sleep(self.rng.uniform(0.1, 2.0))
            for place in self.network.places:
                if place.process is None or place.process.dead:
                    await self._start_again(place)

    async def _start_again(self, place: Place) -> None:
        process = Process(f"{place.role}-{self._count}", self.loop, booted=self.rng.uniform(0, 1e6))
        self._count += 1
        opening = process.spawn(self._open(place, process))
        await asyncio.wait({opening})
        if not opening.cancelled() and opening.exception() is None:
            self.note(f"start {process.name}")
        else:
            self._died.set()

    # --- asking

    def access_token(self, user: str) -> str:
        signer = self.files.signers["auth"]
        return signer.sign(Audience.ACCESS, user, 1e9, username=user, server_key=SERVER_KEY, gen=0)

    def place(self, role: str, choices: Iterable[Place] = ()) -> Place:
        return self.rng.choice([place for place in choices or self.network.places if place.role == role])

    async def ask(self, role: str, asked: Asked) -> Any:
        """As NGINX: any server of the role that is not known to be dead."""
        alive = [
            place
            for place in self.network.places
            if place.role == role and place.process is not None and not place.process.dead
        ]
        return await self.network.ask(self.place(role, alive), asked)

    async def aclose(self) -> None:
        for place in self.network.places:
            if place.process is not None:
                place.process.kill()
        for process in self.processes:
            process.kill()
