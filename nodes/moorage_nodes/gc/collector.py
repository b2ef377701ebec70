"""One collection of a metadata cluster: every namespace in turn, beside all writers (DESIGN.md, The collector).

Of each namespace: list its objects, let go what is past its time, mark, condemn and remove chunk records, delete
bytes. Every step is idempotent and may be the last; the next run goes on where this one ended. What is not understood is not
touched: an error of a store or a listing aborts the run, a namespace with damaged lists is left out and told.
"""

import logging
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from moorage.core.errors import DamagedTreeError, MoorageError
from moorage_nodes.gc.age import Clock, add_sample, advance, horizon
from moorage_nodes.gc.budget import Budget
from moorage_nodes.gc.heads import NamespaceBusyError, NamespaceHead
from moorage_nodes.gc.letting_go import LettingGo
from moorage_nodes.gc.marking import Mark
from moorage_nodes.gc.namespace_run import Horizons, NamespaceRun, Pause
from moorage_nodes.gc.pacing import Pacing
from moorage_nodes.gc.pools import Pools
from moorage_nodes.gc.report import ABORTED, CAPPED, COMPLETE, INCOMPLETE, PoolCount, Report
from moorage_nodes.gc.sweeping import Sweep
from moorage_nodes.gc.tenure import TENURE_SECONDS, Tenure
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import CollectorState, FormatError, PoolsLeft
from moorage_nodes.metadata.scan import scan_namespaces
from moorage_nodes.metadata.spill import SortedSpill
from moorage_nodes.stores.contracts import MetadataStore, Put, Txn

log = logging.getLogger("moorage.gc")
REQUESTS_SECONDS = 24 * 3600  # how long a result under an idempotency key is of use
PLACE_SECONDS = 5.0  # between notes of where the run is


class Rules(Struct, frozen=True, kw_only=True):
    """What a cluster's settings say; times in seconds."""

    grace: int
    upload_idle: int
    upload_max: int
    retained_versions: int
    retained_deleted: int
    retained_feed: int
    max_deletions: int
    dry_run: bool = False


Progress = Callable[[str], None]
"""Told the namespace that is begun."""


class Collector:
    """One per run or process; `run` is one collection. `clock` and `rng` are injected; `rng` names uploads and objects
    and must be unpredictable outside of tests. `monotonic` gives seconds for the tenure and the report.
    """

    def __init__(
        self,
        store: MetadataStore,
        pools: Pools,
        rules: Rules,
        *,
        server_key: str,
        name: str,
        incarnation: bytes,
        clock: Clock,
        monotonic: Callable[[], float],
        rng: random.Random,
        tenure_seconds: int = TENURE_SECONDS,
    ) -> None:
        self._store = store
        self._pools = pools
        self._rules = rules
        self._server_key = server_key
        self._name = name
        self._incarnation = incarnation
        self._clock = clock
        self._monotonic = monotonic
        self._rng = rng
        self._tenure_seconds = tenure_seconds

    async def run(self, progress: Progress | None = None) -> Report:
        """One collection. `CollectorBusyError` when another one is at work; every other failure is in the report."""
        started = self._monotonic()
        now = self._clock()
        report = Report(
            server_key=self._server_key,
            dry_run=self._rules.dry_run,
            started=datetime.fromtimestamp(now.wall / 1000, UTC).isoformat(timespec="seconds"),
        )
        tenure = await Tenure.begin(self._store, self._name, self._monotonic, self._tenure_seconds)
        try:
            await self._collect(tenure, report, progress or _say_nothing)
        except (MoorageError, OSError) as error:  # of temporary files, say
            report.outcome = ABORTED
            report.reason = error.detail if isinstance(error, MoorageError) else str(error)
            log.error("collection aborted", extra={"reason": report.reason})  # noqa: TRY400 the reason says it all
        finally:
            report.seconds = self._monotonic() - started
            try:
                await tenure.end()
            except MoorageError as error:
                log.warning("the tenure ends by itself", extra={"reason": error.detail})
        return report

    async def _collect(self, tenure: Tenure, report: Report, progress: Progress) -> None:
        state = advance(await self._read_state(), self._clock())
        horizons = self.horizons(state)
        budget = Budget(self._rules.max_deletions)
        report.left = {pool: PoolCount() for pool in self._pools.names}
        pacing = Pacing(self._store, tenure, self._monotonic)

        async def pause() -> None:
            await tenure.renew()
            await pacing.stand_back()

        noted = self._monotonic()
        place = state.begin_at
        try:
            async for namespace in self._namespaces(place):
                if not self._rules.dry_run and self._monotonic() - noted >= PLACE_SECONDS:
                    noted = self._monotonic()
                    state = replace(state, begin_at=namespace)
                    await self._write_state(state, tenure)
                place = namespace
                progress(namespace)
                await self.collect_namespace(namespace, tenure, pause, horizons, budget, report)
                report.namespaces += 1
                if budget.exhausted:
                    break
            else:
                place = ""
        except (MoorageError, OSError):
            # The next run begins behind it: should it be this namespace's fault, the others have their turn first.
            await self._end_state(replace(state, begin_at=_behind(place)), tenure)
            raise
        complete = not budget.exhausted and not report.skipped
        counted = complete and not self._rules.dry_run
        state = replace(state, begin_at=place, collections=state.collections + counted)
        if counted:
            await self._write_pools(report, tenure)
        await self._end_state(state, tenure)
        report.collections = state.collections
        report.outcome = COMPLETE if complete else CAPPED if budget.exhausted else INCOMPLETE

    def horizons(self, state: CollectorState) -> Horizons:
        """What is old enough, by the state's age."""
        rules = self._rules
        return Horizons(
            grace=horizon(state, rules.grace),
            upload_idle=horizon(state, rules.upload_idle),
            upload_max=horizon(state, rules.upload_max),
            deleted=horizon(state, rules.retained_deleted),
            feed=horizon(state, rules.retained_feed),
            requests=horizon(state, REQUESTS_SECONDS),
        )

    async def collect_namespace(
        self,
        namespace: str,
        tenure: Tenure,
        pause: Pause,
        horizons: Horizons,
        budget: Budget,
        report: Report,
    ) -> None:
        """All steps of one namespace. Raises what aborts the run."""
        head = NamespaceHead(self._store, namespace, self._incarnation, tenure)
        rules = self._rules
        run = NamespaceRun(
            store=self._store,
            head=head,
            pools=self._pools,
            horizons=horizons,
            retained=rules.retained_versions,
            budget=budget,
            report=report,
            rng=self._rng,
            pause=pause,
            dry_run=rules.dry_run,
        )
        with SortedSpill() as listed, SortedSpill() as named, SortedSpill() as held:
            mark = Mark(run, held)
            sweep = Sweep(run, mark)
            try:
                await sweep.list_objects(listed)
                await LettingGo(run).run()
                await mark.read()
                await sweep.sweep_chunks(named)
                held.close()
                await sweep.sweep_lists()
                await sweep.sweep_objects(listed, named)
            except (DamagedTreeError, FormatError, NamespaceBusyError) as error:
                # What looks damaged to one that stood still for too long may be what the next one has let go.
                await tenure.check(self._incarnation)
                report.skipped[namespace] = error.detail
                log.error(  # noqa: TRY400 the reason says it all
                    "namespace left out", extra={"namespace": namespace, "reason": error.detail}
                )

    async def _namespaces(self, begin_at: str) -> AsyncIterator[str]:
        """All of them, beginning with that one."""
        async for namespace in scan_namespaces(self._store, begin_at=begin_at):
            yield namespace
        if begin_at:
            async for namespace in scan_namespaces(self._store):
                if f"{namespace}/" >= begin_at:  # in the order of the keys
                    return
                yield namespace

    # --- the state ----------------------------------------------------------------------------------------------

    async def _read_state(self) -> CollectorState:
        snapshot = await self._store.get_many([keys.COLLECTOR_STATE])
        kv = snapshot.found.get(keys.COLLECTOR_STATE)
        state = CollectorState() if kv is None else records.decode(CollectorState, kv.value)
        if state.samples and state.samples[-1][0] > snapshot.revision:
            # The keys were brought into another etcd, whose revisions say nothing of what happened before.
            return replace(state, samples=[])
        return state

    async def _write_state(self, state: CollectorState, tenure: Tenure) -> int:
        put = Put(keys.COLLECTOR_STATE, records.encode(state))
        done = await self._store.transact(Txn((tenure.fence,), (put,)))
        if not done.succeeded:
            await tenure.check(self._incarnation)
        return done.revision

    async def _write_pools(self, report: Report, tenure: Tenure) -> None:
        """For whoever wants to know whether a pool may go. A pool that is not looked at any more is not spoken of."""
        counts = {pool: report.left[pool] for pool in self._pools.names}
        left = PoolsLeft(1, tenure.began, {pool: (one.chunks, one.objects) for pool, one in counts.items()})
        done = await self._store.transact(
            Txn((tenure.fence,), (Put(keys.COLLECTOR_POOLS, records.encode(left)),))
        )
        if not done.succeeded:
            await tenure.check(self._incarnation)

    async def _end_state(self, state: CollectorState, tenure: Tenure) -> None:
        """Whatever became of the run: what stands now was written before the age as it is now. So the revision is read
        before the clock.
        """
        if self._rules.dry_run:
            return
        revision = (await self._store.get_many([keys.COLLECTOR_STATE])).revision
        state = add_sample(advance(state, self._clock()), revision)
        await self._write_state(state, tenure)


def _behind(namespace: str) -> str:
    """Where all keys end that begin with `<namespace>/`."""
    return f"{namespace}0"


def _say_nothing(_: str) -> None:
    return
