"""A store on three nodes that loses a member with its volume, and then a node. In this order, each on the last one.

Volumes here belong to a node: what has one waits for its node, what has none is elsewhere.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from black_box.store import GivenStore
from black_box.user import User, new_user
from cluster_bed.commands import Kubectl, run, wait_until
from cluster_bed.helm import Helm
from cluster_bed.kind import DOOR, Cluster
from cluster_bed.load import Load
from cluster_bed.store import (
    choose_images,
    is_ready,
    is_whole,
    name_of,
    open_door,
    open_namespace,
    present,
    read_examples,
    save_admin_token,
    wait_ready,
)

NAMESPACE = "moorage"
MEMBERS, S3_SERVERS = 3, 4
REPLACED_SECONDS = 300
DOWN_SECONDS = 90
"""Longer than it takes a cluster to notice that a node is gone."""


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    kubectl = open_namespace(cluster, NAMESPACE)
    taint = "node-role.kubernetes.io/control-plane"
    nodes = kubectl.items("nodes")
    assert len(nodes) >= 3, "the loss of a node is tried on three or more"
    for node in nodes:
        if any(each["key"] == taint for each in node["spec"].get("taints", [])):
            kubectl("taint", "node", node["metadata"]["name"], f"{taint}-")
    yield kubectl
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    found = read_examples(NAMESPACE)
    for document in found:
        if document["kind"] == "MetadataCluster":
            document["spec"]["etcd"]["managed"]["replicas"] = MEMBERS
        if document["kind"] == "BlockPool":
            document["spec"]["store"]["managed"]["servers"] = S3_SERVERS
    return found


@pytest.fixture(scope="module")
def ready(
    cluster: Cluster, helm_binary: Path, image: str, kubectl: Kubectl, manifests: list[dict[str, Any]]
) -> None:
    helm = Helm(helm_binary, cluster.kubeconfig, NAMESPACE)
    helm.install("moorage-crds", "moorage-crds", {}, seconds=60)
    helm.install("moorage", "moorage", {**choose_images(image), "watchNamespaces": [NAMESPACE]})
    began = time.monotonic()
    kubectl.apply(*manifests)
    wait_ready(kubectl, 600)
    print(f"Ready after {time.monotonic() - began:.0f} s")


@pytest.fixture(scope="module")
def store(
    ready: None, kubectl: Kubectl, manifests: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GivenStore]:
    access_point = name_of(manifests, "AccessPoint")
    token = save_admin_token(kubectl, access_point, tmp_path_factory.mktemp("admin") / "token")
    open_door(kubectl, access_point)
    given = GivenStore(DOOR, token)
    wait_until(lambda: given.front().get("/get_servers").is_success, 60, f"{DOOR} answers")
    yield given
    given.http.close()


@pytest.fixture(scope="module")
def kept(store: GivenStore) -> User:
    """A user who stored something before anything was lost."""
    user = new_user(store, "kept")
    for number in range(20):
        user.save(
            f"letter-{number}",
            [b"dear harbour", bytes([number]) * 300_000],
            parent_dir_id="root",
            name=f"{number}",
        )
    return user


@pytest.fixture
def load(store: GivenStore, kept: User) -> Iterator[Load]:
    """Clients at work during the test, who must not have met an error afterwards, nor a file that changed."""
    load = Load(store)
    load.start()
    try:
        yield load
    finally:
        load.stop()
    assert load.failures == []
    for user, file_id, data in load.saved:
        assert user.read(file_id) == data
    for number in range(20):
        assert kept.read(f"letter-{number}") == b"dear harbour" + bytes([number]) * 300_000
    print(f"{len(load.saved)} files were saved meanwhile")


def wait_for_more(load: Load, count: int = 10, seconds: float = 180) -> None:
    saved = len(load.saved)
    began = time.monotonic()
    wait_until(lambda: len(load.saved) >= saved + count, seconds, f"{count} more files are saved")
    print(f"{count} more files after {time.monotonic() - began:.0f} s")


def lose(kubectl: Kubectl, pod: str) -> str:
    """Take a pod of a StatefulSet away and the volume with it; the volume's uid."""
    claim = f"data-{pod}"
    uid: str = kubectl.json("get", "persistentvolumeclaim", claim)["metadata"]["uid"]
    kubectl("delete", "persistentvolumeclaim", claim, "--wait=false")
    kubectl("delete", "pod", pod, "--grace-period=0", "--force")

    def is_another() -> bool:
        found = kubectl.items("persistentvolumeclaims", "--field-selector", f"metadata.name={claim}")
        return (
            bool(found)
            and found[0]["metadata"]["uid"] != uid
            and "deletionTimestamp" not in found[0]["metadata"]
        )

    try:
        wait_until(is_another, 60, f"{claim} is another volume")
    except AssertionError:
        # The StatefulSet made the pod again before the claim was gone: the new pod holds it back.
        kubectl("delete", "pod", pod, "--grace-period=0", "--force")
        wait_until(is_another, 120, f"{claim} is another volume")
    return uid


def test_members_and_servers_are_spread_over_the_nodes(kubectl: Kubectl, store: GivenStore):
    for part, count in {
        "main-etcd": MEMBERS,
        "main-store": S3_SERVERS,
        "main-l1": 2,
        "home-proxy": 2,
    }.items():
        nodes = [pod["spec"]["nodeName"] for pod in present(kubectl, f"moorage.dev/part={part}")]
        assert len(nodes) == count
        assert len(set(nodes)) == min(count, 3), f"{part} is on {nodes}"


def test_an_etcd_member_that_lost_its_pod_and_volume_is_replaced(kubectl: Kubectl, load: Load):
    began = time.monotonic()
    lose(kubectl, "main-etcd-1")
    wait_until(lambda: is_whole(kubectl, "main-etcd", MEMBERS), REPLACED_SECONDS, "etcd is whole again")
    print(f"etcd was whole again after {time.monotonic() - began:.0f} s")
    assert members(kubectl) == MEMBERS
    wait_for_more(load)
    wait_ready(kubectl)


def members(kubectl: Kubectl) -> int:
    """How many members etcd itself counts; all of them started."""
    folder = "/etc/moorage/etcd-client"
    etcdctl = ["etcdctl", "--endpoints=https://localhost:2379", f"--cacert={folder}/ca.crt"]
    etcdctl += [f"--cert={folder}/tls.crt", f"--key={folder}/tls.key", "member", "list", "--write-out=json"]
    listed = kubectl("exec", "main-etcd-0", "--container", "etcd", "--", *etcdctl, seconds=60)
    found = json.loads(listed)["members"]
    assert all(member.get("name") for member in found), found
    return len(found)


def test_an_s3_server_that_lost_its_pod_and_volume_is_replaced(kubectl: Kubectl, load: Load):
    began = time.monotonic()
    lose(kubectl, "main-store-2")
    wait_until(
        lambda: is_whole(kubectl, "main-store", S3_SERVERS), REPLACED_SECONDS, "the store is whole again"
    )
    print(f"the S3 store was whole again after {time.monotonic() - began:.0f} s")
    wait_for_more(load)
    wait_ready(kubectl)


@pytest.fixture
def node(kubectl: Kubectl, cluster: Cluster) -> Iterator[str]:
    """One that carries no part of Kubernetes itself; it is up again afterwards."""
    if cluster.kind_name is None:
        pytest.skip("only a node of kind can be stopped from here")
    plain = [
        each["metadata"]["name"]
        for each in kubectl.items("nodes")
        if "node-role.kubernetes.io/control-plane" not in each["metadata"]["labels"]
    ]
    yield plain[0]
    run("docker", "start", plain[0])


def test_the_store_serves_while_a_node_is_down_and_is_whole_when_it_is_back(
    kubectl: Kubectl, node: str, load: Load
):
    def node_is_ready() -> bool:
        return is_ready(kubectl.json("get", "node", node))

    there = [pod["metadata"]["name"] for pod in kubectl.items("pods") if pod["spec"].get("nodeName") == node]
    assert any("etcd" in pod for pod in there), there
    run("docker", "kill", node)
    wait_for_more(load)
    wait_until(lambda: not node_is_ready(), DOWN_SECONDS, f"the cluster knows that {node} is gone")
    wait_for_more(load, 30)
    run("docker", "start", node)
    began = time.monotonic()
    wait_until(node_is_ready, 180, f"{node} is back")
    wait_ready(kubectl, 600)
    print(f"without {node} and {len(there)} pods; Ready {time.monotonic() - began:.0f} s after it was back")
    wait_for_more(load)
