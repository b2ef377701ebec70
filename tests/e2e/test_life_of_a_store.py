"""One store from its first manifest to its second life. The tests run in this order, each on what the last one left."""

import itertools
import json
import os
import re
import shutil
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
from cluster_bed.commands import Kubectl, run, wait_until
from cluster_bed.helm import Helm
from cluster_bed.kind import DOOR, Cluster
from cluster_bed.load import Load
from cluster_bed.store import (
    KINDS,
    choose_images,
    is_whole,
    name_of,
    open_door,
    open_namespace,
    parts,
    pod_uids,
    present,
    read_examples,
    save_admin_token,
    wait_ready,
)

REPOSITORY = Path(__file__).resolve().parents[2]
NAMESPACE = "moorage"
AT_ONCE = 3
"""Processes that run the protocol's tests: a client waits more than it works."""
ORDER = ("l3", "l2", "l1", "block", "notify", "auth", "proxy")
"""In which the components of a store take up a new image."""


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    """In the namespace of the store."""
    kubectl = open_namespace(cluster, NAMESPACE)
    yield kubectl
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def helm(cluster: Cluster, helm_binary: Path) -> Helm:
    return Helm(helm_binary, cluster.kubeconfig, NAMESPACE)


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    return read_examples(NAMESPACE)


@pytest.fixture(scope="module")
def access_point(manifests: list[dict[str, Any]]) -> str:
    return name_of(manifests, "AccessPoint")


@pytest.fixture(scope="module")
def values(image: str, access_point: str) -> dict[str, Any]:
    return {
        **choose_images(image),
        "watchNamespaces": [NAMESPACE],
        "test": {
            "url": f"http://{access_point}-proxy.{NAMESPACE}.svc",
            "adminSecret": f"{access_point}-admin",
        },
    }


@pytest.fixture(scope="module")
def admin_token_file(kubectl: Kubectl, access_point: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_admin_token(kubectl, access_point, tmp_path_factory.mktemp("admin") / "token")


@pytest.fixture(scope="module")
def store(kubectl: Kubectl, access_point: str, admin_token_file: Path) -> Iterator[GivenStore]:
    open_door(kubectl, access_point)
    given = GivenStore(DOOR, admin_token_file)
    yield given
    given.http.close()


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    """What a user has in the store, from test to test."""
    return {}


@pytest.fixture(scope="module")
def older_definitions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart of the definitions as a version before this one may have been: pools could not hibernate."""
    chart = tmp_path_factory.mktemp("older") / "moorage-crds"
    shutil.copytree(REPOSITORY / "charts" / "moorage-crds", chart)
    (file,) = chart.glob("templates/*blockpools*")
    definition = yaml.safe_load(file.read_text())
    del spec_of(definition)["hibernated"]
    file.write_text(yaml.safe_dump(definition))
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump({**about, "version": "0.0.1"}))
    return chart


def spec_of(definition: dict[str, Any]) -> dict[str, Any]:
    """The schema of each field of the spec."""
    (version,) = definition["spec"]["versions"]
    fields: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return fields


def test_four_manifests_become_ready(
    helm: Helm,
    kubectl: Kubectl,
    older_definitions: Path,
    values: dict[str, Any],
    manifests: list[dict[str, Any]],
):
    helm.install("moorage-crds", older_definitions, {}, seconds=60)
    helm.install("moorage", "moorage", values)
    began = time.monotonic()
    kubectl.apply(*manifests)
    wait_ready(kubectl)
    print(f"four manifests were Ready after {time.monotonic() - began:.0f} s")


def test_the_protocol_holds_at_the_address_of_the_cluster(admin_token_file: Path, store: GivenStore):
    wait_until(lambda: store.front().get("/get_servers").is_success, 60, f"{DOOR} answers")
    told = {"MOORAGE_URL": DOOR, "MOORAGE_ADMIN_TOKEN_FILE": str(admin_token_file)}
    pytest_itself = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", "tests/protocol"]
    pytest_itself += ["--numprocesses", str(AT_ONCE), "--dist", "worksteal"]
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
                lambda before=before, part=part: is_whole(kubectl, part, len(before)),
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


def test_upgraded_definitions_know_more_and_touch_no_store(helm: Helm, kubectl: Kubectl):
    def seen() -> list[tuple[str, int]]:
        return sorted(
            (each["metadata"]["uid"], each["metadata"]["generation"])
            for each in kubectl.items(",".join(KINDS))
        )

    before, pods = seen(), pod_uids(kubectl)
    definition = ("get", "customresourcedefinition", "blockpools.moorage.dev")
    assert "hibernated" not in spec_of(kubectl.json(*definition))
    helm.upgrade("moorage-crds", "moorage-crds")
    assert "hibernated" in spec_of(kubectl.json(*definition))
    assert (seen(), pod_uids(kubectl)) == (before, pods)


def test_an_upgrade_rolls_every_server_in_order_without_a_failed_request(
    cluster: Cluster,
    helm: Helm,
    kubectl: Kubectl,
    image: str,
    values: dict[str, Any],
    store: GivenStore,
):
    """There is one version so far: the image is the same under another tag, and to the operator that is another one."""
    newer = f"{values['image']['repository']}:newer"
    run("docker", "tag", image, newer)
    cluster.load(newer)
    values["image"]["tag"] = "newer"
    load = Load(store)
    load.start()
    began = time.monotonic()
    try:
        helm.upgrade("moorage", "moorage", "--set", "image.tag=newer", "--set", "operator.logLevel=debug")
        wait_until(lambda: images_of_servers(kubectl) == {newer}, 300, "every server runs the newer image")
        wait_ready(kubectl)
        took = time.monotonic() - began
    finally:
        load.stop()
    assert load.failures == []
    for user, file_id, data in load.saved:
        assert user.read(file_id) == data
    print(f"every server was replaced within {took:.0f} s; {len(load.saved)} files were saved meanwhile")
    born: dict[str, list[str]] = {part: [] for part in ORDER}
    for pod in servers(kubectl):
        born[pod["metadata"]["labels"]["app.kubernetes.io/component"]].append(
            pod["metadata"]["creationTimestamp"]
        )
    spans = [(min(born[part]), max(born[part])) for part in ORDER]
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans)), born
    arguments = kubectl.items("deployments", "--selector", "app.kubernetes.io/name=moorage-operator")
    assert "debug" in json.dumps(arguments[0]["spec"]["template"]["spec"]["containers"])


def servers(kubectl: Kubectl) -> list[dict[str, Any]]:
    """Pods of our image that are not on their way out; what is not ours, etcd and the S3 server, is left out."""
    return present(kubectl, f"app.kubernetes.io/component in ({', '.join(ORDER)})")


def images_of_servers(kubectl: Kubectl) -> set[str]:
    return {container["image"] for pod in servers(kubectl) for container in pod["spec"]["containers"]}


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
    pods = present(kubectl, "app.kubernetes.io/component=block")
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
