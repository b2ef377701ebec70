"""MetadataCluster: the servers of its three tiers, and its etcd where the operator runs it. Pure."""

from moorage_operator.naming import METADATA_TIERS, tier_service
from moorage_operator.plan import Service
from moorage_operator.resources.collector import build_collector_objects
from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.etcd import build_etcd_objects
from moorage_operator.resources.manifest import Manifest, in_order
from moorage_operator.resources.pods import Volume, secret_volume
from moorage_operator.resources.server import build_server_objects
from moorage_operator.resources.wiring import ETCD_FOLDER, build_wiring, etcd_tls_secret
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.parts import ManagedEtcd, ScaledPart
from moorage_operator.spec.realm import Realm


def build_metadatacluster_objects(
    realm: Realm, cluster: MetadataCluster, context: ClusterContext
) -> tuple[Manifest, ...]:
    """Every object of a cluster of the realm, in the order of phases."""
    wiring = build_wiring(realm)
    secrets = etcd_volumes(etcd_tls_secret(cluster.metadata.name, cluster.spec.etcd))
    manifests: list[Manifest] = []
    if cluster.spec.etcd.type == "Managed":
        manifests += build_etcd_objects(cluster, cluster.spec.etcd.managed or ManagedEtcd(), context)
    for tier in METADATA_TIERS:
        part: ScaledPart = getattr(cluster.spec.tiers, tier)
        service = Service(tier, tier_service(tier, cluster.spec.server_key), cluster.spec.server_key)
        manifests += build_server_objects(
            cluster, service, part.template, part.replicas, realm, context, wiring, secrets
        )
    manifests += build_collector_objects(realm, cluster, context, wiring, secrets)
    return in_order(manifests)


def etcd_volumes(secret: str | None) -> tuple[Volume, ...]:
    """What a client of an etcd mounts."""
    return () if secret is None else (secret_volume("etcd", ETCD_FOLDER, secret),)
