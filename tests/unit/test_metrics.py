"""Metrics: what is counted comes out in Prometheus's format."""

from prometheus_client.parser import text_string_to_metric_families

from moorage_nodes.metrics import Histogram, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_requests_are_counted_by_method_route_and_status():
    metrics = Metrics()
    for status, seconds in ((200, 0.001), (200, 0.2), (404, 0.001)):
        metrics.observe_request("GET", "/nodes/{id}", status, seconds)
    found = samples(metrics)
    route = (("method", "GET"), ("route", "/nodes/{id}"))
    assert found["moorage_http_requests_total", (*route, ("status", "200"))] == 2
    assert found["moorage_http_requests_total", (*route, ("status", "404"))] == 1
    assert found["moorage_http_request_seconds_count", route] == 3
    assert round(found["moorage_http_request_seconds_sum", route], 6) == 0.202
    assert found["moorage_http_request_seconds_bucket", (("le", "0.001"), *route)] == 2
    assert found["moorage_http_request_seconds_bucket", (("le", "+Inf"), *route)] == 3


def test_stores_tell_calls_errors_times_and_batches():
    metrics = Metrics()
    etcd = metrics.store("etcd")
    etcd.observe_call("transact", "ok", 0.002)
    etcd.observe_call("transact", "store_unavailable", 2.0)
    etcd.observe_batch("commit", 64)
    assert metrics.store("etcd") is etcd
    found = samples(metrics)
    call = (("operation", "transact"), ("outcome", "store_unavailable"), ("store", "etcd"))
    assert found["moorage_store_calls_total", call] == 1
    assert found["moorage_store_call_seconds_count", (("operation", "transact"), ("store", "etcd"))] == 2
    assert found["moorage_batch_size_sum", (("kind", "commit"), ("store", "etcd"))] == 64


def test_a_gauge_is_read_when_it_is_asked_for():
    metrics = Metrics()
    value: list[float | None] = [None]
    metrics.gauge("open_uploads", "Uploads that are open.", lambda: value[0])
    assert ("moorage_open_uploads", ()) not in samples(metrics)
    value[0] = 3
    assert samples(metrics)["moorage_open_uploads", ()] == 3


def test_the_process_tells_of_itself():
    found = samples(Metrics())
    assert found["process_resident_memory_bytes", ()] > 0
    assert found["process_open_fds", ()] > 0


def test_a_bound_belongs_to_its_bucket():
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)
    assert histogram.buckets() == [("1.0", 1), ("2.0", 3), ("+Inf", 4)]
