"""Where everything is in a cluster: services by name, files by the path where pods mount them. Pure."""

import dataclasses

from moorage_operator.naming import (
    AUTH,
    METADATA_TIERS,
    bucket_name,
    gc_service,
    notify_service,
    tier_service,
)
from moorage_operator.plan import EtcdTarget, StoreTarget, Wiring, etcd_prefix, plan_services
from moorage_operator.resources.names import (
    etcd_client_secret,
    etcd_member,
    etcd_part,
    parts_by_service,
    store_part,
)
from moorage_operator.resources.pods import INTERNAL_PORT, PUBLIC_PORT
from moorage_operator.spec.blockpool import BlockPool
from moorage_operator.spec.parts import ClusterEtcd, ExternalEtcd, ManagedEtcd, SharedEtcd
from moorage_operator.spec.realm import Realm

SETTINGS_FOLDER = "/etc/moorage/settings"
SETTINGS_FILE = f"{SETTINGS_FOLDER}/settings.json"
LIVE_FOLDER = "/etc/moorage/live"
SIGNING_FOLDER = "/etc/moorage/signing"
ADMIN_FOLDER = "/etc/moorage/admin"
ETCD_FOLDER = "/etc/moorage/etcd"
STORE_FOLDER = "/etc/moorage/store"
STORE_CA_FOLDER = "/etc/moorage/store-ca"

STORE_PORT = 9000
ETCD_CLIENT_PORT = 2379
DEFAULT_PREFIX = "/moorage/"
DRAIN_SECONDS = 5.0
"""How long a server serves on after SIGTERM: until proxies and peers no longer choose it."""


def service_host(name: str, namespace: str) -> str:
    """The name of a Service that holds in every cluster, whatever its domain."""
    return f"{name}.{namespace}.svc"


def internal_url(part: str, namespace: str) -> str:
    return f"http://{service_host(part, namespace)}:{INTERNAL_PORT}"


def public_address(part: str, namespace: str) -> str:
    return f"{service_host(part, namespace)}:{PUBLIC_PORT}"


def build_wiring(realm: Realm) -> Wiring:
    """The realm's services as pods find them. Secrets are named by the folder where they are mounted."""
    namespace = realm.access_point.metadata.namespace
    services = plan_services(realm)
    shared = realm.access_point.spec.auth.etcd
    etcd = {AUTH: resolve_shared_etcd(shared, realm)}
    for cluster in realm.clusters:
        target = resolve_cluster_etcd(cluster.metadata.name, cluster.spec.etcd, namespace)
        etcd |= {tier_service(tier, cluster.spec.server_key): target for tier in METADATA_TIERS}
        etcd[gc_service(cluster.spec.server_key)] = target
    for notifier in realm.notifiers:
        etcd[notify_service(notifier.metadata.name)] = resolve_shared_etcd(notifier.spec.etcd, realm)
    return Wiring(
        internal_urls={
            service: (internal_url(part, namespace),) for service, part in parts_by_service(realm).items()
        },
        etcd={
            service.name: _below(etcd[service.name], etcd_prefix(service))
            for service in services
            if service.name in etcd
        },
        stores={pool.metadata.name: resolve_store(pool) for pool in realm.pools},
        signing_keys={service.name: f"{SIGNING_FOLDER}/private.pem" for service in services},
        routing_file=f"{LIVE_FOLDER}/routing.json",
        trust_file=f"{LIVE_FOLDER}/trust.json",
        admin_token_file=f"{ADMIN_FOLDER}/token",
        drain_seconds=DRAIN_SECONDS,
    )


def resolve_cluster_etcd(cluster: str, etcd: ClusterEtcd, namespace: str) -> EtcdTarget:
    """Where the etcd of a cluster is; `prefix` is what its owner has given to us as a whole."""
    if etcd.external is not None:
        return _external(etcd.external)
    members = (etcd.managed or ManagedEtcd()).replicas
    hosts = etcd_member_hosts(cluster, namespace, members)
    return _with_tls(tuple(f"https://{host}:{ETCD_CLIENT_PORT}" for host in hosts), DEFAULT_PREFIX)


def etcd_member_hosts(cluster: str, namespace: str, members: int) -> tuple[str, ...]:
    """Each member's own name: clients know them all and leave one that fails."""
    service = service_host(etcd_part(cluster), namespace)
    return tuple(f"{etcd_member(cluster, number)}.{service}" for number in range(members))


def resolve_shared_etcd(etcd: SharedEtcd, realm: Realm) -> EtcdTarget:
    if etcd.external is not None:
        return _external(etcd.external)
    assert etcd.cluster is not None  # the model says so
    cluster = next(c for c in realm.clusters if c.metadata.name == etcd.cluster.name)
    return resolve_cluster_etcd(cluster.metadata.name, cluster.spec.etcd, cluster.metadata.namespace)


def etcd_tls_secret(cluster: str, etcd: ClusterEtcd) -> str | None:
    """The Secret that clients of a cluster's etcd mount; None where there is no TLS of ours."""
    if etcd.external is not None:
        return _secret_of(etcd.external)
    return etcd_client_secret(cluster)


def shared_etcd_tls_secret(etcd: SharedEtcd, realm: Realm) -> str | None:
    if etcd.external is not None:
        return _secret_of(etcd.external)
    assert etcd.cluster is not None  # the model says so
    cluster = next(c for c in realm.clusters if c.metadata.name == etcd.cluster.name)
    return etcd_tls_secret(cluster.metadata.name, cluster.spec.etcd)


def resolve_store(pool: BlockPool) -> StoreTarget:
    """The bucket of a pool, with the folder where its credentials are mounted."""
    external = pool.spec.store.external
    if external is not None:
        return StoreTarget(
            endpoint=external.endpoint,
            bucket=external.bucket,
            credentials_file=STORE_FOLDER,
            region=external.region,
            prefix=external.prefix,
            ca_file=f"{STORE_CA_FOLDER}/ca.crt" if external.ca_secret_ref else None,
        )
    host = service_host(store_part(pool.metadata.name), pool.metadata.namespace)
    return StoreTarget(f"http://{host}:{STORE_PORT}", bucket_name(pool.metadata.name), STORE_FOLDER)


def _secret_of(external: ExternalEtcd) -> str | None:
    return external.tls_secret_ref.name if external.tls_secret_ref else None


def _external(etcd: ExternalEtcd) -> EtcdTarget:
    if etcd.tls_secret_ref is None:
        return EtcdTarget(etcd.endpoints, etcd.prefix)
    return _with_tls(etcd.endpoints, etcd.prefix)


def _with_tls(endpoints: tuple[str, ...], prefix: str) -> EtcdTarget:
    return EtcdTarget(
        endpoints,
        prefix,
        ca_file=f"{ETCD_FOLDER}/ca.crt",
        cert_file=f"{ETCD_FOLDER}/tls.crt",
        key_file=f"{ETCD_FOLDER}/tls.key",
    )


def _below(target: EtcdTarget, service_prefix: str) -> EtcdTarget:
    """The keys of one service below the prefix of the whole: `/team/` and `/moorage/auth/` make `/team/auth/`."""
    prefix = target.prefix.rstrip("/") + service_prefix.removeprefix(DEFAULT_PREFIX.rstrip("/"))
    return dataclasses.replace(target, prefix=prefix)
