"""A store on a cluster: its manifests, the way to it from this machine, and what is seen of it."""

import base64
import contextlib
import os
from pathlib import Path
from typing import Any

import yaml

from cluster_bed.commands import Kubectl, wait_until
from cluster_bed.kind import DOOR, NODE_PORT, Cluster

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "cluster"
KINDS = ("accesspoint", "metadatacluster", "blockpool", "notifier")
READY_SECONDS = 300
OURS = "app.kubernetes.io/name=moorage"


def open_namespace(cluster: Cluster, name: str) -> Kubectl:
    """Makes a namespace in which pods that do not meet the profile `restricted` are refused."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl = cluster.kubectl(name)
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return kubectl


def choose_images(image: str) -> dict[str, Any]:
    """Values of the chart for the images that this cluster can have."""
    repository, _, tag = image.rpartition(":")
    values: dict[str, Any] = {"image": {"registry": "", "repository": repository, "tag": tag}}
    if etcd := os.environ.get("MOORAGE_E2E_ETCD_IMAGE"):
        values["etcd"] = {"image": etcd}
    return values


def read_examples(namespace: str) -> list[dict[str, Any]]:
    """The manifests of examples/cluster, at the address where the cluster is reached, with images that it can have."""
    found = [
        document
        for path in sorted(EXAMPLES.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]
    assert sorted(document["kind"].lower() for document in found) == sorted(KINDS)
    access_point = name_of(found, "AccessPoint")
    for document in found:
        document["metadata"]["namespace"] = namespace
        spec = document["spec"]
        if document["kind"] == "AccessPoint":
            spec["publicURL"] = DOOR
            spec["extraURLs"] = [f"http://{access_point}-proxy.{namespace}.svc"]
        if document["kind"] == "BlockPool" and (minio := os.environ.get("MOORAGE_E2E_MINIO_IMAGE")):
            spec["store"]["managed"]["image"] = minio
    return found


def name_of(manifests: list[dict[str, Any]], kind: str) -> str:
    name: str = next(each["metadata"]["name"] for each in manifests if each["kind"] == kind)
    return name


def open_door(kubectl: Kubectl, access_point: str) -> None:
    """A node port of our own in front of the proxy's pods, at the number that is published on this machine."""
    proxy = kubectl.json("get", "service", f"{access_point}-proxy")["spec"]
    ports = [{"port": 80, "targetPort": proxy["ports"][0]["targetPort"], "nodePort": NODE_PORT}]
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "e2e-door", "namespace": kubectl.namespace},
            "spec": {"type": "NodePort", "selector": proxy["selector"], "ports": ports},
        }
    )


def save_admin_token(kubectl: Kubectl, access_point: str, path: Path) -> Path:
    secret = kubectl.json("get", "secret", f"{access_point}-admin")
    path.write_bytes(base64.b64decode(secret["data"]["token"]))
    path.chmod(0o600)
    return path


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
    """Of a resource or a pod."""
    generation = resource["metadata"].get("generation")
    return any(
        condition["type"] == "Ready"
        and condition["status"] == "True"
        and condition.get("observedGeneration", generation) == generation
        for condition in resource.get("status", {}).get("conditions", [])
    )


def present(kubectl: Kubectl, selector: str) -> list[dict[str, Any]]:
    """The pods that are not on their way out."""
    return [
        pod
        for pod in kubectl.items("pods", "--selector", selector)
        if "deletionTimestamp" not in pod["metadata"]
    ]


def is_whole(kubectl: Kubectl, part: str, count: int) -> bool:
    """Whether that many pods of a part are ready."""
    return sum(map(is_ready, present(kubectl, f"moorage.dev/part={part}"))) >= count


def parts(kubectl: Kubectl) -> list[str]:
    """The parts of the store that run as pods: each tier, the proxy, etcd, the S3 server."""
    pods = kubectl.items("pods", "--selector", OURS, "--field-selector", "status.phase=Running")
    return sorted({pod["metadata"]["labels"]["moorage.dev/part"] for pod in pods})


def pod_uids(kubectl: Kubectl) -> set[str]:
    return {pod["metadata"]["uid"] for pod in kubectl.items("pods", "--selector", OURS)}
