"""A server process that can die at any await, and its ways to the stores.

The tasks of a process are those that its requests and its own tasks began. To kill it is to cancel them all and to cut
its ways out, so that nothing that runs in a `finally` reaches anything. What it had sent before still arrives.
"""

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from moorage_nodes.stores.contracts import MetadataStore, ObjectStore
from moorage_nodes.stores.faulty import Fault, Plan, call_with_faults
from moorage_nodes.stores.forwarding import ForwardingObjects, ForwardingStore
from simulator.loop import VirtualLoop

T = TypeVar("T")
CURRENT: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


@dataclass(eq=False)
class Process:
    """`skew` is what its clock is ahead, in seconds; until `stalled_until` (loop time) it stands still."""

    name: str
    loop: VirtualLoop
    skew: float = 0.0
    stalled_until: float = 0.0
    booted: float = 0.0  # where its monotonic clock begins
    dead: bool = False
    tasks: dict["asyncio.Task[Any]", None] = field(default_factory=dict)  # in the order they were begun
    on_death: list[Callable[[], None]] = field(default_factory=list)

    def clock(self) -> float:
        return self.loop.now() + self.skew

    def spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run as a part of this process."""
        context = contextvars.Context()
        context.run(CURRENT.set, self)
        return self.loop.create_task(work, context=context)

    def kill(self) -> None:
        if self.dead:
            return
        self.dead = True
        for task in list(self.tasks):
            task.cancel()
        for told in self.on_death:
            told()

    async def stand_still(self) -> None:
        while not self.dead and self.stalled_until > self.loop.time():
            await asyncio.sleep(self.stalled_until - self.loop.time())


def monotonic() -> float:
    """In the place of `time.monotonic`: that of the process that asks."""
    process = CURRENT.get()
    now = asyncio.get_running_loop().time()
    return now if process is None else now + process.booted


def follow_processes(loop: VirtualLoop) -> None:
    """From now on every task belongs to the process that began it."""

    def create(inner: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
        context = options.get("context")
        process = CURRENT.get() if context is None else context.get(CURRENT)
        task: asyncio.Task[Any] = asyncio.Task(work, loop=inner, **options)
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(lambda ended: process.tasks.pop(ended, None))
            if process.dead:
                task.cancel()
        return task

    loop.set_task_factory(create)


@dataclass
class Weather:
    """How bad the network and the stores are. `rate`: faults per call; `calm` stops them all.

    `kills`: whether a fault may be the death of the process that calls.
    """

    rng: random.Random
    rate: float = 0.0
    kills: bool = True
    slow: float = 0.02  # of all ways, those that take long
    longest: float = 5.0  # seconds
    calm: bool = False

    def pause(self) -> float:
        """Seconds that one way takes."""
        if not self.calm and self.rng.random() < self.slow:
            return self.rng.uniform(0.01, self.longest)
        return self.rng.uniform(0.0002, 0.003)

    def strikes(self, share: float = 1.0) -> bool:
        return not self.calm and self.rng.random() < self.rate * share


_FAULTS = [Fault.UNREACHABLE, Fault.LOST_REQUEST, Fault.LOST_ANSWER, Fault.DELAYED]
_DEATHS = [Fault.CANCELLED_BEFORE, Fault.CANCELLED_AFTER]


class Faults(Protocol):
    """Which calls of a process fail, and how."""

    delay: float

    def next_fault(self, operation: str) -> Fault | None: ...


class RandomFaults:
    """Faults as the weather has them, for one process."""

    def __init__(self, process: Process, weather: Weather, note: Callable[[str], None]) -> None:
        self.delay = 0.0
        self._process = process
        self._weather = weather
        self._note = note

    def next_fault(self, operation: str) -> Fault | None:
        weather = self._weather
        if not weather.strikes():
            return None
        if weather.kills and weather.rng.random() < 0.1:
            fault = weather.rng.choice(_DEATHS)
        else:
            fault = weather.rng.choice(_FAULTS)
        self.delay = weather.rng.uniform(0.01, weather.longest)
        self._note(f"{self._process.name}: {operation}: {fault.value}")
        return fault


class Script:
    """One fault at one write: the `number`th of all writes that any process makes to any store, once `armed`."""

    def __init__(self, number: int, fault: Fault) -> None:
        self.number = number
        self.fault = fault
        self.armed = False
        self.writes: list[str] = []

    def next_fault(self, process: Process, operation: str) -> Fault | None:
        if not self.armed or operation not in WRITES:
            return None
        self.writes.append(f"{process.name.partition('-')[0]}: {operation}")
        return self.fault if len(self.writes) - 1 == self.number else None


class ScriptedFaults:
    """The script's faults, where they hit this process."""

    def __init__(self, process: Process, script: Script) -> None:
        self.delay = 1.0
        self._process = process
        self._script = script

    def next_fault(self, operation: str) -> Fault | None:
        return self._script.next_fault(self._process, operation)


WRITES = frozenset({"transact", "put", "put_stream", "delete", "grant_lease", "revoke_lease"})


async def _call(
    process: Process, faults: Faults, operation: str, call: Callable[[], Awaitable[T]], *, writes: bool
) -> T:
    """As `call_with_faults`, but where the caller is to die its whole process does."""
    if process.dead:
        raise asyncio.CancelledError
    fault = faults.next_fault(operation)
    if fault is None:
        return await call()
    if fault is Fault.CANCELLED_BEFORE:
        process.kill()
    plan = Plan({0: fault}, delay=faults.delay)
    try:
        return await call_with_faults(plan, operation, call, writes=writes)
    except asyncio.CancelledError:
        if fault is Fault.CANCELLED_AFTER:
            process.kill()
        raise


class MortalStore(ForwardingStore):
    """A `MetadataStore` whose faults may be a process's death."""

    def __init__(self, inner: MetadataStore, process: Process, faults: Faults) -> None:
        super().__init__(inner)
        self._process = process
        self._faults = faults

    async def call(self, operation: str, call: Callable[[], Awaitable[T]], *, writes: bool = False) -> T:
        return await _call(self._process, self._faults, operation, call, writes=writes)


class MortalObjects(ForwardingObjects):
    """An `ObjectStore` whose faults may be a process's death."""

    def __init__(self, inner: ObjectStore, process: Process, faults: Faults) -> None:
        super().__init__(inner)
        self._process = process
        self._faults = faults

    async def call(self, operation: str, call: Callable[[], Awaitable[T]], *, writes: bool = False) -> T:
        return await _call(self._process, self._faults, operation, call, writes=writes)
