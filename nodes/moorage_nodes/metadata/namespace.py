"""The namespace engine: every read and every change of a namespace goes through its head (DESIGN.md, Metadata rules).

Requests of one namespace that arrive together are planned one after the other on the same state and written as one
transaction that compares the head and the cluster's incarnation and moves the head. Transactions of different
namespaces travel together (stores/group.py). A failed compare means that another process was first: the plans run
again on the new state. The state that a transaction leaves behind is kept, so that the next one needs no reads; the
head compare (for reads: a linearizable read of the head) is what makes that safe.

Crash safety: the one write is one etcd transaction. Before it nothing happened; after it everything did, and a
retry of the same request finds its own result (version, upload or idempotency key).
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from moorage.core.errors import CompactedError, MoorageError, OutcomeUnknownError, StoreUnavailableError
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.knowledge import HeadMoved, Knowledge
from moorage_nodes.metadata.records import Head
from moorage_nodes.metadata.view import NotLoaded, RangeKey, View
from moorage_nodes.stores.contracts import (
    Compare,
    Delete,
    MetadataStore,
    Op,
    Put,
    Target,
    Txn,
    TxnResult,
    unchanged,
)
from moorage_nodes.stores.fanout import build_behind, build_own, should_fail_too

T = TypeVar("T")
Plan = Callable[[View], T]

# Measured (docs/performance.md): larger transactions gain little and hold up everybody else's.
MAX_BATCH_PUTS = 1200
MAX_BATCH_BYTES = 768 * 1024
MAX_BATCH_PLANS = 256
MAX_BATCH_COMPARES = 40  # etcd counts them like operations, at the outermost level
MAX_ATTEMPTS = 40
MAX_SNAPSHOTS = 3
NESTED_OPS = 64  # operations per nested transaction once a batch exceeds the flat limit
FLAT_OPS = 56  # operations that still fit into a member of a group (128 counts along the path)


class Submitter(Protocol):
    async def submit(self, txn: Txn) -> TxnResult: ...


@dataclass(slots=True, eq=False)
class _Waiting(Generic[T]):
    plan: Plan[T]
    request: str
    done: "asyncio.Future[T]"
    since: float  # by the event loop's clock


Outcome = tuple[_Waiting[Any], Any, Exception | None]


class Namespaces:
    """All namespaces that this process serves. One instance per process; tasks share it freely.

    `incarnation` is the value under `meta/incarnation`; `clock` gives Unix seconds; `rng` spreads retries.
    `on_change` is told of every namespace whose journal grew, and how far; it must not wait.
    """

    def __init__(
        self,
        store: MetadataStore,
        group: Submitter,
        *,
        incarnation: bytes,
        clock: Callable[[], float],
        rng: random.Random,
        on_change: Callable[[str, int], None] | None = None,
    ) -> None:
        self._store = store
        self._group = group
        self.incarnation = incarnation
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._known = Knowledge(store)
        self._queues: dict[str, list[_Waiting[Any]]] = {}
        self._workers: set[asyncio.Task[None]] = set()

    # --- the two ways in ------------------------------------------------------------------------------------

    async def change(self, namespace: str, plan: Plan[T], *, request: str = "") -> T:
        """Run `plan` and make its writes durable; its result, or the `MoorageError` it refused with.

        Serializable per namespace. `StoreUnavailableError`: nothing was written, or (`OutcomeUnknownError`)
        maybe; the same request may be sent again.
        """
        loop = asyncio.get_running_loop()
        waiting: _Waiting[T] = _Waiting(plan, request, loop.create_future(), loop.time())
        queue = self._queues.get(namespace)
        if queue is None:
            self._queues[namespace] = [waiting]
            worker = asyncio.create_task(self._work(namespace))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        else:
            queue.append(waiting)
        return await waiting.done

    async def read(self, namespace: str, plan: Plan[T]) -> T:
        """Run a plan that writes nothing on a state not older than this call (linearizable)."""
        state = await self._known.current(namespace)
        view = View(namespace, state, now=self._now())
        wanted: dict[bytes | RangeKey, None] = {}
        try:
            while True:
                try:
                    return plan(view)
                except NotLoaded as missing:
                    wanted.update(dict.fromkeys(missing.wanted))
                    await self._known.load(view, missing.wanted)
                    if state.superseded:
                        # Between the load and now our own write changed what the state holds.
                        raise HeadMoved from None
        except HeadMoved:
            return await self._read_snapshot(namespace, plan, tuple(wanted))

    async def _read_snapshot(self, namespace: str, plan: Plan[T], wanted: Sequence[bytes | RangeKey]) -> T:
        """Run a plan in the past, at one revision of the store. `wanted`: what it is known to read."""
        for _ in range(MAX_SNAPSHOTS):
            view, revision = await self._known.look_back(namespace, wanted, now=self._now())
            try:
                while True:
                    try:
                        return plan(view)
                    except NotLoaded as missing:
                        await self._known.load_past(view, missing.wanted, revision)
            except CompactedError:
                continue
        raise StoreUnavailableError("The store forgets its past faster than it can be read; try again.")

    async def write_aside(self, compares: Sequence[Compare], writes: Sequence[Op]) -> bool:
        """Write what no head governs (uploads) as one transaction; False: a compare did not hold, nothing written.

        Errors as `change`. Fenced by the incarnation; travels with the transactions of others.
        """
        fence = Compare(keys.INCARNATION, Target.VALUE, self.incarnation)
        result = await self._group.submit(Txn((fence, *compares), tuple(writes)))
        if not result.succeeded:
            await self._check_incarnation()
        return result.succeeded

    async def close(self) -> None:
        """Let the changes that are under way finish."""
        while self._workers:
            await asyncio.gather(*self._workers, return_exceptions=True)

    # --- changing -------------------------------------------------------------------------------------------

    async def _work(self, namespace: str) -> None:
        queue = self._queues[namespace]
        try:
            while queue:
                batch, queue[:] = queue[:MAX_BATCH_PLANS], queue[MAX_BATCH_PLANS:]
                try:
                    rest = await self._apply(namespace, batch)
                except MoorageError as error:
                    self._known.drop(namespace)
                    _fail(batch, error)
                    _fail_behind(queue, error)
                except Exception as error:  # noqa: BLE001 - no caller may wait for ever
                    self._known.drop(namespace)
                    _fail(batch, error)
                else:
                    queue[:0] = rest
        finally:
            # No await between the last look at the queue and this: nothing can slip in.
            del self._queues[namespace]

    async def _apply(self, namespace: str, batch: list[_Waiting[Any]]) -> list[_Waiting[Any]]:
        """Plan and write one batch; what did not fit into one transaction is handed back."""
        for attempt in range(MAX_ATTEMPTS):
            state = self._known.kept(namespace)
            validated = state is None
            if state is None:
                state = await self._known.current(namespace)
            view = View(namespace, state, now=self._now())
            try:
                outcomes, rest = await self._plan_all(view, batch)
                if not view.writes and not view.range_deletes:
                    # Refusals and repeats rest on reads alone: they count only if the head still stands.
                    if not validated and (await self._known.current(namespace)) is not state:
                        continue
                    _deliver(outcomes)
                    return rest
                result = await self._group.submit(self._build_txn(view))
            except HeadMoved:
                continue
            except OutcomeUnknownError:
                self._known.drop(namespace)
                raise
            if result.succeeded:
                self._known.keep(view, result.revision)
                if self._on_change is not None and view.sequence != state.head.sequence:
                    self._on_change(namespace, view.sequence)
                _deliver(outcomes)
                return rest
            await asyncio.gather(self._check_incarnation(), self._known.current(namespace))
            if attempt > 2:
                await asyncio.sleep(self._rng.uniform(0, 0.002 * attempt))
        raise StoreUnavailableError("Too many others change this tree at the same time; try again.")

    async def _plan_all(
        self, view: View, batch: list[_Waiting[Any]]
    ) -> tuple[list[Outcome], list[_Waiting[Any]]]:
        """Run every plan in order on the view. Plans are pure, so after a load all run again."""
        while True:
            outcomes: list[Outcome] = []
            wanted: dict[bytes | RangeKey, None] = {}
            puts = size = 0
            for place, waiting in enumerate(batch):
                view.begin(waiting.request)
                try:
                    value = waiting.plan(view)
                    view.check_told()
                except NotLoaded as missing:
                    wanted.update(dict.fromkeys(missing.wanted))
                    continue
                except Exception as error:  # noqa: BLE001 - a plan that breaks must not break its neighbours
                    outcomes.append((waiting, None, error))
                    continue
                more_puts, more_bytes = view.cost()
                puts, size = puts + more_puts, size + more_bytes
                too_much = (
                    puts > MAX_BATCH_PUTS
                    or size > MAX_BATCH_BYTES
                    or view.compare_count() > MAX_BATCH_COMPARES
                )
                if outcomes and not wanted and too_much:
                    return outcomes, batch[place:]
                view.merge()
                outcomes.append((waiting, value, None))
            if not wanted:
                return outcomes, []
            await self._known.load(view, tuple(wanted))
            view.reset()

    def _build_txn(self, view: View) -> Txn:
        """One compare of the head stands for all others; the incarnation fences a restored cluster."""
        state = view.state
        moved = Head(sequence=view.sequence, generation=state.head.generation)
        writes: list[Op] = [Put(keys.head(view.namespace), records.encode(moved))]
        for key, data in view.writes.items():
            writes.append(Delete(key) if data is None else Put(key, data))
        writes.extend(Delete(start, end) for start, end in view.range_deletes)
        compares = (
            unchanged(keys.head(view.namespace), state.head_revision),
            Compare(keys.INCARNATION, Target.VALUE, self.incarnation),
            *(unchanged(key, revision) for key, revision in view.compares.items()),
        )
        return Txn(compares, nest(writes))

    async def _check_incarnation(self) -> None:
        kv = await self._store.get(keys.INCARNATION)
        if kv is None or kv.value != self.incarnation:
            raise StoreUnavailableError("This metadata cluster was restored; its servers must start anew.")

    def _now(self) -> int:
        return int(self._clock() * 1000)


def nest(writes: Sequence[Op]) -> tuple[Op, ...]:
    """Operations as they are, or in nested transactions of `NESTED_OPS` to get past etcd's 128 at one level."""
    if len(writes) <= FLAT_OPS:
        return tuple(writes)
    return tuple(
        Txn(then=tuple(writes[start : start + NESTED_OPS])) for start in range(0, len(writes), NESTED_OPS)
    )


def _deliver(outcomes: list[Outcome]) -> None:
    for waiting, value, error in outcomes:
        if waiting.done.done():  # the caller went away
            continue
        if error is not None:
            waiting.done.set_exception(error)
        else:
            waiting.done.set_result(value)


def _fail(batch: list[_Waiting[Any]], error: Exception) -> None:
    for waiting in batch:
        if not waiting.done.done():
            waiting.done.set_exception(build_own(error))


def _fail_behind(queue: list[_Waiting[Any]], error: MoorageError) -> None:
    """Tell those who have waited for long enough behind a batch that the store did not answer."""
    now = asyncio.get_running_loop().time()
    while queue and should_fail_too(error, queue[0].since, now):
        _fail([queue.pop(0)], build_behind(error))
