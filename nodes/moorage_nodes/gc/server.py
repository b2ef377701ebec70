"""The collector as a server that keeps its schedule: `moorage-nodes gc --scheduled`, one a cluster.

It serves probes and metrics only. Where something else keeps the schedule (a CronJob), `moorage-nodes gc` runs one
collection with the same settings and ends.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from moorage.core.errors import InvalidFieldError, MoorageError
from moorage_nodes.gc.age import read_clock
from moorage_nodes.gc.collector import Collector
from moorage_nodes.gc.opening import open_collector, parse_sections, stand_back
from moorage_nodes.gc.report import ABORTED, RunMetrics
from moorage_nodes.gc.schedule import find_next, is_overdue
from moorage_nodes.gc.tenure import CollectorBusyError
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import CollectorState
from moorage_nodes.metadata_store import open_metadata_store
from moorage_nodes.server import Server, Shared
from moorage_nodes.settings import Settings
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.web import Routes

log = logging.getLogger("moorage.gc")
LOOK_SECONDS = 20.0  # between looks at the clock, which may be set meanwhile
OVERDUE_SECONDS = 120.0  # after the start, when a time was missed
AGAIN_SECONDS = 600.0  # after a run that a store aborted


@dataclass(slots=True)
class Gc:
    """One scheduled collector."""

    collector: Collector
    schedule: str
    clock: Callable[[], float]
    metrics: RunMetrics = field(default_factory=RunMetrics)

    async def run(self, last: float) -> None:
        """Collect at every time of the schedule, for ever. `last`: when this cluster was collected last."""
        now = self.clock()
        due = now + OVERDUE_SECONDS if is_overdue(self.schedule, last, now) else find_next(self.schedule, now)
        while True:
            while (now := self.clock()) < due:
                # A clock that was set back brings back times that were waited for already.
                due = min(due, max(find_next(self.schedule, now), now + OVERDUE_SECONDS))
                await asyncio.sleep(min(LOOK_SECONDS, due - now))
            is_aborted = await self.collect()
            due = find_next(self.schedule, self.clock())
            if is_aborted:
                due = min(due, self.clock() + AGAIN_SECONDS)

    async def collect(self) -> bool:
        """One collection; whatever becomes of it is logged and counted. Whether a store was in its way."""
        try:
            report = await self.collector.run()
        except CollectorBusyError as error:
            log.info("not collecting", extra={"reason": error.detail})
            return False
        except MoorageError as error:
            log.error("cannot collect", extra={"reason": error.detail})  # noqa: TRY400 the reason says it all
            return True
        except Exception:
            log.exception("collection failed")
            return False
        self.metrics.observe(report, read_clock())
        log.info("collected", extra={"report": msgspec.to_builtins(report)})
        return report.outcome == ABORTED


async def open_server(settings: Settings, shared: Shared) -> Server[Gc]:
    """InvalidFieldError when the settings lack `etcd`, `cluster` or `gc`; else as `open_collector`."""
    if settings.etcd is None:
        raise InvalidFieldError("A collector needs `etcd` in its settings.", field="settings.etcd")
    _, section = parse_sections(settings)
    stand_back()
    store = open_metadata_store(settings.etcd, shared)
    try:
        context = Gc(await open_collector(store, settings, shared), section.schedule, shared.clock)
        last = await _read_last(store)
    except BaseException:
        await store.close()
        raise
    shared.metrics.add(context.metrics.families)
    running = asyncio.create_task(context.run(last))

    async def close() -> None:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()

    async def status() -> dict[str, Any]:
        last = context.metrics.last
        return {"last_run": None if last is None else msgspec.to_builtins(last)}

    return Server(
        context=context, prefix="", public=Routes(), checks={"etcd": store.check}, status=status, close=close
    )


async def _read_last(store: MetadataStore) -> float:
    kv = await store.get(keys.COLLECTOR_STATE)
    return 0.0 if kv is None else records.decode(CollectorState, kv.value).wall / 1000
