"""Notifier: its notification servers. Pure."""

from moorage_operator.naming import notify_service
from moorage_operator.plan import Service
from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.manifest import Manifest, in_order
from moorage_operator.resources.metadatacluster import etcd_volumes
from moorage_operator.resources.server import build_server_objects
from moorage_operator.resources.wiring import build_wiring, shared_etcd_tls_secret
from moorage_operator.spec.notifier import Notifier
from moorage_operator.spec.realm import Realm


def build_notifier_objects(realm: Realm, notifier: Notifier, context: ClusterContext) -> tuple[Manifest, ...]:
    """Every object of a notifier of the realm, in the order of phases."""
    name = notifier.metadata.name
    manifests = build_server_objects(
        notifier,
        Service("notify", notify_service(name), name),
        notifier.spec.template,
        notifier.spec.replicas,
        realm,
        context,
        build_wiring(realm),
        etcd_volumes(shared_etcd_tls_secret(notifier.spec.etcd, realm)),
    )
    return in_order(manifests)
