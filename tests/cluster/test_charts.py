"""What the charts render, put before a real API server: unknown fields and wrong values are refused there.

The Prometheus operator's resources are held against its own definitions.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from real_servers.kubernetes import ApiServer
from real_servers.published_definitions import PROMETHEUS_OPERATOR, read_definition
from resources_bed import apply_crds, put_definition, wait_until_served

from moorage_operator.local.tools import ensure_helm

CHARTS = Path(__file__).resolve().parents[2] / "charts"
EVERYTHING = {
    "demo": {"enabled": True},
    "imagePullSecrets": ["registry"],
    "metrics": {
        "serviceMonitor": {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
    },
    "operator": {
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "high",
        "podAnnotations": {"a": "b"},
    },
}
OF_THE_WHOLE_CLUSTER = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace"}


def rendered(chart: str, namespace: str, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    command = [ensure_helm(print), "template", "try", chart, "--namespace", namespace, "--values", "-"]
    done = subprocess.run(
        command, check=True, cwd=CHARTS, capture_output=True, text=True, input=json.dumps(values)
    )
    return (document for document in yaml.safe_load_all(done.stdout) if document)


def path_of(manifest: dict[str, Any]) -> str:
    kind, version = manifest["kind"], manifest["apiVersion"]
    root = "/apis" if "/" in version else "/api"
    place = "" if kind in OF_THE_WHOLE_CLUSTER else f"/namespaces/{manifest['metadata']['namespace']}"
    return f"{root}/{version}{place}/{kind.lower()}s"


def offer(api: ApiServer, manifest: dict[str, Any]) -> tuple[int, Any]:
    """Ask for it without making it."""
    return api.request("POST", f"{path_of(manifest)}?dryRun=All&fieldValidation=Strict", manifest)


@pytest.fixture(scope="module")
def prometheus_operator(api_server: ApiServer) -> ApiServer:
    """The API server, with the Prometheus operator's own definitions of what the chart makes for it."""
    for plural in ("servicemonitors", "prometheusrules"):
        put_definition(api_server, read_definition(PROMETHEUS_OPERATOR, plural, print))
        wait_until_served(api_server, f"/apis/monitoring.coreos.com/v1/namespaces/default/{plural}")
    return api_server


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_the_api_server_takes_every_object_of_the_operators_chart(
    prometheus_operator: ApiServer, namespace: str, values: dict[str, Any]
):
    manifests = list(rendered("moorage", namespace, values))
    assert len(manifests) >= 10
    for manifest in manifests:
        status, answer = offer(prometheus_operator, manifest)
        assert status == 201, f"{manifest['kind']}/{manifest['metadata']['name']}: {answer}"
    kinds = [manifest["kind"] for manifest in manifests]
    assert (kinds.count("ServiceMonitor"), kinds.count("PrometheusRule")) == ((2, 1) if values else (0, 0))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("ServiceMonitor", {"endpoints": [{"port": "http", "interval": "1 minute"}], "selector": {}}),
        ("ServiceMonitor", {"endpoints": [{"port": "http", "pathh": "/metrics"}], "selector": {}}),
        ("PrometheusRule", {"groups": [{"name": "g", "rules": [{"alert": "A"}]}]}),
        (
            "PrometheusRule",
            {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "1", "for": "soon"}]}]},
        ),
    ],
)
def test_the_prometheus_operators_definitions_refuse_what_is_wrong(
    prometheus_operator: ApiServer, namespace: str, kind: str, wrong: dict[str, Any]
):
    """Without this the test above would show nothing."""
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": kind,
        "metadata": {"name": "wrong", "namespace": namespace},
        "spec": wrong,
    }
    status, answer = offer(prometheus_operator, manifest)
    assert status in {400, 422}, answer


def test_every_alert_is_an_expression_that_prometheus_reads():
    groups = yaml.safe_load((CHARTS / "moorage" / "files" / "rules.yaml").read_text())["groups"]
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    assert len(expressions) >= 5
    for expression in expressions:
        promql_parser.parse(expression)
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql_parser.parse("rate(moorage_http_requests_total[5m]")


def test_the_api_server_takes_the_demo(api_server: ApiServer, namespace: str):
    apply_crds(api_server)
    (demo,) = (
        each
        for each in rendered("moorage", namespace, EVERYTHING)
        if each["kind"] == "ConfigMap" and "demo.yaml" in each["data"]
    )
    for manifest in yaml.safe_load_all(demo["data"]["demo.yaml"]):
        manifest["metadata"]["namespace"] = namespace
        status, answer = offer(api_server, manifest)
        assert status == 201, f"{manifest['kind']}: {answer}"
