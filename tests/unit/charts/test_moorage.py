"""The chart of the operator: what it lets in, and what comes out."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from moorage_nodes.metrics import Metrics
from moorage_operator.metrics import OperatorMetrics

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "moorage"
EVERYTHING = {
    "demo": {"enabled": True},
    "crds": {"enabled": True},
    "imagePullSecrets": ["registry"],
    "metrics": {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")},
}


@pytest.mark.parametrize("chart", ["moorage", "moorage-crds"])
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_helm_finds_nothing_wrong(helm: Callable[..., Any], chart: str, values: dict[str, Any]):
    done = helm("lint", "--strict", chart, values=values if chart == "moorage" else {})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"operator": {"replicas": 0}}, "/operator/replicas"),
        ({"operator": {"logLevel": "loud"}}, "/operator/logLevel"),
        ({"operator": {"resources": {"limits": {"memory": "much"}}}}, "/operator/resources/limits/memory"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"image": {"tag": "not a tag"}}, "/image/tag"),
        ({"imagePullSecrets": [{"name": "registry"}]}, "/imagePullSecrets/0"),
        ({"watchNamespaces": ["Harbour"]}, "/watchNamespaces/0"),
        ({"watchNamespaces": ["a", "a"]}, "/watchNamespaces"),
        ({"demo": {"enabled": "yes"}}, "/demo/enabled"),
        ({"demo": {"publicURL": "http://host/path"}}, "/demo/publicURL"),
        ({"demo": {"minio": {"image": ""}}}, "/demo/minio/image"),
        ({"test": {"url": "ftp://host"}}, "/test/url"),
        ({"metrics": {"serviceMonitor": {"interval": "often"}}}, "/metrics/serviceMonitor/interval"),
        ({"operatr": {}}, "operatr"),
        ({"demo": {"enabeld": True}}, "enabeld"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(helm: Callable[..., Any], values: dict[str, Any], path: str):
    done = helm("template", "try", "moorage", values=values)
    assert done.returncode != 0
    assert path in done.stderr


def test_every_value_has_a_place_in_the_schema():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def unknown(values: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
        for name, value in values.items():
            place = schema.get("properties", {}).get(name)
            if place is None:
                if schema.get("additionalProperties") is False:
                    yield f"{path}.{name}"
            elif isinstance(value, dict):
                yield from unknown(value, place, f"{path}.{name}")

    assert list(unknown(values, schema, "")) == []


def pods_of(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in objects:
        if each["kind"] == "Pod":
            yield each["metadata"]["name"], each["spec"]
        elif "template" in each.get("spec", {}):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def test_every_pod_meets_the_profile_restricted(render: Callable[..., Any]):
    pods = dict(pods_of(render(EVERYTHING)))
    assert len(pods) == 4, "operator, two jobs of the demo, the test"
    for name, spec in pods.items():
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert not context["allowPrivilegeEscalation"], name
            assert context["readOnlyRootFilesystem"], name
            assert {"requests", "limits"} <= container["resources"].keys(), name


def test_every_pod_comes_from_the_registry_that_is_chosen(render: Callable[..., Any]):
    mirror = {
        **EVERYTHING,
        "image": {"registry": "mirror.example:5000", "repository": "m/moorage", "tag": "1"},
    }
    for name, spec in pods_of(render(mirror)):
        assert spec["imagePullSecrets"] == [{"name": "registry"}], name
        assert {c["image"] for c in spec["containers"]} == {"mirror.example:5000/m/moorage:1"}, name


def test_a_digest_comes_before_a_tag(render: Callable[..., Any]):
    digest = f"sha256:{'0' * 64}"
    (operator,) = (o for o in render({"image": {"digest": digest}}) if o["kind"] == "Deployment")
    image = operator["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"ghcr.io/moorage/moorage@{digest}"


def test_all_versions_are_the_projects():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for chart in ("moorage", "moorage-crds"):
        about = yaml.safe_load((ROOT / "charts" / chart / "Chart.yaml").read_text())
        assert (about["version"], about["appVersion"]) == (version, version)
        assert all(dependency["version"] == version for dependency in about.get("dependencies", []))


@pytest.mark.parametrize("file", ["rules.yaml", "dashboard.json"])
def test_rules_and_dashboard_name_metrics_that_there_are(file: str):
    metrics = Metrics()
    metrics.observe_request("GET", "/x", 200, 0.1)
    store = metrics.store("etcd")
    store.observe_call("read", "ok", 0.1)
    told = {sample.name for family in metrics.families() for sample in family.samples}
    conditions = {"conditions": [{"type": "Ready", "status": "True"}]}
    parts = {"parts": [{"name": "main-l1", "ready": 1, "desired": 2}]}
    operator = OperatorMetrics(lambda: [("BlockPool", "harbour", "main", {**conditions, **parts})], lambda: 0)
    operator.observe_pass("BlockPool", "ok", 0.0)
    told |= set(re.findall(r"^(moorage_\w+)", operator.render().decode(), re.MULTILINE))
    named = set(re.findall(r"\bmoorage_[a-z_]+", (CHART / "files" / file).read_text()))
    assert named
    assert named - told == set()


def test_the_test_of_the_chart_is_left_out_where_it_has_no_store(render: Callable[..., Any]):
    assert not [o for o in render() if o["kind"] == "Pod"]
    elsewhere = render({"test": {"url": "http://home-proxy.harbour.svc", "adminSecret": "home-admin"}})
    (pod,) = (o for o in elsewhere if o["kind"] == "Pod")
    assert pod["spec"]["containers"][0]["command"][-2] == "http://home-proxy.harbour.svc"
    assert pod["spec"]["volumes"][1]["secret"]["secretName"] == "home-admin"


def rules_of(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in objects:
        for rule in each.get("rules", []) if each["kind"] in {"Role", "ClusterRole"} else []:
            yield each["metadata"]["name"], rule


@pytest.mark.parametrize("values", [{}, {"watchNamespaces": ["one", "two"]}, EVERYTHING])
def test_no_right_has_a_wildcard(render: Callable[..., Any], values: dict[str, Any]):
    for name, rule in rules_of(render(values)):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], name


def bound_to(objects: list[dict[str, Any]], kind: str) -> set[tuple[str, str]]:
    return {
        (each["metadata"].get("namespace", ""), each["roleRef"]["name"])
        for each in objects
        if each["kind"] == kind
    }


@pytest.mark.parametrize("values", [{}, {"watchNamespaces": ["one", "two"]}, EVERYTHING])
def test_nobody_reads_secrets_of_the_whole_cluster_or_lists_them(
    render: Callable[..., Any], values: dict[str, Any]
):
    objects = render(values)
    about_secrets = [(name, rule) for name, rule in rules_of(objects) if "secrets" in rule["resources"]]
    assert {name for name, _ in about_secrets} == {"harbour-try-moorage-secrets"}
    assert all(not {"list", "watch"} & set(rule["verbs"]) for _, rule in about_secrets)
    assert not {role for _, role in bound_to(objects, "ClusterRoleBinding")} & {
        name for name, _ in about_secrets
    }


def test_watched_namespaces_are_the_only_ones_it_has_rights_in(render: Callable[..., Any]):
    objects = render({"watchNamespaces": ["one", "two"]})
    assert bound_to(objects, "ClusterRoleBinding") == set()
    assert {
        namespace for namespace, role in bound_to(objects, "RoleBinding") if role == "harbour-try-moorage"
    } == {"one", "two"}
    secrets = {namespace for namespace, role in bound_to(objects, "RoleBinding") if role.endswith("-secrets")}
    assert secrets == {"harbour", "one", "two"}


def test_secrets_of_further_namespaces_are_granted_one_by_one(render: Callable[..., Any]):
    objects = render({"secretNamespaces": ["three"]})
    assert bound_to(objects, "ClusterRoleBinding") == {("", "harbour-try-moorage")}
    secrets = {namespace for namespace, role in bound_to(objects, "RoleBinding") if role.endswith("-secrets")}
    assert secrets == {"harbour", "three"}
