"""What a server counts, and how it is told (Prometheus text format).

Counting happens on every request and store call, so it is a few additions to plain objects; the families of
prometheus_client are built from them only when `/metrics` is read.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

LATENCY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
SIZE_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Observations counted by upper bound (inclusive), and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as the text format wants them."""
        seen = 0
        rows: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            rows.append((bound, seen))
        return rows


@dataclass(slots=True)
class StoreMetrics:
    """The observer of one store or peer: `moorage_nodes.stores.observer.Observer`."""

    calls: dict[tuple[str, str], int] = field(default_factory=dict)
    seconds: dict[str, Histogram] = field(default_factory=dict)
    batches: dict[str, Histogram] = field(default_factory=dict)

    def observe_call(self, operation: str, outcome: str, seconds: float) -> None:
        """One call ended; `outcome` is `ok`, an error's word, `cancelled` or `internal`."""
        self.calls[operation, outcome] = self.calls.get((operation, outcome), 0) + 1
        histogram = self.seconds.get(operation)
        if histogram is None:
            histogram = self.seconds[operation] = Histogram(LATENCY_BOUNDS)
        histogram.observe(seconds)

    def observe_batch(self, kind: str, size: int) -> None:
        """`size` independent requests went to the store as one."""
        histogram = self.batches.get(kind)
        if histogram is None:
            histogram = self.batches[kind] = Histogram(SIZE_BOUNDS)
        histogram.observe(size)


class Metrics:
    """All that one process counts. For the tasks of one event loop: nothing here is locked."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[tuple[str, str], Histogram] = {}
        self._stores: dict[str, StoreMetrics] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float | None]]] = {}
        self._more: list[Callable[[], Iterable[Metric]]] = []

    def store(self, name: str) -> StoreMetrics:
        """The observer to open a store with; `name` becomes the label `store`. The same for the same name."""
        return self._stores.setdefault(name, StoreMetrics())

    def gauge(self, name: str, documentation: str, read: Callable[[], float | None]) -> None:
        """Tell `read()` at every scrape as `moorage_<name>`; None leaves it out."""
        self._gauges[f"moorage_{name}"] = (documentation, read)

    def add(self, families: Callable[[], Iterable[Metric]]) -> None:
        """Tell these families too, asked for at every scrape."""
        self._more.append(families)

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method, route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        histogram = self._seconds.get((method, route))
        if histogram is None:
            histogram = self._seconds[method, route] = Histogram(LATENCY_BOUNDS)
        histogram.observe(seconds)

    def families(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "moorage_http_requests_in_flight", "Requests being answered.", value=self.in_flight
        )
        requests = CounterMetricFamily(
            "moorage_http_requests", "Requests answered.", labels=["method", "route", "status"]
        )
        for (method, route, status), count in self._requests.items():
            requests.add_metric([method, route, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "moorage_http_request_seconds", "Time to the end of the answer.", labels=["method", "route"]
        )
        for (method, route), histogram in self._seconds.items():
            seconds.add_metric([method, route], histogram.buckets(), histogram.total)
        yield seconds
        yield from self._store_families()
        for name, (documentation, read) in self._gauges.items():
            value = read()
            if value is not None:
                yield GaugeMetricFamily(name, documentation, value=value)
        for more in self._more:
            yield from more()

    def _store_families(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "moorage_store_calls",
            "Calls to stores and peers by outcome.",
            labels=["store", "operation", "outcome"],
        )
        seconds = HistogramMetricFamily(
            "moorage_store_call_seconds",
            "Time of calls to stores and peers.",
            labels=["store", "operation"],
        )
        batches = HistogramMetricFamily(
            "moorage_batch_size", "Independent requests sent to a store as one.", labels=["store", "kind"]
        )
        for name, store in self._stores.items():
            for (operation, outcome), count in store.calls.items():
                calls.add_metric([name, operation, outcome], count)
            for operation, histogram in store.seconds.items():
                seconds.add_metric([name, operation], histogram.buckets(), histogram.total)
            for kind, histogram in store.batches.items():
                batches.add_metric([name, kind], histogram.buckets(), histogram.total)
        yield from (calls, seconds, batches)

    def render(self) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(self))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        return generate_latest(registry)


class _Families(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.families()
