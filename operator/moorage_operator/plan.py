"""From a realm to its servers: which there are, what each is told, who trusts whom, which names clients learn.

Both targets use it: `moorage up` carries the services out as processes, the operator as Deployments. A server's
settings are built as data (their model lives with the servers); what only the target knows comes in as `Wiring`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from moorage.core.routing import ClusterRoute, RoutingTable
from moorage_operator.naming import (
    AUTH,
    METADATA_TIERS,
    auth_prefix,
    block_service,
    check_service,
    gc_service,
    metadata_prefix,
    notifier_prefix,
    notify_service,
    tier_service,
)
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.notifier import Notifier
from moorage_operator.spec.realm import Realm
from moorage_operator.spec.scalars import parse_duration

Role = Literal["auth", "l1", "l2", "l3", "block", "notify", "gc", "check", "operator"]

UPLOAD_IDLE_SECONDS = 24 * 3600

# What each role's key may sign (PROTOCOL.md; the words are the tokens' audiences).
_AUDIENCES: Mapping[Role, tuple[str, ...]] = {
    "auth": ("moorage:access", "moorage:refresh"),
    "l1": (
        "moorage:upload",
        "moorage:service:auth",
        "moorage:service:l2",
        "moorage:service:l3",
        "moorage:service:block",
        "moorage:service:notify",
    ),
    "l2": ("moorage:download", "moorage:service:auth"),
    "l3": ("moorage:service:auth",),
    "block": ("moorage:service:l2", "moorage:service:l3"),
    "notify": ("moorage:service:auth", "moorage:service:l1"),
    # It alone may have block servers take bytes away.
    "gc": ("moorage:collector", "moorage:service:auth"),
    "check": ("moorage:checker",),
    # What it asks of every server's `/status`.
    "operator": ("moorage:operator",),
}


@dataclass(frozen=True, slots=True)
class Service:
    """One role of one owner, served by any number of equal servers. `owner` is a server key, a pool, a
    notifier, or empty.
    """

    role: Role
    name: str
    owner: str = ""


OPERATOR = Service("operator", "operator")
"""Whom the operator speaks as where it asks servers of a realm: no server runs for it, but it has a key."""


@dataclass(frozen=True, slots=True)
class EtcdTarget:
    """Where keys are. TLS when `ca_file` is set; the files are named to the servers by path."""

    endpoints: tuple[str, ...]
    prefix: str
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True, slots=True)
class StoreTarget:
    """The bucket of a pool; `credentials_file` is named to its block servers."""

    endpoint: str
    bucket: str
    credentials_file: str
    region: str = "us-east-1"
    prefix: str = ""
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the target knows: where services and stores are, and where the files lie that servers are told of.

    `internal_urls`: service → base URLs of its servers' internal ports. `etcd`: service → where its keys are.
    `signing_keys`: service → path of its private key.
    """

    internal_urls: Mapping[str, tuple[str, ...]]
    etcd: Mapping[str, EtcdTarget]
    stores: Mapping[str, StoreTarget]
    signing_keys: Mapping[str, str]
    routing_file: str
    trust_file: str
    admin_token_file: str
    drain_seconds: float


@dataclass(frozen=True, slots=True)
class Listen:
    host: str
    public: int
    internal: int


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public part of a service's signing key; `kid` is its RFC 7638 thumbprint."""

    service: str
    kid: str
    pem: str


def plan_services(realm: Realm) -> tuple[Service, ...]:
    """Every service of the realm, in the order in which they are upgraded: L3, L2, L1, block, notify, auth; collectors
    last.
    """
    keys = [cluster.spec.server_key for cluster in realm.clusters]
    tiers: list[Service] = []
    for tier in reversed(METADATA_TIERS):
        tiers += [Service(tier, tier_service(tier, key), key) for key in keys]
    pools = [pool.metadata.name for pool in realm.pools]
    notifiers = [notifier.metadata.name for notifier in realm.notifiers]
    return (
        *tiers,
        *(Service("block", block_service(pool), pool) for pool in pools),
        *(Service("notify", notify_service(name), name) for name in notifiers),
        Service("auth", AUTH),
        *(Service("gc", gc_service(key), key) for key in keys),
    )


def plan_checks(realm: Realm) -> tuple[Service, ...]:
    """Whom fsck and scrub run as, one of each metadata cluster: no server runs for them, but they have keys."""
    keys = [cluster.spec.server_key for cluster in realm.clusters]
    return tuple(Service("check", check_service(key), key) for key in keys)


def build_routing_table(realm: Realm, hosts: tuple[str, ...], revision: int) -> RoutingTable:
    """The one value that `/get_servers` and the proxy follow."""
    return RoutingTable(
        revision=revision,
        hosts=hosts,
        clusters=tuple(
            ClusterRoute(
                server_key=cluster.spec.server_key,
                pools=tuple(pool.name for pool in cluster.spec.block_pools),
                write_pools=tuple(pool.name for pool in cluster.spec.block_pools if pool.mode == "ReadWrite"),
                notifiers=_notifiers_of(cluster),
            )
            for cluster in realm.clusters
        ),
    )


def _notifiers_of(cluster: MetadataCluster) -> tuple[str, ...]:
    reference = cluster.spec.notifier_ref
    return () if reference is None else (reference.name,)


def public_hosts(realm: Realm) -> tuple[str, ...]:
    """`host[:port]` of the realm's URLs as a `Host` header spells it, the canonical one first."""
    spec = realm.access_point.spec
    return tuple(dict.fromkeys(_host_of(url) for url in (spec.public_url, *spec.extra_urls)))


def _host_of(url: str) -> str:
    parts = urlsplit(url)
    usual = {"http": ":80", "https": ":443"}[parts.scheme]
    return parts.netloc.removesuffix(usual)


def build_trust(keys: Iterable[PublicKey], services: Iterable[Service], revision: int) -> dict[str, Any]:
    """The trust file: for each service's key, the issuer it signs as and the audiences it may speak for."""
    roles = {service.name: service.role for service in services}
    return {
        "revision": revision,
        "keys": [
            {
                "kid": key.kid,
                "alg": "ES256",
                "public_pem": key.pem,
                "issuer": roles[key.service],
                "audiences": list(_AUDIENCES[roles[key.service]]),
            }
            for key in keys
        ],
    }


def etcd_prefix(service: Service) -> str:
    """What the keys of a service begin with; the three tiers of a cluster are roles over one keyspace."""
    if service.role == "auth":
        return auth_prefix()
    return notifier_prefix(service.owner) if service.role == "notify" else metadata_prefix(service.owner)


def build_settings(
    service: Service, server_name: str, listen: Listen, realm: Realm, wiring: Wiring
) -> dict[str, Any]:
    """The settings file of one server of `service`, as `moorage_nodes.settings` reads it."""
    settings: dict[str, Any] = {
        "role": service.role,
        "name": server_name,
        "listen": {"host": listen.host, "public": listen.public, "internal": listen.internal},
        "routing_file": wiring.routing_file,
        "trust_file": wiring.trust_file,
        "signing_key_file": wiring.signing_keys[service.name],
        "drain_seconds": wiring.drain_seconds,
        "peers": _build_peers(service, realm, wiring),
    }
    if service.name in wiring.etcd:
        settings["etcd"] = build_etcd_settings(wiring.etcd[service.name])
    if service.role == "auth":
        settings["auth"] = _build_auth(realm, wiring)
    elif service.role == "block":
        settings["pool"] = service.owner
        settings["s3"] = build_store_settings(wiring.stores[service.owner])
    elif service.role == "notify":
        notifier = next(one for one in realm.notifiers if one.metadata.name == service.owner)
        settings["notify"] = _build_notify(notifier)
    else:
        settings["cluster"] = _build_cluster(_cluster_of(realm, service.owner))
    if service.role == "gc":
        settings["gc"] = _build_gc(_cluster_of(realm, service.owner))
    return settings


def build_check_settings(check: Service, realm: Realm, wiring: Wiring) -> dict[str, Any]:
    """The settings file of `moorage-nodes fsck` and `scrub` (`moorage_nodes.settings.CheckSettings`).

    It needs no more of `wiring` than the servers of the cluster, and the key of its own.
    """
    cluster = _cluster_of(realm, check.owner)
    return {
        "role": check.role,
        "name": check.name,
        "signing_key_file": wiring.signing_keys[check.name],
        "etcd": build_etcd_settings(wiring.etcd[tier_service("l3", check.owner)]),
        "cluster": _build_cluster(cluster),
        "peers": {"block": _block_peers(cluster, wiring)},
    }


def _block_peers(cluster: MetadataCluster, wiring: Wiring) -> dict[str, list[str]]:
    pools = [pool.name for pool in cluster.spec.block_pools]
    return {pool: list(wiring.internal_urls[block_service(pool)]) for pool in pools}


def build_etcd_settings(target: EtcdTarget) -> dict[str, Any]:
    """The `etcd` section of the servers' settings."""
    files = {"ca_file": target.ca_file, "cert_file": target.cert_file, "key_file": target.key_file}
    named = {name: path for name, path in files.items() if path is not None}
    return {"endpoints": list(target.endpoints), "prefix": target.prefix, **named}


def build_store_settings(store: StoreTarget) -> dict[str, Any]:
    """The `s3` section of the servers' settings."""
    return {
        "endpoint": store.endpoint,
        "region": store.region,
        "bucket": store.bucket,
        "prefix": store.prefix,
        "credentials_file": store.credentials_file,
        **({} if store.ca_file is None else {"ca_file": store.ca_file}),
    }


def _cluster_of(realm: Realm, server_key: str) -> MetadataCluster:
    return next(cluster for cluster in realm.clusters if cluster.spec.server_key == server_key)


def _build_cluster(cluster: MetadataCluster) -> dict[str, Any]:
    retention = cluster.spec.retention
    longest = parse_duration(retention.uploads)
    return {
        "server_key": cluster.spec.server_key,
        "upload_idle": min(UPLOAD_IDLE_SECONDS, longest),
        "upload_max": longest,
        "retained_versions": retention.versions,
        "retained_deleted": parse_duration(retention.deleted),
        "retained_feed": parse_duration(retention.feed),
    }


def _build_gc(cluster: MetadataCluster) -> dict[str, Any]:
    gc = cluster.spec.gc
    return {
        "schedule": gc.schedule,
        "grace": parse_duration(gc.grace),
        "dry_run": gc.dry_run,
        "max_deletions": gc.max_deletions,
    }


def _build_notify(notifier: Notifier) -> dict[str, Any]:
    return {
        "name": notifier.metadata.name,
        "ack_deadline": parse_duration(notifier.spec.ack_deadline),
        "queue_limit": notifier.spec.queue_limit,
    }


def _build_auth(realm: Realm, wiring: Wiring) -> dict[str, Any]:
    """A cluster that the access point names no more, and that stays while it has users, gets no new ones."""
    named = {reference.name for reference in realm.access_point.spec.clusters}
    return {
        "admin_token_file": wiring.admin_token_file,
        "token_ttl": parse_duration(realm.access_point.spec.auth.token_ttl),
        "clusters": [
            {
                "server_key": cluster.spec.server_key,
                "weight": cluster.spec.placement.weight,
                "accept_new_users": cluster.spec.placement.accept_new_users,
            }
            for cluster in realm.clusters
            if cluster.metadata.name in named
        ],
    }


def _build_peers(service: Service, realm: Realm, wiring: Wiring) -> dict[str, Any]:
    """Whom a server of this service calls: metadata asks auth, block servers ask the clusters that use the pool, L1
    and the collector ask the block servers of their cluster's pools, L1 also its notifier, a notifier the L1 of the
    clusters that name it.
    """
    if service.role == "auth":
        return {}

    def tier(name: str, server_keys: Iterable[str]) -> dict[str, list[str]]:
        return {key: list(wiring.internal_urls[tier_service(name, key)]) for key in server_keys}

    if service.role == "block":
        keys = [
            cluster.spec.server_key
            for cluster in realm.clusters
            if any(pool.name == service.owner for pool in cluster.spec.block_pools)
        ]
        return {"l2": tier("l2", keys), "l3": tier("l3", keys)}
    peers: dict[str, Any] = {"auth": list(wiring.internal_urls[AUTH])}
    if service.role == "notify":
        keys = [c.spec.server_key for c in realm.clusters if service.owner in _notifiers_of(c)]
        return peers | {"l1": tier("l1", keys)}
    if service.role in {"l1", "gc"}:
        cluster = _cluster_of(realm, service.owner)
        block = _block_peers(cluster, wiring)
    if service.role == "gc":
        peers["block"] = block
    if service.role == "l1":
        peers |= {
            "l2": tier("l2", [service.owner]),
            "l3": tier("l3", [service.owner]),
            "block": block,
            "notify": [
                url for name in _notifiers_of(cluster) for url in wiring.internal_urls[notify_service(name)]
            ],
        }
    return peers
