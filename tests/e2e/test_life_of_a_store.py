"""One store from its first manifest to its second life. The tests run in this order, each on what the last one left."""

import base64
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from black_box.http_client import PatientHttp
from black_box.store import GivenStore
from black_box.user import User, new_user
from cluster_bed.commands import Kubectl, wait_until
from cluster_bed.helm import Helm
from cluster_bed.kind import DOOR, NODE_PORT, Cluster
from cluster_bed.load import Load

REPOSITORY = Path(__file__).resolve().parents[2]
NAMESPACE = "moorage"
KINDS = ("accesspoint", "metadatacluster", "blockpool", "notifier")
READY_SECONDS = 300


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    """In the namespace of the store, where pods that do not meet the profile `restricted` are refused."""
    kubectl = cluster.kubectl(NAMESPACE)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    )
    yield kubectl
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def helm(cluster: Cluster, helm_binary: Path) -> Helm:
    return Helm(helm_binary, cluster.kubeconfig, NAMESPACE)


@pytest.fixture(scope="module")
def values(image: str, manifests: list[dict[str, Any]]) -> dict[str, Any]:
    repository, _, tag = image.rpartition(":")
    access_point = name_of(manifests, "AccessPoint")
    chosen: dict[str, Any] = {
        "image": {"registry": "", "repository": repository, "tag": tag},
        "watchNamespaces": [NAMESPACE],
        "test": {
            "url": f"http://{access_point}-proxy.{NAMESPACE}.svc",
            "adminSecret": f"{access_point}-admin",
        },
    }
    if etcd := os.environ.get("MOORAGE_E2E_ETCD_IMAGE"):
        chosen["etcd"] = {"image": etcd}
    return chosen


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    """Those of examples/cluster, at the address where this cluster is reached, with images that it can have."""
    found = [
        document
        for path in sorted((REPOSITORY / "examples" / "cluster").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]
    assert sorted(document["kind"].lower() for document in found) == sorted(KINDS)
    access_point = name_of(found, "AccessPoint")
    for document in found:
        document["metadata"]["namespace"] = NAMESPACE
        spec = document["spec"]
        if document["kind"] == "AccessPoint":
            spec["publicURL"] = DOOR
            spec["extraURLs"] = [f"http://{access_point}-proxy.{NAMESPACE}.svc"]
        if document["kind"] == "BlockPool" and (minio := os.environ.get("MOORAGE_E2E_MINIO_IMAGE")):
            spec["store"]["managed"]["image"] = minio
    return found


def name_of(manifests: list[dict[str, Any]], kind: str) -> str:
    name: str = next(each["metadata"]["name"] for each in manifests if each["kind"] == kind)
    return name


@pytest.fixture(scope="module")
def door(kubectl: Kubectl, manifests: list[dict[str, Any]]) -> None:
    """A node port of our own in front of the proxy's pods, at the number that is published on this machine."""
    proxy = f"{name_of(manifests, 'AccessPoint')}-proxy"
    selector = kubectl.json("get", "service", proxy)["spec"]["selector"]
    target = kubectl.json("get", "service", proxy)["spec"]["ports"][0]["targetPort"]
    ports = [{"port": 80, "targetPort": target, "nodePort": NODE_PORT}]
    spec = {"type": "NodePort", "selector": selector, "ports": ports}
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "e2e-door", "namespace": NAMESPACE},
            "spec": spec,
        }
    )


@pytest.fixture(scope="module")
def admin_token_file(
    kubectl: Kubectl, manifests: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    secret = kubectl.json("get", "secret", f"{name_of(manifests, 'AccessPoint')}-admin")
    path = tmp_path_factory.mktemp("admin") / "token"
    path.write_bytes(base64.b64decode(secret["data"]["token"]))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def store(door: None, admin_token_file: Path) -> Iterator[GivenStore]:
    given = GivenStore(DOOR, admin_token_file)
    yield given
    given.http.close()


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    """What a user has in the store, from test to test."""
    return {}


def wait_ready(kubectl: Kubectl, seconds: float = READY_SECONDS) -> None:
    """Until all four resources say Ready for the generation that they have."""

    def all_ready() -> bool:
        found = kubectl.items(",".join(KINDS))
        return len(found) == len(KINDS) and all(is_ready(each) for each in found)

    try:
        wait_until(all_ready, seconds, "all four resources are Ready")
    except AssertionError as error:
        said = [
            kubectl("get", ",".join(KINDS), "--output", "yaml"),
            kubectl("get", "pods", "--output", "wide"),
        ]
        with contextlib.suppress(AssertionError):
            said.append(kubectl("get", "events", "--sort-by", ".lastTimestamp")[-3000:])
        raise AssertionError("\n".join([str(error), *said])) from None


def is_ready(resource: dict[str, Any]) -> bool:
    generation = resource["metadata"]["generation"]
    return any(
        condition["type"] == "Ready"
        and condition["status"] == "True"
        and condition.get("observedGeneration", generation) == generation
        for condition in resource.get("status", {}).get("conditions", [])
    )


def parts(kubectl: Kubectl) -> list[str]:
    """The parts of the store that run as pods: each tier, the proxy, etcd, the S3 server."""
    pods = kubectl.items(
        "pods", "--selector", "app.kubernetes.io/name=moorage", "--field-selector", "status.phase=Running"
    )
    return sorted({pod["metadata"]["labels"]["moorage.dev/part"] for pod in pods})


def test_four_manifests_become_ready(
    helm: Helm, kubectl: Kubectl, values: dict[str, Any], manifests: list[dict[str, Any]]
):
    helm.install("moorage-crds", "moorage-crds", {}, seconds=60)
    helm.install("moorage", "moorage", values)
    began = time.monotonic()
    kubectl.apply(*manifests)
    wait_ready(kubectl)
    print(f"four manifests were Ready after {time.monotonic() - began:.0f} s")


def test_the_protocol_holds_at_the_address_of_the_cluster(
    door: None, admin_token_file: Path, store: GivenStore
):
    wait_until(lambda: store.front().get("/get_servers").is_success, 60, f"{DOOR} answers")
    told = {"MOORAGE_URL": DOOR, "MOORAGE_ADMIN_TOKEN_FILE": str(admin_token_file)}
    pytest_itself = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", "tests/protocol"]
    done = subprocess.run(
        pytest_itself, check=False, cwd=REPOSITORY, env={**os.environ, **told}, capture_output=True, text=True
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout[-2000:]
    assert int(passed[1]) > 200, "most of the protocol's tests need no store of this machine"


def test_helm_test_stores_a_file(helm: Helm):
    assert "came back" in helm.test("moorage")


def test_a_user_has_files(store: GivenStore, kept: dict[str, Any]):
    kept["user"] = new_user(store, "kept")
    kept["user"].save("letter", [b"dear harbour"], parent_dir_id="root", name="letter.txt")


def test_no_request_fails_while_a_pod_of_each_kind_is_killed(kubectl: Kubectl, store: GivenStore):
    load = Load(store)
    load.start()
    killed = []
    try:
        for part in parts(kubectl):
            before = set(kubectl.pods(f"moorage.dev/part={part}"))
            saved = len(load.saved)
            kubectl("delete", "pod", min(before), "--grace-period=0", "--force")
            killed.append(part)
            wait_until(
                lambda before=before, part=part: has_recovered(kubectl, part, len(before)),
                180,
                f"{part} is whole again",
            )
            wait_until(
                lambda saved=saved: len(load.saved) > saved, 120, f"files are saved after the loss of {part}"
            )
    finally:
        load.stop()
    assert load.failures == []
    assert len(load.saved) > len(killed)
    for user, file_id, data in load.saved:
        assert user.read(file_id) == data
    tried_again = store.http.tried_again if isinstance(store.http, PatientHttp) else 0
    print(
        f"killed one pod of {', '.join(killed)}; {len(load.saved)} files, {tried_again} requests tried again"
    )


def has_recovered(kubectl: Kubectl, part: str, count: int) -> bool:
    pods = [
        pod
        for pod in kubectl.items("pods", "--selector", f"moorage.dev/part={part}")
        if "deletionTimestamp" not in pod["metadata"]
    ]
    ready = [
        pod
        for pod in pods
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    ]
    return len(ready) >= count


def test_uninstalling_the_operator_leaves_the_store_serving(
    helm: Helm, kubectl: Kubectl, store: GivenStore, kept: dict[str, Any]
):
    before = pod_uids(kubectl)
    helm.uninstall("moorage")
    assert kubectl.pods("app.kubernetes.io/name=moorage-operator") == []
    time.sleep(5)
    assert pod_uids(kubectl) == before
    user: User = kept["user"]
    user.log_in()
    assert user.read("letter") == b"dear harbour"
    user.save("second", [b"written without an operator"], parent_dir_id="root", name="second.txt")
    assert len(kubectl.items(",".join(KINDS))) == len(KINDS)


def pod_uids(kubectl: Kubectl) -> set[str]:
    return {
        pod["metadata"]["uid"]
        for pod in kubectl.items("pods", "--selector", "app.kubernetes.io/name=moorage")
    }


def test_another_release_adopts_the_store(
    helm: Helm,
    kubectl: Kubectl,
    values: dict[str, Any],
    manifests: list[dict[str, Any]],
    store: GivenStore,
    kept: dict[str, Any],
):
    before = pod_uids(kubectl)
    helm.install("harbour", "moorage", values)
    pools = [each for each in manifests if each["kind"] == "BlockPool"]
    for pool in pools:  # a change shows that somebody acts on it
        pool["spec"]["template"] = {"annotations": {"e2e": "adopted"}}
    kubectl.apply(*pools)
    wait_until(lambda: adopted(kubectl), 180, "the block servers follow the new operator")
    wait_ready(kubectl)
    assert len(before & pod_uids(kubectl)) >= len(before) - 2 * len(pools), (
        "only the block servers were rolled"
    )
    user: User = kept["user"]
    assert user.read("second") == b"written without an operator"


def adopted(kubectl: Kubectl) -> bool:
    pods = [
        pod
        for pod in kubectl.items("pods", "--selector", "app.kubernetes.io/component=block")
        if "deletionTimestamp" not in pod["metadata"]
    ]
    return bool(pods) and all(pod["metadata"]["annotations"].get("e2e") == "adopted" for pod in pods)


def test_deleting_the_resources_removes_the_pods_and_keeps_the_data(kubectl: Kubectl):
    claims = {claim["metadata"]["name"] for claim in kubectl.items("persistentvolumeclaims")}
    assert claims, "etcd and the S3 server keep their data on volumes"
    for kind in KINDS:
        kubectl("delete", kind, "--all", "--wait=true", "--timeout=60s")
    wait_until(lambda: not pod_uids(kubectl), 180, "all pods are gone")
    assert {claim["metadata"]["name"] for claim in kubectl.items("persistentvolumeclaims")} == claims


def test_applying_them_again_finds_the_data(
    kubectl: Kubectl, manifests: list[dict[str, Any]], store: GivenStore, kept: dict[str, Any]
):
    kubectl.apply(*manifests)
    wait_ready(kubectl)
    user: User = kept["user"]
    user.log_in()
    assert user.read("letter") == b"dear harbour"
    assert user.read("second") == b"written without an operator"
