"""What a collection did: for programs (JSON, Prometheus) and for people."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct, field
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector as Families

from moorage_nodes.gc.age import Reading

COMPLETE = "complete"
CAPPED = "capped"
INCOMPLETE = "incomplete"
ABORTED = "aborted"


class PoolCount(Struct, kw_only=True):
    """Chunk records that name a pool, and objects that lie in it."""

    chunks: int = 0
    objects: int = 0


class Report(Struct, kw_only=True):
    """Counts of one run, over all namespaces; in a dry run what would have been done.

    `outcome` is `complete`, `capped` (`gc.maxDeletions` was reached), `incomplete` (namespaces were left out, see
    `skipped`) or `aborted` (`reason`). Only complete ones count as collections. `kept` tells why chunks and objects
    stay.
    """

    server_key: str
    dry_run: bool = False
    outcome: str = ABORTED
    reason: str = ""
    collections: int = 0  # complete ones of this cluster so far, this one included
    started: str = ""
    seconds: float = 0.0
    namespaces: int = 0
    skipped: dict[str, str] = {}  # namespace -> why
    scanned: dict[str, int] = field(
        default_factory=lambda: {"chunks": 0, "chunk_bytes": 0, "objects": 0, "object_bytes": 0}
    )
    kept: dict[str, int] = field(
        default_factory=lambda: {
            "chunks_held": 0,
            "chunks_waiting": 0,
            "objects_named": 0,
            "objects_uploading": 0,
        }
    )
    let_go: dict[str, int] = field(
        default_factory=lambda: {
            "uploads": 0,
            "versions": 0,
            "trash": 0,
            "nodes_below": 0,
            "tombstones": 0,
            "journal": 0,
            "requests": 0,
            "names": 0,
            "lists": 0,
        }
    )
    condemned: int = 0
    revived: int = 0
    removed: int = 0  # chunk records
    objects_deleted: int = 0
    objects_rewritten: int = 0
    freed_bytes: int = 0
    damaged: int = 0  # objects that could not be rewritten
    left: dict[str, PoolCount] = {}  # pool -> what stays in it

    def exit_code(self) -> int:
        return {COMPLETE: 0, CAPPED: 4, INCOMPLETE: 1, ABORTED: 1}[self.outcome]

    def as_json(self) -> bytes:
        return msgspec.json.encode(self)

    def rows(self) -> Iterator[tuple[str, str]]:
        """What a person wants to know, in order."""
        yield "outcome", self.outcome + (f": {self.reason}" if self.reason else "")
        yield "namespaces", f"{self.namespaces:,}"
        for namespace, reason in self.skipped.items():
            yield f"left out {namespace}", reason
        would = "would be " if self.dry_run else ""
        for name, value in self.scanned.items():
            yield f"scanned {_words(name)}", f"{value:,}"
        for name, value in self.kept.items():
            yield f"kept {_words(name)}", f"{value:,}"
        for name, value in self.let_go.items():
            yield f"{would}let go: {_words(name)}", f"{value:,}"
        for name in (
            "condemned",
            "revived",
            "removed",
            "objects_deleted",
            "objects_rewritten",
            "freed_bytes",
            "damaged",
        ):
            yield would + _words(name), f"{getattr(self, name):,}"
        for pool, count in self.left.items():
            yield f"{would}left in {pool}", f"{count.chunks:,} chunks, {count.objects:,} objects"
        yield "seconds", f"{self.seconds:.1f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


class RunMetrics:
    """Runs of this process, as Prometheus families."""

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.totals: dict[str, int] = {}
        self.last: Report | None = None
        self.last_complete: Reading | None = None

    def observe(self, report: Report, now: Reading) -> None:
        self.last = report
        self.outcomes[report.outcome] = self.outcomes.get(report.outcome, 0) + 1
        if report.outcome == COMPLETE:
            self.last_complete = now
        if report.dry_run:
            return
        for name, value in _totals(report).items():
            self.totals[name] = self.totals.get(name, 0) + value

    def families(self) -> Iterator[Metric]:
        runs = CounterMetricFamily("moorage_gc_runs", "Collections by outcome.", labels=["outcome"])
        for outcome, count in self.outcomes.items():
            runs.add_metric([outcome], count)
        yield runs
        done = CounterMetricFamily("moorage_gc_done", "What collections took away.", labels=["what"])
        for name, value in self.totals.items():
            done.add_metric([name], value)
        yield done
        if self.last is not None:
            found = GaugeMetricFamily(
                "moorage_gc_last_run", "What the last collection found.", labels=["what"]
            )
            for name, value in (*self.last.scanned.items(), *self.last.kept.items()):
                found.add_metric([name], value)
            found.add_metric(["seconds"], self.last.seconds)
            yield found
        if self.last_complete is not None:
            yield GaugeMetricFamily(
                "moorage_gc_last_complete_timestamp_seconds",
                "When the last complete collection ended.",
                value=self.last_complete.wall / 1000,
            )

    def render(self) -> bytes:
        """Prometheus text of a process that serves no port."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(self))
        return generate_latest(registry)


def _totals(report: Report) -> dict[str, Any]:
    done = {f"let_go_{name}": value for name, value in report.let_go.items()}
    for name in ("condemned", "revived", "removed", "objects_deleted", "objects_rewritten", "freed_bytes"):
        done[name] = getattr(report, name)
    return done


class _Families(Families):
    def __init__(self, metrics: RunMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.families()
