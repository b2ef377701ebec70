"""Stores that fail on purpose, at chosen calls: for tests of crashes, lost answers and delays.

`FaultyStore` and `FaultyObjects` stand before any store of the same contract. A `Plan` says which call fails and
how; calls are numbered from 0 over all operations, so that a test may try a fault at every one in turn.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from moorage.core.errors import OutcomeUnknownError, StoreUnavailableError
from moorage_nodes.stores.contracts import MetadataStore, ObjectStore
from moorage_nodes.stores.forwarding import ForwardingObjects, ForwardingStore

T = TypeVar("T")


class Fault(Enum):
    UNREACHABLE = "unreachable"  # fails before anything is done
    LOST_REQUEST = "lost request"  # nothing is done, and the caller cannot know
    LOST_ANSWER = "lost answer"  # it is done, and the caller cannot know
    CANCELLED_BEFORE = "cancelled before"  # the caller dies before it is done
    CANCELLED_AFTER = "cancelled after"  # the caller dies when it is done
    DELAYED = "delayed"  # others go first


@dataclass
class Plan:
    """`faults`: the number of a call -> how it fails. `calls` tells what was called; `delay` is in seconds."""

    faults: Mapping[int, Fault] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    delay: float = 0.01

    def next_fault(self, operation: str) -> Fault | None:
        self.calls.append(operation)
        return self.faults.get(len(self.calls) - 1)


async def call_with_faults(
    plan: Plan, operation: str, call: Callable[[], Awaitable[T]], *, writes: bool
) -> T:
    """Make `call` as `plan` says. What a read has done nobody can see: its answer is lost as if it never was."""
    fault = plan.next_fault(operation)
    lost = OutcomeUnknownError if writes else StoreUnavailableError
    if fault is Fault.UNREACHABLE:
        raise StoreUnavailableError("A fault on purpose: the store cannot be reached.")
    if fault is Fault.LOST_REQUEST:
        raise lost("A fault on purpose: the request was lost.")
    if fault is Fault.CANCELLED_BEFORE:
        raise asyncio.CancelledError
    if fault is Fault.DELAYED:
        await asyncio.sleep(plan.delay)
    result = await call()
    if fault is Fault.LOST_ANSWER:
        raise lost("A fault on purpose: the answer was lost.")
    if fault is Fault.CANCELLED_AFTER:
        raise asyncio.CancelledError
    return result


class FaultyStore(ForwardingStore):
    """A `MetadataStore` before `inner` that fails as `plan` says."""

    def __init__(self, inner: MetadataStore, plan: Plan) -> None:
        super().__init__(inner)
        self._plan = plan

    async def call(self, operation: str, call: Callable[[], Awaitable[T]], *, writes: bool = False) -> T:
        return await call_with_faults(self._plan, operation, call, writes=writes)


class FaultyObjects(ForwardingObjects):
    """An `ObjectStore` before `inner` that fails as `plan` says."""

    def __init__(self, inner: ObjectStore, plan: Plan) -> None:
        super().__init__(inner)
        self._plan = plan

    async def call(self, operation: str, call: Callable[[], Awaitable[T]], *, writes: bool = False) -> T:
        return await call_with_faults(self._plan, operation, call, writes=writes)
