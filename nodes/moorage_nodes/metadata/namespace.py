"""The namespace engine: every read and every change of a namespace goes through its head (DESIGN.md, Metadata rules).

Requests of one namespace that arrive together are planned one after the other on the same state and written as one
transaction that compares the head and the cluster's incarnation and moves the head. While it is under way the next one
is planned on what it will leave, and sent behind it. Transactions of different namespaces travel together
(stores/group.py). A failed compare means that another process was first: the plans run
again on the new state. The state that a transaction leaves behind is kept, so that the next one needs no reads; the
head compare (for reads: a linearizable read of the head) is what makes that safe.

Crash safety: the one write is one etcd transaction. Before it nothing happened; after it everything did, and a
retry of the same request finds its own result (version, upload or idempotency key).
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from moorage.core.errors import CompactedError, MoorageError, OutcomeUnknownError, StoreUnavailableError
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.knowledge import HeadMoved, Knowledge
from moorage_nodes.metadata.line import CONTENDED, MAX_ATTEMPTS, Flight, Line, Outcome, Waiting, deliver
from moorage_nodes.metadata.view import NotLoaded, NotSettled, Plan, RangeKey, View
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

T = TypeVar("T")

# Measured (docs/performance.md): larger transactions gain little and hold up everybody else's.
MAX_BATCH_PUTS = 1200
FULL_PUTS = 800  # from here on no other plan is tried
MAX_BATCH_BYTES = 768 * 1024
MAX_BATCH_COMPARES = 40  # etcd counts them like operations, at the outermost level
MAX_SNAPSHOTS = 3
NESTED_OPS = 64  # operations per nested transaction once a batch exceeds the flat limit
FLAT_OPS = 56  # operations that still fit into a member of a group (128 counts along the path)


class Submitter(Protocol):
    async def submit(self, txn: Txn) -> TxnResult: ...


class Namespaces:
    """All namespaces that this process serves. One instance per process; tasks share it freely.

    `incarnation` is the value under `meta/incarnation`; `clock` gives Unix seconds; `rng` spreads retries and seeds the
    marks of heads.
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
        self._marks = random.Random(rng.getrandbits(128))  # noqa: S311 - unique, not secret
        self._on_change = on_change
        self._known = Knowledge(store)
        self._lines: dict[str, Line] = {}
        self._workers: set[asyncio.Task[None]] = set()

    # --- the two ways in ------------------------------------------------------------------------------------

    async def change(self, namespace: str, plan: Plan[T], *, request: str = "") -> T:
        """Run `plan` and make its writes durable; its result, or the `MoorageError` it refused with.

        Serializable per namespace. `StoreUnavailableError`: nothing was written, or (`OutcomeUnknownError`)
        maybe; the same request may be sent again.
        """
        loop = asyncio.get_running_loop()
        waiting: Waiting[T] = Waiting(plan, request, loop.create_future(), loop.time())
        line = self._lines.get(namespace)
        if line is None:
            line = self._lines[namespace] = Line()
        line.waiting.append(waiting)
        self._begin(namespace, line)
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

    async def write_aside(self, namespace: str, compares: Sequence[Compare], writes: Sequence[Op]) -> bool:
        """Write what no head governs (a namespace's uploads) as one transaction; False: a compare did not hold, nothing written.

        Errors as `change`. Fenced by the incarnation; travels with the transactions of others.
        """
        fence = Compare(keys.INCARNATION, Target.VALUE, self.incarnation)
        result = await self._group.submit(Txn((fence, *compares), tuple(writes), scope=namespace))
        if not result.succeeded:
            await self._check_incarnation()
            return False
        at = keys.kind_at(namespace)
        for op in writes:
            if type(op) is Put and op.key[at] in keys.UPLOADS:
                self._known.learn_begun(namespace, op.key, op.value, result.revision)
        return True

    async def close(self) -> None:
        """Let the changes that are under way finish."""
        while self._workers:
            await asyncio.gather(*self._workers, return_exceptions=True)

    # --- changing -------------------------------------------------------------------------------------------

    def _begin(self, namespace: str, line: Line) -> None:
        """One more worker, if there is something to do for it."""
        if line.has_work():
            line.planning = True
            worker = asyncio.create_task(self._work(namespace, line))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self, namespace: str, line: Line) -> None:
        """Plan those who wait as one transaction and see it through; once it is sent the next worker begins."""
        batch = line.take()
        try:
            try:
                flight = await self._plan(namespace, line, batch) if batch else None
            finally:
                line.planning = False
            if flight is not None:
                await self._fly(namespace, line, flight)
        except MoorageError as error:
            self._fail(namespace, batch, error)
            line.fail_behind(error)
        except Exception as error:  # noqa: BLE001 - no caller may wait for ever
            self._fail(namespace, batch, error)
        except asyncio.CancelledError:
            # The store was closed below us: whoever waits is told, those behind too.
            self._fail(namespace, [*batch, *line.waiting], OutcomeUnknownError("The server stops."))
            line.waiting.clear()
            raise
        # No await between the last look at the line and this: nothing can slip in.
        self._begin(namespace, line)
        if line.is_over():
            del self._lines[namespace]

    def _fail(self, namespace: str, batch: list[Waiting[Any]], error: Exception) -> None:
        self._known.drop(namespace)
        for waiting in batch:
            waiting.fail(error)

    async def _plan(self, namespace: str, line: Line, batch: list[Waiting[Any]]) -> Flight | None:
        """A transaction of `batch`, from which those are handed back to the line that did not fit. None: there was
        nothing to write, and all have been told.
        """
        if batch[0].attempts > 2:
            await asyncio.sleep(self._rng.uniform(0, 0.002 * batch[0].attempts))
        for _ in range(MAX_ATTEMPTS):
            ahead = line.newest
            if ahead is not None and not ahead.may_be_followed():
                await ahead.has_been_carried_out()
                continue
            view, looked = await self._open_view(namespace, line, ahead)
            try:
                outcomes = await self._plan_all(view, batch, beside_head=looked)
            except (HeadMoved, NotSettled):
                if ahead is not None:
                    await ahead.has_been_carried_out()
                continue
            if ahead is not None and ahead.has_failed():
                continue
            if view.writes or view.range_deletes:
                line.hand_back(batch, len(outcomes))
                return Flight(view, outcomes)
            # Refusals and repeats rest on reads alone: they count only if the head still stands.
            if ahead is not None and not await ahead.has_been_carried_out():
                continue
            # The same head, that is: where much was read, what was known of it may have been forgotten meanwhile.
            if looked or await self._still_stands(namespace, view):
                line.hand_back(batch, len(outcomes))
                deliver(outcomes)
                return None
        raise StoreUnavailableError(CONTENDED)

    async def _still_stands(self, namespace: str, view: View) -> bool:
        """Linearizable."""
        state = await self._known.current(namespace)
        return state is view.state or state.head_revision == view.state.head_revision

    async def _open_view(self, namespace: str, line: Line, ahead: Flight | None) -> tuple[View, bool]:
        """What a batch is planned on: what is known, or what the transaction under way will leave. And whether the
        head has just been looked at.
        """
        mark, now = self._marks.getrandbits(63), self._now()
        if ahead is not None:
            ahead.behind = View(namespace, ahead.view.state, now=now, mark=mark, before=ahead.view)
            return ahead.behind, False
        kept = self._known.kept(namespace)
        if kept is not None and not line.stale:
            return View(namespace, kept, now=now, mark=mark), False
        if line.stale:
            line.stale = False
            await self._check_incarnation()
        state = await self._known.current(namespace)
        return View(namespace, state, now=now, mark=mark), True

    async def _fly(self, namespace: str, line: Line, flight: Flight) -> None:
        """Send a transaction, and tell those who wait for it; when it was not carried out they go back into the line."""
        view = flight.view
        txn = self._build_txn(view)
        line.under_way += 1
        line.newest = flight
        self._begin(namespace, line)
        try:
            result = await self._group.submit(txn)
            if result.succeeded:
                flight.land(self._known.keep(view, result.revision))
        finally:
            line.under_way -= 1
            if line.newest is flight:
                line.newest = None
            flight.end(carried_out=False)
        if result.succeeded:
            if self._on_change is not None and view.sequence != view.began:
                self._on_change(namespace, view.sequence)
            deliver(flight.outcomes)
        else:
            line.stale = True
            line.try_again([waiting for waiting, _, _ in flight.outcomes])

    async def _plan_all(
        self, view: View, batch: Sequence[Waiting[Any]], *, beside_head: bool
    ) -> list[Outcome]:
        """Run the plans in order on the view, as many as fit into one transaction: the outcomes are those of the first
        of the batch. Plans are pure, so after a load all run again.
        """
        while True:
            outcomes: list[Outcome] = []
            wanted: dict[bytes | RangeKey, None] = {}
            puts = size = 0
            for place, waiting in enumerate(batch):
                if puts > FULL_PUTS:
                    break
                view.begin(waiting.request)
                try:
                    value = waiting.plan(view)
                    view.check_told()
                except NotLoaded as missing:
                    wanted.update(dict.fromkeys(missing.wanted))
                    continue
                except NotSettled:
                    if place == 0:
                        raise
                    batch = batch[:place]
                    break
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
                    return outcomes
                view.merge()
                outcomes.append((waiting, value, None))
            if not wanted:
                return outcomes
            await self._known.load(view, tuple(wanted), beside_head=beside_head)
            view.reset()

    def _build_txn(self, view: View) -> Txn:
        """One compare of the head stands for all others; the incarnation fences a restored cluster."""
        writes: list[Op] = [Put(keys.head(view.namespace), records.encode(view.build_head()))]
        for key, data in view.writes.items():
            writes.append(Delete(key) if data is None else Put(key, data))
        writes.extend(Delete(start, end) for start, end in view.range_deletes)
        compares = (
            _compare_head(view),
            Compare(keys.INCARNATION, Target.VALUE, self.incarnation),
            *(unchanged(key, revision) for key, revision in view.compares.items()),
        )
        return Txn(compares, nest(writes), scope=view.namespace)

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


def _compare_head(view: View) -> Compare:
    """The head must be the one that the plans were made on. What a transaction under way leaves behind has no revision
    yet: there the value tells, which no other head ever has (`Head.mark`).
    """
    key = keys.head(view.namespace)
    if view.follows is not None:
        return Compare(key, Target.VALUE, records.encode(view.follows))
    return unchanged(key, view.state.head_revision)
