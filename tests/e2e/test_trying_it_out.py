"""A first try: the demo that the chart brings along, and a second operator beside it in namespaces of its own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_bed.commands import Kubectl, wait_until
from cluster_bed.helm import Helm
from cluster_bed.kind import Cluster
from cluster_bed.store import KINDS, READY_SECONDS, choose_images, open_namespace

REPOSITORY = Path(__file__).resolve().parents[2]
DEFINITION = "accesspoints.moorage.dev"


@pytest.fixture(scope="module")
def opened(cluster: Cluster) -> Iterator[Callable[[str], Kubectl]]:
    """Makes namespaces in which pods must meet the profile `restricted`."""
    made: list[Kubectl] = []

    def open_one(name: str) -> Kubectl:
        made.append(open_namespace(cluster, name))
        return made[-1]

    yield open_one
    for kubectl in made:
        kubectl("delete", "namespace", kubectl.namespace, "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="module")
def chosen(image: str) -> dict[str, Any]:
    return choose_images(image)


@pytest.fixture(scope="module")
def helm(cluster: Cluster, helm_binary: Path) -> Callable[[str], Helm]:
    return lambda namespace: Helm(helm_binary, cluster.kubeconfig, namespace)


@pytest.fixture(scope="module")
def knows_nothing(cluster: Cluster) -> bool:
    """Whether the cluster has none of our definitions: they are taken away where nothing of them is in use."""
    kubectl = cluster.kubectl()
    if DEFINITION in kubectl("get", "customresourcedefinitions", "--output", "name"):
        if kubectl.items(",".join(KINDS), "--all-namespaces"):
            print("the cluster has resources of ours already: their definitions are not installed anew")
            return False
        names = kubectl("get", "customresourcedefinitions", "--output", "name").split()
        kubectl("delete", *(name for name in names if name.endswith(".moorage.dev")))
    return True


def pods(kubectl: Kubectl) -> list[str]:
    return kubectl.pods("app.kubernetes.io/name=moorage")


def test_the_demo_works_is_taken_away_and_comes_back_with_its_data_in_another_release(
    helm: Callable[[str], Helm],
    opened: Callable[[str], Kubectl],
    chosen: dict[str, Any],
    knows_nothing: bool,
):
    kubectl, here = opened("try"), helm("try")
    demo: dict[str, Any] = {"enabled": True}
    if minio := os.environ.get("MOORAGE_E2E_MINIO_IMAGE"):
        demo["minio"] = {"image": minio}
    values = {**chosen, "watchNamespaces": ["try"], "demo": demo}

    def is_ready() -> bool:
        return "demo" in kubectl("wait", "accesspoint/demo", "--for=condition=Ready", "--timeout=20s")

    here.install("first", "moorage", {**values, "crds": {"enabled": knows_nothing}})
    wait_until(is_ready, READY_SECONDS, "the demo is Ready")
    assert "came back" in here.test("first")
    claims = {claim["metadata"]["uid"] for claim in kubectl.items("persistentvolumeclaims")}

    here.uninstall("first")
    assert kubectl.items(",".join(KINDS)) == [], "the definitions stay, the demo goes"
    wait_until(lambda: not pods(kubectl), 180, "the demo's pods are gone")
    assert {claim["metadata"]["uid"] for claim in kubectl.items("persistentvolumeclaims")} == claims

    here.install("second", "moorage", values)
    wait_until(is_ready, READY_SECONDS, "the demo is Ready again")
    assert {claim["metadata"]["uid"] for claim in kubectl.items("persistentvolumeclaims")} == claims
    assert "came back" in here.test("second")


def test_two_operators_keep_to_their_namespaces_and_one_that_is_down_holds_up_no_deletion(
    helm: Callable[[str], Helm],
    opened: Callable[[str], Kubectl],
    chosen: dict[str, Any],
):
    """The one of the test before runs beside this one."""
    operators, tenant = opened("try-operators"), opened("try-tenant")
    pool = yaml.safe_load((REPOSITORY / "examples" / "cluster" / "blockpool.yaml").read_text())
    pool["metadata"]["namespace"] = "try-tenant"

    def is_judged() -> bool:
        return bool(
            tenant.json("get", "blockpool", pool["metadata"]["name"]).get("status", {}).get("conditions")
        )

    tenant.apply(pool)
    helm("try-operators").install("other", "moorage", {**chosen, "watchNamespaces": ["try-tenant"]})
    wait_until(is_judged, 60, "the second operator judges what is in its namespace")

    operators("scale", "deployment/other-moorage", "--replicas=0")
    wait_until(lambda: not operators.pods("app.kubernetes.io/name=moorage-operator"), 60, "it is down")
    tenant("delete", "namespace", "try-tenant", "--wait=true", "--timeout=90s")
