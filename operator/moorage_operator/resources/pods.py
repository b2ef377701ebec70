"""Pieces of pods: the `restricted` security profile, mounted files, probes, spreading, what a template says. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moorage_operator.resources.context import Images
from moorage_operator.resources.manifest import Body
from moorage_operator.spec.parts import Placement, Resources

PUBLIC_PORT = 8080
INTERNAL_PORT = 9090
USER_ID = 65532
"""Whom our containers run as, whatever their image says: the profile wants a number that is not root's."""
SERVER_NEEDS: Mapping[str, str] = {"cpu": "10m", "memory": "96Mi"}
"""Of a server of ours that idles (58 to 66 MiB), with some air."""
STORE_NEEDS: Mapping[str, str] = {"cpu": "25m", "memory": "256Mi"}
"""Of an etcd member or a MinIO server with little in it."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder of mounted files, or an empty one. `source` is the volume's source as a pod spells it."""

    name: str
    path: str
    source: Body
    read_only: bool = True


def config_volume(name: str, path: str, config_map: str) -> Volume:
    """The whole ConfigMap as a folder: never a `subPath`, which would not follow changes."""
    return Volume(name, path, {"configMap": {"name": config_map, "defaultMode": 0o444}})


def secret_volume(name: str, path: str, secret: str, *, optional: bool = False) -> Volume:
    """The whole Secret as a folder, readable by the pod's group alone."""
    source: Body = {"secretName": secret, "defaultMode": 0o440}
    return Volume(name, path, {"secret": source | ({"optional": True} if optional else {})})


def scratch_volume(name: str, path: str, size: str = "64Mi") -> Volume:
    """Memory for temporary files: the root file system is read-only."""
    return Volume(name, path, {"emptyDir": {"medium": "Memory", "sizeLimit": size}}, read_only=False)


def build_volumes(volumes: Sequence[Volume]) -> list[Body]:
    return [{"name": volume.name, **volume.source} for volume in volumes]


def build_mounts(volumes: Sequence[Volume]) -> list[Body]:
    return [
        {"name": volume.name, "mountPath": volume.path} | ({"readOnly": True} if volume.read_only else {})
        for volume in volumes
    ]


def build_image(image: str) -> Body:
    """The image and when it is pulled, as Kubernetes chooses for a new container. Said here because what it has chosen
    stays when the image is changed, and is asked of a registry for ever once a tag was `latest`.
    """
    name = image.rpartition("/")[2]
    moving = "@" not in name and (":" not in name or name.endswith(":latest"))
    return {"image": image, "imagePullPolicy": "Always" if moving else "IfNotPresent"}


def build_container_security() -> Body:
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def build_pod_security() -> Body:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def http_probe(path: str, port: str | int, *, period: int, timeout: int, failures: int) -> Body:
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }


def build_probes() -> Body:
    """Of our servers, on the internal port. They listen only when their stores have answered once: that may take
    as long as the startup probe waits, and is no reason to be killed.
    """
    return {
        "startupProbe": http_probe("/healthz", "internal", period=2, timeout=3, failures=60),
        "livenessProbe": http_probe("/healthz", "internal", period=10, timeout=5, failures=3),
        "readinessProbe": http_probe("/readyz", "internal", period=5, timeout=4, failures=2),
    }


def build_server_ports() -> list[Body]:
    return [
        {"name": "public", "containerPort": PUBLIC_PORT, "protocol": "TCP"},
        {"name": "internal", "containerPort": INTERNAL_PORT, "protocol": "TCP"},
    ]


def build_resources(resources: Resources, needed: Mapping[str, str]) -> Body:
    """A container's `resources`. Of what somebody names neither as a request nor as a limit (which Kubernetes takes for
    the request as well) it asks for `needed`: then the scheduler knows of it, and the kubelet evicts others first.
    """
    said = resources.model_dump(by_alias=True, exclude_none=True)
    requests = {name: amount for name, amount in needed.items() if name not in said["limits"]}
    return _filled({**said, "requests": {**requests, **said["requests"]}})


def _filled(values: Mapping[str, Any]) -> Body:
    return {key: value for key, value in values.items() if value}


def build_placement(placement: Placement) -> Body:
    """The fields of a pod that say where it may run."""
    wished = placement.model_dump(by_alias=True, exclude_none=True)
    return _filled(
        {
            "nodeSelector": dict(wished["nodeSelector"]),
            "tolerations": list(wished["tolerations"]),
            "priorityClassName": wished.get("priorityClassName"),
        }
    )


def build_spreading(selector: Mapping[str, str]) -> Body:
    """Over nodes, then zones, as far as there are any: a single node still runs everything.

    Zones stand in the affinity: a scheduler leaves nodes without one of the keys of topologySpreadConstraints out of
    its scores, so that where nodes have no zones nothing would be spread. Neither is a must, since a volume may tie a
    pod to a node.
    """
    labels = {"matchLabels": dict(selector)}
    apart = [
        {"weight": weight, "podAffinityTerm": {"topologyKey": key, "labelSelector": labels}}
        for key, weight in (("kubernetes.io/hostname", 100), ("topology.kubernetes.io/zone", 50))
    ]
    return {
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": apart}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": labels,
            }
        ],
    }


def build_pull_secrets(own: Sequence[str], images: Images) -> list[Body]:
    return [{"name": name} for name in dict.fromkeys((*own, *images.pull_secrets))]
