"""Names of Kubernetes objects: `<resource>-<part>`. Suffixes differ by kind, so no two resources share a name."""

from moorage_operator.plan import Service, plan_services
from moorage_operator.spec.realm import Realm


def tier_part(cluster: str, tier: str) -> str:
    return f"{cluster}-{tier}"


def etcd_part(cluster: str) -> str:
    """The StatefulSet of a managed etcd, and the Service that gives each member its name."""
    return f"{cluster}-etcd"


def etcd_member(cluster: str, number: int) -> str:
    """A member and its pod."""
    return f"{etcd_part(cluster)}-{number}"


def etcd_state(cluster: str) -> str:
    """The ConfigMap that says whether the cluster was founded; kept with the data."""
    return f"{cluster}-etcd-state"


def etcd_server_secret(cluster: str) -> str:
    """Server certificate, its key, and the authorities that clients are checked with."""
    return f"{cluster}-etcd-server-tls"


def etcd_peer_secret(cluster: str) -> str:
    return f"{cluster}-etcd-peer-tls"


def etcd_client_secret(cluster: str) -> str:
    """What clients of the managed etcd mount: `ca.crt`, `tls.crt`, `tls.key`."""
    return f"{cluster}-etcd-client-tls"


def etcd_authority_secret(cluster: str) -> str:
    """The private keys of the authorities; mounted by nobody."""
    return f"{cluster}-etcd-authority"


def collector_part(cluster: str) -> str:
    return f"{cluster}-gc"


def block_part(pool: str) -> str:
    return f"{pool}-block"


def store_part(pool: str) -> str:
    """The StatefulSet of a managed store, and the Service that its clients use."""
    return f"{pool}-store"


def store_servers(pool: str) -> str:
    """The headless Service that gives each server of a managed store its name."""
    return f"{pool}-store-servers"


def store_credentials(pool: str) -> str:
    """The generated Secret of a managed store: `access_key_id`, `secret_access_key`, `config.env`; kept."""
    return f"{pool}-store-credentials"


def preflight_part(pool: str) -> str:
    return f"{pool}-preflight"


def notify_part(notifier: str) -> str:
    return f"{notifier}-notify"


def auth_part(access_point: str) -> str:
    return f"{access_point}-auth"


def proxy_part(access_point: str) -> str:
    return f"{access_point}-proxy"


def proxy_conf(part: str) -> str:
    """The ConfigMap with `nginx.conf`, which the proxy follows."""
    return f"{part}-conf"


def routes_of(access_point: str) -> str:
    """The Ingress, or the first HTTPRoute."""
    return f"{access_point}-routes"


def discovery_service(access_point: str) -> str:
    """The Service over the L1 servers of all clusters of a realm: any of them answers `/get_servers`."""
    return f"{access_point}-discovery"


def operator_part(access_point: str) -> str:
    """What the operator's own key in a realm is named by; no workload."""
    return f"{access_point}-operator"


def live_files(access_point: str) -> str:
    """The ConfigMap with `routing.json` and `trust.json`, mounted by every server of the realm."""
    return f"{access_point}-live"


def admin_secret(access_point: str) -> str:
    """The generated Secret with the admin token in `token`."""
    return f"{access_point}-admin"


def settings_of(part: str) -> str:
    """The ConfigMap with the static settings of a part."""
    return f"{part}-settings"


def signing_secret(part: str) -> str:
    """The generated Secret with a component's signing key in `private.pem`; mounted by it alone."""
    return f"{part}-signing"


def part_of(service: Service, realm: Realm) -> str:
    """The Deployment and the Service of a service of the realm."""
    if service.role == "auth":
        return auth_part(realm.access_point.metadata.name)
    if service.role == "operator":
        return operator_part(realm.access_point.metadata.name)
    if service.role == "block":
        return block_part(service.owner)
    if service.role == "notify":
        return notify_part(service.owner)
    cluster = next(c for c in realm.clusters if c.spec.server_key == service.owner)
    if service.role == "gc":
        return collector_part(cluster.metadata.name)
    return tier_part(cluster.metadata.name, service.role)


def parts_by_service(realm: Realm) -> dict[str, str]:
    """Service name (`l1-<server key>`) → name of its Deployment and Service."""
    return {service.name: part_of(service, realm) for service in plan_services(realm)}


def l1_parts(realm: Realm) -> tuple[str, ...]:
    return tuple(tier_part(cluster.metadata.name, "l1") for cluster in realm.clusters)
