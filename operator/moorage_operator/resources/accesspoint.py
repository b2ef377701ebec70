"""AccessPoint: auth servers, the live files of the realm, and what takes requests in. Pure."""

import msgspec

from moorage_operator.naming import AUTH
from moorage_operator.plan import Service
from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.exposure import build_exposure_objects
from moorage_operator.resources.manifest import (
    Body,
    Manifest,
    Phase,
    build_labels,
    build_metadata,
    in_order,
    render_json,
)
from moorage_operator.resources.metadatacluster import etcd_volumes
from moorage_operator.resources.names import live_files
from moorage_operator.resources.pods import secret_volume
from moorage_operator.resources.server import build_server_objects
from moorage_operator.resources.wiring import ADMIN_FOLDER, build_wiring, shared_etcd_tls_secret
from moorage_operator.spec.accesspoint import AccessPoint
from moorage_operator.spec.realm import Realm


def build_accesspoint_objects(
    realm: Realm, access_point: AccessPoint, context: ClusterContext
) -> tuple[Manifest, ...]:
    """Every object of the access point of the realm, in the order of phases."""
    auth = access_point.spec.auth
    secrets = (
        secret_volume("admin", ADMIN_FOLDER, context.admin_secret),
        *etcd_volumes(shared_etcd_tls_secret(auth.etcd, realm)),
    )
    servers = build_server_objects(
        access_point,
        Service("auth", AUTH),
        auth.template,
        auth.replicas,
        realm,
        context,
        build_wiring(realm),
        secrets,
    )
    exposure = build_exposure_objects(realm, access_point, context)
    return in_order((build_live_files(access_point, context), *servers, *exposure))


def build_live_files(access_point: AccessPoint, context: ClusterContext) -> Manifest:
    """Routing table and trust file: followed by every server while it runs, so in no hash."""
    name = access_point.metadata.name
    body: Body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(
            access_point, live_files(name), build_labels(access_point, live_files(name), "live")
        ),
        "data": {
            "routing.json": render_json(msgspec.to_builtins(context.routing)),
            # What the proxy is told, for the operator itself: no server reads it.
            "proxy-routing.json": render_json(msgspec.to_builtins(context.proxy_routing)),
            "trust.json": render_json(dict(context.trust)),
        },
    }
    return Manifest(Phase.BASE, body)
