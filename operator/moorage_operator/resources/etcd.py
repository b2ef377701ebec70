"""The etcd of a metadata cluster where the operator runs it: members, their names, their volumes. Pure.

A member's init container (`moorage-nodes etcd-member`) decides how it begins; etcd itself is the plain image.
"""

from moorage_operator.resources.context import ClusterContext, EtcdState
from moorage_operator.resources.manifest import (
    APP,
    NAME,
    Body,
    Manifest,
    Phase,
    build_labels,
    build_metadata,
    build_selector,
)
from moorage_operator.resources.names import (
    etcd_client_secret,
    etcd_member,
    etcd_part,
    etcd_peer_secret,
    etcd_server_secret,
    etcd_state,
    settings_of,
)
from moorage_operator.resources.pods import (
    Volume,
    build_container_security,
    build_image,
    build_mounts,
    config_volume,
    http_probe,
    scratch_volume,
    secret_volume,
)
from moorage_operator.resources.server import (
    METRICS_NAMESPACE,
    OPERATOR_APP,
    build_disruption_budget,
    build_ingress_policy,
    build_service_account,
    build_settings_map,
)
from moorage_operator.resources.stateful import (
    DATA,
    StatefulPart,
    build_claims,
    build_headless_service,
    build_stateful_set,
)
from moorage_operator.resources.wiring import (
    ETCD_CLIENT_PORT,
    SETTINGS_FILE,
    SETTINGS_FOLDER,
    service_host,
)
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.parts import ManagedEtcd
from moorage_operator.spec.scalars import parse_quantity

PEER_PORT = 2380
METRICS_PORT = 2381
BUNDLE = "moorage.dev/bundle"
"""Annotation of the StatefulSet: the revision of what its newest template has members trust."""
"""Plain HTTP: `/livez`, `/readyz`, `/health` and `/metrics`, no keys and no values."""
DATA_PATH = "/var/lib/etcd"
RUN_FOLDER = "/run/etcd"
STATE_FOLDER = "/etc/moorage/etcd-state"
TLS_FOLDERS = {
    "server": "/etc/moorage/etcd-server",
    "peer": "/etc/moorage/etcd-peer",
    "client": "/etc/moorage/etcd-client",
}
LARGEST_QUOTA = 8 * 1024**3
"""What etcd is tested with at most."""


def build_etcd_objects(
    cluster: MetadataCluster, managed: ManagedEtcd, context: ClusterContext
) -> tuple[Manifest, ...]:
    """Every object of a managed etcd; its certificates are Secrets that are made apart (`pki_secrets`)."""
    name = cluster.metadata.name
    part = etcd_part(name)
    labels = build_labels(cluster, part, "etcd")
    state = context.etcd.get(name, EtcdState())
    settings = build_member_settings(cluster, managed)
    prepare = _preparing_volumes(name, part)
    volumes = (*prepare, scratch_volume("tmp", "/tmp", "16Mi"))  # noqa: S108 - a volume of the pod's own
    stateful = StatefulPart(
        resource=cluster,
        part=part,
        component="etcd",
        service=part,
        servers=managed.replicas,
        storage=managed.storage,
        data_path=DATA_PATH,
        template=managed.template,
        image=managed.template.image or context.images.etcd,
        command=("/usr/local/bin/etcd", f"--config-file={RUN_FOLDER}/etcd.json"),
        ports={"client": ETCD_CLIENT_PORT, "peer": PEER_PORT, "metrics": METRICS_PORT},
        probes={
            # A member that catches up from a snapshot may take long, and is alive.
            "startupProbe": http_probe("/livez", "metrics", period=5, timeout=5, failures=120),
            "livenessProbe": http_probe("/livez", "metrics", period=10, timeout=5, failures=6),
            "readinessProbe": http_probe("/readyz", "metrics", period=5, timeout=5, failures=2),
        },
        volumes=volumes,
        hashed=[settings, state.bundle_revision],
        annotations={BUNDLE: str(state.bundle_revision)},
        init_containers=(_build_preparation(context, prepare),),
    )
    return (
        _build_state(cluster, labels, state),
        *build_claims(stateful),
        build_service_account(cluster, part, labels),
        build_headless_service(stateful),
        _build_policy(cluster, part, labels),
        build_disruption_budget(cluster, part, labels, evict_broken=False),
        build_settings_map(cluster, part, labels, settings, Phase.STORES),
        build_stateful_set(stateful, context),
    )


def build_member_settings(cluster: MetadataCluster, managed: ManagedEtcd) -> Body:
    """The settings of `moorage-nodes etcd-member`; their model lives with it."""
    name, namespace = cluster.metadata.name, cluster.metadata.namespace
    size = int(parse_quantity(managed.storage.size))
    return {
        "role": "etcd-member",
        "token": f"{namespace}-{name}",
        "members": [etcd_member(name, number) for number in range(managed.replicas)],
        "host": "{member}." + service_host(etcd_part(name), namespace),
        "client_port": ETCD_CLIENT_PORT,
        "peer_port": PEER_PORT,
        "metrics_url": f"http://0.0.0.0:{METRICS_PORT}",
        # Below the volume's root, which may hold a file system's own folders.
        "data_dir": f"{DATA_PATH}/{DATA}",
        "conf_file": f"{RUN_FOLDER}/etcd.json",
        "state_file": f"{STATE_FOLDER}/founded",
        "tls": TLS_FOLDERS,
        # The log and snapshots need room beside the database.
        "quota_bytes": min(LARGEST_QUOTA, size * 3 // 4),
    }


def _preparing_volumes(name: str, part: str) -> tuple[Volume, ...]:
    return (
        config_volume("settings", SETTINGS_FOLDER, settings_of(part)),
        config_volume("state", STATE_FOLDER, etcd_state(name)),
        secret_volume("server", TLS_FOLDERS["server"], etcd_server_secret(name)),
        secret_volume("peer", TLS_FOLDERS["peer"], etcd_peer_secret(name)),
        secret_volume("client", TLS_FOLDERS["client"], etcd_client_secret(name)),
        scratch_volume("run", RUN_FOLDER, "1Mi"),
    )


def _build_preparation(context: ClusterContext, volumes: tuple[Volume, ...]) -> Body:
    """The init container that looks at the member's data and at the others, and writes etcd's configuration."""
    data = Volume(DATA, DATA_PATH, {}, read_only=False)
    return {
        "name": "member",
        **build_image(context.images.nodes),
        "command": ["moorage-nodes", "etcd-member", "--settings", SETTINGS_FILE],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "securityContext": build_container_security(),
        "volumeMounts": build_mounts((*volumes, data)),
    }


def _build_state(cluster: MetadataCluster, labels: dict[str, str], state: EtcdState) -> Manifest:
    """Kept with the data: a member without data looks here before it would found anything."""
    body: Body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(cluster, etcd_state(cluster.metadata.name), labels, keep=True),
        "data": {"founded": "true" if state.founded else "false"},
    }
    return Manifest(Phase.BASE, body)


def _build_policy(cluster: MetadataCluster, part: str, labels: dict[str, str]) -> Manifest:
    """Clients are servers of ours in this namespace; members speak to members; metrics as everywhere."""
    own: Body = {"podSelector": {"matchLabels": build_selector(part)}}
    ours: Body = {"podSelector": {"matchLabels": {NAME: APP}}}
    operators: Body = {"namespaceSelector": {}, "podSelector": {"matchLabels": {NAME: OPERATOR_APP}}}
    monitors: Body = {"namespaceSelector": {"matchLabels": {METRICS_NAMESPACE: "allowed"}}}
    rules: list[Body] = [
        {"ports": [{"port": "client", "protocol": "TCP"}], "from": [ours]},
        {"ports": [{"port": "peer", "protocol": "TCP"}], "from": [own]},
        {"ports": [{"port": "metrics", "protocol": "TCP"}], "from": [operators, monitors]},
    ]
    return build_ingress_policy(cluster, part, labels, rules)
