"""What Prometheus is told about the operator, and the counters behind it."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 15)

Statuses = Callable[[], Iterable[tuple[str, str, str, Mapping[str, Any]]]]
"""Kind, namespace, name and status of every resource."""


class OperatorMetrics:
    def __init__(self, statuses: Statuses, queue_length: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "moorage_operator_api_requests",
            "Requests to the API server; status 0 where no answer came.",
            ("method", "status"),
            registry=self._registry,
        )
        self._passes = Histogram(
            "moorage_operator_reconcile_seconds",
            "Duration of one reconcile pass.",
            ("kind", "result"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        leading = Gauge(
            "moorage_operator_leader", "Whether this process holds the Lease.", registry=self._registry
        )
        self.set_leading = leading.set
        queued = Gauge(
            "moorage_operator_queue_length", "Resources that are due or worked on.", registry=self._registry
        )
        queued.set_function(queue_length)
        self._registry.register(_Resources(statuses))

    def count_request(self, method: str, status: int) -> None:
        self._requests.labels(method, str(status)).inc()

    def observe_pass(self, kind: str, result: str, started: float) -> None:
        self._passes.labels(kind, result).observe(time.monotonic() - started)

    def render(self) -> bytes:
        return generate_latest(self._registry)


class _Resources:
    """Gauges of every resource, from what was last reported: nothing is left behind when one goes."""

    def __init__(self, statuses: Statuses) -> None:
        self._statuses = statuses

    def collect(self) -> Iterator[Metric]:
        where = ("kind", "namespace", "name")
        conditions = GaugeMetricFamily(
            "moorage_resource_condition",
            "1 where the condition is True, 0 where it is False, -1 where it is Unknown.",
            labels=(*where, "type"),
        )
        ready = GaugeMetricFamily(
            "moorage_resource_part_ready", "Pods of a part that are ready.", labels=(*where, "part")
        )
        desired = GaugeMetricFamily(
            "moorage_resource_part_desired", "Pods of a part that are wished for.", labels=(*where, "part")
        )
        values = {"True": 1.0, "False": 0.0}
        for kind, namespace, name, status in self._statuses():
            for one in status.get("conditions", ()):
                conditions.add_metric([kind, namespace, name, one["type"]], values.get(one["status"], -1.0))
            for part in status.get("parts", ()):
                ready.add_metric([kind, namespace, name, part["name"]], part["ready"])
                desired.add_metric([kind, namespace, name, part["name"]], part["desired"])
        yield from (conditions, ready, desired)
