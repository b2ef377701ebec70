"""The store of a pool: the S3 server that the operator runs, and the preflight of any. Pure."""

import base64
from collections.abc import Mapping

from moorage_operator.plan import build_store_settings
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
)
from moorage_operator.resources.names import (
    preflight_part,
    settings_of,
    store_credentials,
    store_part,
    store_servers,
)
from moorage_operator.resources.pods import (
    Volume,
    config_volume,
    http_probe,
    scratch_volume,
    secret_volume,
)
from moorage_operator.resources.server import (
    METRICS_NAMESPACE,
    Workload,
    build_disruption_budget,
    build_ingress_policy,
    build_pod_template,
    build_service_account,
    build_settings_map,
)
from moorage_operator.resources.stateful import (
    StatefulPart,
    build_claims,
    build_headless_service,
    build_stateful_set,
)
from moorage_operator.resources.wiring import (
    SETTINGS_FILE,
    SETTINGS_FOLDER,
    STORE_CA_FOLDER,
    STORE_FOLDER,
    STORE_PORT,
    resolve_store,
    service_host,
)
from moorage_operator.spec.blockpool import BlockPool, ManagedStore

DATA_PATH = "/data"
PREFLIGHT_SECONDS = 60
MANAGED_SECONDS = 300
"""For a store that starts beside its preflight: an image to pull, volumes to make."""
RETRIES = 1_000_000
"""Of the preflight: it is tried until it succeeds, ever more rarely, since what is wrong may be put right unseen."""


def store_volumes(pool: BlockPool) -> tuple[Volume, ...]:
    """What a client of the pool's store mounts: its credentials, and the authority of its certificate."""
    external = pool.spec.store.external
    secret = external.credentials_secret_ref.name if external else store_credentials(pool.metadata.name)
    volumes = [secret_volume("store", STORE_FOLDER, secret)]
    if external and external.ca_secret_ref:
        volumes.append(secret_volume("store-ca", STORE_CA_FOLDER, external.ca_secret_ref.name))
    return tuple(volumes)


def build_credentials_secret(access_key_id: str, secret_access_key: str) -> dict[str, str]:
    """Data of the generated Secret of a managed store: as its clients read it, and as MinIO does."""
    texts: Mapping[str, str] = {
        "access_key_id": access_key_id,
        "secret_access_key": secret_access_key,
        "config.env": (
            f"MINIO_ROOT_USER={access_key_id}\nMINIO_ROOT_PASSWORD={secret_access_key}\nMINIO_BROWSER=off\n"
        ),
    }
    return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}


def build_managed_store(
    pool: BlockPool, managed: ManagedStore, context: ClusterContext
) -> tuple[Manifest, ...]:
    """MinIO: one server, or at least four that spread the data and go on without one."""
    name, namespace = pool.metadata.name, pool.metadata.namespace
    part = store_part(name)
    labels = build_labels(pool, part, "store")
    volumes = (
        secret_volume("credentials", STORE_FOLDER, store_credentials(name)),
        scratch_volume("tmp", "/tmp", "16Mi"),  # noqa: S108 - a volume of the pod's own
    )
    stateful = StatefulPart(
        resource=pool,
        part=part,
        component="store",
        service=store_servers(name),
        servers=managed.servers,
        storage=managed.storage,
        data_path=DATA_PATH,
        template=managed.template,
        image=managed.image,
        command=(
            "minio",
            "server",
            "--quiet",
            f"--address=:{STORE_PORT}",
            "--certs-dir=/tmp/certs",
            _drives(name, namespace, managed.servers),
        ),
        ports={"s3": STORE_PORT},
        probes={
            "startupProbe": http_probe("/minio/health/live", "s3", period=5, timeout=5, failures=60),
            "livenessProbe": http_probe("/minio/health/live", "s3", period=10, timeout=5, failures=6),
            "readinessProbe": http_probe("/minio/health/ready", "s3", period=5, timeout=5, failures=2),
        },
        volumes=volumes,
        hashed=managed.servers,
        # A file holds the root credentials: a variable or an argument could be read by others.
        environment=({"name": "MINIO_CONFIG_ENV_FILE", "value": f"{STORE_FOLDER}/config.env"},),
    )
    return (
        *build_claims(stateful),
        build_service_account(pool, part, labels),
        _build_store_service(pool, part, labels),
        build_headless_service(stateful),
        _build_policy(pool, part, labels),
        build_disruption_budget(pool, part, labels, evict_broken=False),
        build_stateful_set(stateful, context),
    )


def _drives(pool: str, namespace: str, servers: int) -> str:
    if servers == 1:
        return DATA_PATH
    host = service_host(store_servers(pool), namespace)
    return f"http://{store_part(pool)}-{{0...{servers - 1}}}.{host}:{STORE_PORT}{DATA_PATH}"


def _build_store_service(pool: BlockPool, part: str, labels: Mapping[str, str]) -> Manifest:
    body: Body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(pool, part, labels),
        "spec": {
            "type": "ClusterIP",
            "selector": build_selector(part),
            "ports": [{"name": "s3", "port": STORE_PORT, "targetPort": "s3", "protocol": "TCP"}],
        },
    }
    return Manifest(Phase.BASE, body)


def _build_policy(pool: BlockPool, part: str, labels: Mapping[str, str]) -> Manifest:
    """Clients, and the servers among themselves, are pods of ours in this namespace."""
    sources: list[Body] = [
        {"podSelector": {"matchLabels": {NAME: APP}}},
        {"namespaceSelector": {"matchLabels": {METRICS_NAMESPACE: "allowed"}}},
    ]
    rules: list[Body] = [{"ports": [{"port": "s3", "protocol": "TCP"}], "from": sources}]
    return build_ingress_policy(pool, part, labels, rules)


def build_preflight(pool: BlockPool, context: ClusterContext) -> tuple[Manifest, ...]:
    """A Job that tries everything that block servers will ask of the store, in the tenant's namespace: the operator
    never sees the credentials. Its pod's termination message is the result as JSON.

    A Job cannot change, so its name holds what it was made of.
    """
    part = preflight_part(pool.metadata.name)
    labels = build_labels(pool, part, "preflight")
    managed = pool.spec.store.managed is not None
    settings: Body = {
        "role": "preflight",
        "s3": build_store_settings(resolve_store(pool)),
        "make_bucket": managed,
        "seconds": MANAGED_SECONDS if managed else PREFLIGHT_SECONDS,
        "result_file": "/dev/termination-log",
    }
    workload = Workload(
        resource=pool,
        part=part,
        component="preflight",
        phase=Phase.STORES,
        template=pool.spec.template,
        replicas=None,
        hibernated=False,
        command=("moorage-nodes", "preflight", "--settings", SETTINGS_FILE),
        ports=(),
        probes={},
        volumes=(
            config_volume("settings", SETTINGS_FOLDER, settings_of(part)),
            *store_volumes(pool),
            scratch_volume("tmp", "/tmp"),  # noqa: S108 - a volume of the pod's own
        ),
        hashed=settings,
        grace_seconds=5,
    )
    template = build_pod_template(workload, context)
    template["spec"]["restartPolicy"] = "OnFailure"
    del template["spec"]["affinity"], template["spec"]["topologySpreadConstraints"]
    body: Body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": build_metadata(pool, f"{part}-{hash_content(template)[:8]}", labels),
        "spec": {"backoffLimit": RETRIES, "template": template},
    }
    return (
        build_service_account(pool, part, labels),
        build_settings_map(pool, part, labels, settings, Phase.STORES),
        Manifest(Phase.STORES, body),
    )
