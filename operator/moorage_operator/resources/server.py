"""What every server of ours is in a cluster: settings, Deployment, Service, PDB, NetworkPolicy, ServiceAccount. Pure.

Static settings are hashed into the pod template, so a change rolls the pods; live files (routing, trust) and
Secrets are mounted as folders and followed by the servers, so a change of them does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moorage_operator.plan import Listen, Service, Wiring, build_settings
from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.manifest import (
    APP,
    NAME,
    Body,
    Manifest,
    Phase,
    build_labels,
    build_metadata,
    build_selector,
    hash_content,
    render_json,
)
from moorage_operator.resources.names import live_files, part_of, settings_of, signing_secret
from moorage_operator.resources.pods import (
    INTERNAL_PORT,
    PUBLIC_PORT,
    SERVER_NEEDS,
    Volume,
    build_container_security,
    build_image,
    build_mounts,
    build_placement,
    build_pod_security,
    build_probes,
    build_pull_secrets,
    build_resources,
    build_server_ports,
    build_spreading,
    build_volumes,
    config_volume,
    scratch_volume,
    secret_volume,
)
from moorage_operator.resources.wiring import LIVE_FOLDER, SETTINGS_FILE, SETTINGS_FOLDER, SIGNING_FOLDER
from moorage_operator.spec.parts import Template
from moorage_operator.spec.realm import Manifest as Resource
from moorage_operator.spec.realm import Realm

SETTINGS_HASH = "moorage.dev/settings-hash"
ACCESS_POINT = "moorage.dev/access-point"
METRICS_NAMESPACE = "moorage.dev/metrics"
"""Label of namespaces that may reach the internal ports: where Prometheus runs."""
OPERATOR_APP = "moorage-operator"
GRACE_SECONDS = 45
"""From SIGTERM to SIGKILL: more than the drain and what is in flight then may take together."""
PHASES: Mapping[str, Phase] = {
    "l3": Phase.L3,
    "l2": Phase.L2,
    "l1": Phase.L1,
    "block": Phase.BLOCK,
    "notify": Phase.NOTIFY,
    "auth": Phase.AUTH,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A Deployment of equal pods with one container. `replicas` None: the number is not ours.

    `hashed`: what rolls the pods when it changes. `pod_labels` are added to those of the part.
    """

    resource: Resource
    part: str
    component: str
    phase: Phase
    template: Template
    replicas: int | None
    hibernated: bool
    command: Sequence[str]
    ports: Sequence[Body]
    probes: Body
    volumes: Sequence[Volume]
    hashed: Any
    grace_seconds: int = GRACE_SECONDS
    pod_labels: Mapping[str, str] | None = None

    @property
    def labels(self) -> dict[str, str]:
        return build_labels(self.resource, self.part, self.component)


def build_server_objects(
    resource: Resource,
    service: Service,
    template: Template,
    replicas: int | None,
    realm: Realm,
    context: ClusterContext,
    wiring: Wiring,
    secrets: Sequence[Volume] = (),
) -> tuple[Manifest, ...]:
    """All objects of one service. `secrets`: what is mounted beside its settings, live files and signing key."""
    part = part_of(service, realm)
    phase = PHASES[service.role]
    listen = Listen("0.0.0.0", PUBLIC_PORT, INTERNAL_PORT)  # noqa: S104 - a pod's own network
    settings = build_settings(service, part, listen, realm, wiring)
    labels = build_labels(resource, part, service.role)
    access_point = realm.access_point.metadata.name
    workload = Workload(
        resource=resource,
        part=part,
        component=service.role,
        phase=phase,
        template=template,
        replicas=replicas,
        hibernated=resource.spec.hibernated,
        command=("moorage-nodes", service.role, "--settings", SETTINGS_FILE),
        ports=build_server_ports(),
        probes=build_probes(),
        volumes=(
            config_volume("settings", SETTINGS_FOLDER, settings_of(part)),
            config_volume("live", LIVE_FOLDER, live_files(access_point)),
            secret_volume("signing", SIGNING_FOLDER, signing_secret(part)),
            *secrets,
            scratch_volume("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        ),
        hashed=settings,
        pod_labels={ACCESS_POINT: access_point},
    )
    return (
        build_service_account(resource, part, labels),
        build_service(resource, part, labels),
        build_network_policy(resource, part, labels),
        build_disruption_budget(resource, part, labels),
        build_settings_map(resource, part, labels, settings, phase),
        build_deployment(workload, context),
    )


def build_service_account(resource: Resource, part: str, labels: Mapping[str, str]) -> Manifest:
    """An identity without rights: nothing of ours but the operator speaks to the API server."""
    body: Body = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": build_metadata(resource, part, labels),
        "automountServiceAccountToken": False,
    }
    return Manifest(Phase.BASE, body)


def build_service(resource: Resource, part: str, labels: Mapping[str, str]) -> Manifest:
    """Both ports of the servers: `public` for the proxy, `internal` for peers, probes and metrics."""
    ports = [
        {"name": name, "port": number, "targetPort": name, "protocol": "TCP", "appProtocol": "http"}
        for name, number in (("public", PUBLIC_PORT), ("internal", INTERNAL_PORT))
    ]
    body: Body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(resource, part, labels),
        "spec": {"type": "ClusterIP", "selector": build_selector(part), "ports": ports},
    }
    return Manifest(Phase.BASE, body)


def build_network_policy(resource: Resource, part: str, labels: Mapping[str, str]) -> Manifest:
    """Who may connect: to the public port anybody (an ingress controller may be anywhere, and each route says whom it
    lets in); to the internal port servers of ours in this namespace, operators, and namespaces with a label.
    """
    inside: list[Body] = [
        {"podSelector": {"matchLabels": {NAME: APP}}},
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {NAME: OPERATOR_APP}}},
        {"namespaceSelector": {"matchLabels": {METRICS_NAMESPACE: "allowed"}}},
    ]
    rules: list[Body] = [
        {"ports": [{"port": "public", "protocol": "TCP"}]},
        {"ports": [{"port": "internal", "protocol": "TCP"}], "from": inside},
    ]
    return build_ingress_policy(resource, part, labels, rules)


def build_ingress_policy(
    resource: Resource, part: str, labels: Mapping[str, str], rules: Sequence[Body]
) -> Manifest:
    """Only `rules` let a connection in; what the pods connect to (external stores, DNS) is not restricted."""
    body: Body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": build_metadata(resource, part, labels),
        "spec": {
            "podSelector": {"matchLabels": build_selector(part)},
            "policyTypes": ["Ingress"],
            # An empty list is dropped by the API server: applied again and again, it would be a change each time.
            **({"ingress": list(rules)} if rules else {}),
        },
    }
    return Manifest(Phase.BASE, body)


def build_disruption_budget(
    resource: Resource, part: str, labels: Mapping[str, str], *, evict_broken: bool = True
) -> Manifest:
    """One pod at a time leaves a node that is drained. `evict_broken`: pods that are not ready do not hold it up."""
    body: Body = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": build_metadata(resource, part, labels),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": build_selector(part)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow" if evict_broken else "IfHealthyBudget",
        },
    }
    return Manifest(Phase.BASE, body)


def build_settings_map(
    resource: Resource, part: str, labels: Mapping[str, str], settings: Mapping[str, Any], phase: Phase
) -> Manifest:
    body: Body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(resource, settings_of(part), labels),
        "data": {"settings.json": render_json(settings)},
    }
    return Manifest(phase, body)


def build_deployment(workload: Workload, context: ClusterContext) -> Manifest:
    """New pods come up before old ones go, one at a time. `replicas` is owned only where somebody named it."""
    spec: Body = {
        "selector": {"matchLabels": build_selector(workload.part)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 600,
        "template": build_pod_template(workload, context),
    }
    if workload.hibernated:
        spec["replicas"] = 0
    elif workload.replicas is not None:
        spec["replicas"] = workload.replicas
    body: Body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": build_metadata(workload.resource, workload.part, workload.labels),
        "spec": spec,
    }
    return Manifest(workload.phase, body, None if "replicas" in spec else INITIAL_REPLICAS)


INITIAL_REPLICAS = 2


def build_pod_template(workload: Workload, context: ClusterContext) -> Body:
    """Labels, annotations and pod spec of a Deployment's or a CronJob's pods."""
    template = workload.template
    container: Body = {
        "name": workload.component,
        **build_image(template.image or context.images.nodes),
        "command": list(workload.command),
        "securityContext": build_container_security(),
        "volumeMounts": build_mounts(workload.volumes),
        "resources": build_resources(template.resources, SERVER_NEEDS),
        **workload.probes,
    }
    if workload.ports:
        container["ports"] = list(workload.ports)
    spec: Body = {
        "serviceAccountName": workload.part,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": build_pod_security(),
        "terminationGracePeriodSeconds": workload.grace_seconds,
        **build_spreading(build_selector(workload.part)),
        "containers": [container],
        "volumes": build_volumes(workload.volumes),
        **build_placement(template.placement),
    }
    own = [reference.name for reference in template.image_pull_secrets]
    if pull_secrets := build_pull_secrets(own, context.images):
        spec["imagePullSecrets"] = pull_secrets
    return {
        "metadata": {
            "labels": {**workload.labels, **(workload.pod_labels or {})},
            "annotations": {**template.annotations, SETTINGS_HASH: hash_content(workload.hashed)},
        },
        "spec": spec,
    }
