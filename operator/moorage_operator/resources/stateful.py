"""What the stores that the operator runs have in common: volumes that are kept, a name for each server. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.manifest import (
    Body,
    Manifest,
    Phase,
    build_labels,
    build_metadata,
    build_selector,
    hash_content,
)
from moorage_operator.resources.pods import (
    STORE_NEEDS,
    Volume,
    build_container_security,
    build_image,
    build_mounts,
    build_placement,
    build_pod_security,
    build_pull_secrets,
    build_resources,
    build_spreading,
    build_volumes,
)
from moorage_operator.resources.server import SETTINGS_HASH
from moorage_operator.spec.parts import PodTemplate, Storage
from moorage_operator.spec.realm import Manifest as Resource

DATA = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatefulPart:
    """A StatefulSet of servers with one container and one volume each. `service` is its headless Service.

    `volumes` are mounted beside the data; `hashed` rolls the pods when it changes, one after the other; `annotations`
    are the StatefulSet's own.
    """

    resource: Resource
    part: str
    component: str
    service: str
    servers: int
    storage: Storage
    data_path: str
    template: PodTemplate
    image: str
    command: Sequence[str]
    ports: Mapping[str, int]
    probes: Body
    volumes: Sequence[Volume]
    hashed: Any
    grace_seconds: int = 60
    environment: Sequence[Body] = ()
    init_containers: Sequence[Body] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        return build_labels(self.resource, self.part, self.component)


def build_claims(stateful: StatefulPart) -> tuple[Manifest, ...]:
    """The volumes' claims, made by us under the names that the StatefulSet looks for: its own template of claims can
    never change, a claim's size can. They are kept with their data, and found again.
    """
    return tuple(
        Manifest(
            Phase.BASE,
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": build_metadata(
                    stateful.resource, f"{DATA}-{stateful.part}-{number}", stateful.labels, keep=True
                ),
                "spec": _claim(stateful.storage, stateful.storage.size),
            },
        )
        for number in range(stateful.servers)
    )


def _claim(storage: Storage, size: str) -> Body:
    spec: Body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if storage.storage_class is not None:
        spec["storageClassName"] = storage.storage_class
    return spec


def build_headless_service(stateful: StatefulPart) -> Manifest:
    """Names that hold before a server is ready: they need one another to become so."""
    body: Body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(stateful.resource, stateful.service, stateful.labels),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": build_selector(stateful.part),
            "ports": [
                {"name": name, "port": number, "targetPort": name, "protocol": "TCP"}
                for name, number in stateful.ports.items()
            ],
        },
    }
    return Manifest(Phase.BASE, body)


def build_stateful_set(stateful: StatefulPart, context: ClusterContext) -> Manifest:
    """All servers start at once, and are changed one by one: the next only when the one before is ready."""
    volumes = (*stateful.volumes, Volume(DATA, stateful.data_path, {}, read_only=False))
    container: Body = {
        "name": stateful.component,
        **build_image(stateful.image),
        "command": list(stateful.command),
        "ports": [
            {"name": name, "containerPort": number, "protocol": "TCP"}
            for name, number in stateful.ports.items()
        ],
        "securityContext": build_container_security(),
        "volumeMounts": build_mounts(volumes),
        "resources": build_resources(stateful.template.resources, STORE_NEEDS),
        **stateful.probes,
    }
    if stateful.environment:
        container["env"] = list(stateful.environment)
    pod: Body = {
        "serviceAccountName": stateful.part,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": build_pod_security(),
        "terminationGracePeriodSeconds": stateful.grace_seconds,
        **build_spreading(build_selector(stateful.part)),
        "containers": [container],
        "volumes": build_volumes(stateful.volumes),
        **build_placement(stateful.template.placement),
    }
    if stateful.init_containers:
        pod["initContainers"] = list(stateful.init_containers)
    own = [reference.name for reference in stateful.template.image_pull_secrets]
    if pull_secrets := build_pull_secrets(own, context.images):
        pod["imagePullSecrets"] = pull_secrets
    annotations = {**stateful.template.annotations, SETTINGS_HASH: hash_content(stateful.hashed)}
    claim: Body = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": DATA},
        # The claims that count are our own; this one, for a volume that is lost before we make its claim anew, must
        # never change.
        "spec": _claim(stateful.storage, context.claim_sizes.get(stateful.part, stateful.storage.size)),
    }
    spec: Body = {
        "replicas": 0 if stateful.resource.spec.hibernated else stateful.servers,
        "serviceName": stateful.service,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "minReadySeconds": 5,
        "revisionHistoryLimit": 3,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "selector": {"matchLabels": build_selector(stateful.part)},
        "template": {"metadata": {"labels": stateful.labels, "annotations": annotations}, "spec": pod},
        "volumeClaimTemplates": [claim],
    }
    body: Body = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": build_metadata(
            stateful.resource, stateful.part, stateful.labels, annotations=stateful.annotations
        ),
        "spec": spec,
    }
    return Manifest(Phase.STORES, body)
