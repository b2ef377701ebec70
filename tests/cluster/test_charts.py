"""What the charts render, put before a real API server: unknown fields and wrong values are refused there."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from real_servers.kubernetes import ApiServer
from resources_bed import apply_crds

from moorage_operator.local.tools import ensure_helm

CHARTS = Path(__file__).resolve().parents[2] / "charts"
EVERYTHING = {
    "demo": {"enabled": True},
    "imagePullSecrets": ["registry"],
    "metrics": {"dashboard": {"enabled": True}},
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


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
def test_the_api_server_takes_every_object_of_the_operators_chart(
    api_server: ApiServer, namespace: str, values: dict[str, Any]
):
    manifests = list(rendered("moorage", namespace, values))
    assert len(manifests) >= 10
    for manifest in manifests:
        status, answer = offer(api_server, manifest)
        assert status == 201, f"{manifest['kind']}/{manifest['metadata']['name']}: {answer}"


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
