"""Realms of every shape, and what the builders make of them."""

from typing import Any

import yaml
from resources_bed import build_resource, changed

from moorage_operator.plan import PublicKey, build_routing_table, build_trust, plan_services, public_hosts
from moorage_operator.resources.build import build_objects
from moorage_operator.resources.context import ClusterContext, EtcdState, Images
from moorage_operator.resources.manifest import Manifest
from moorage_operator.spec.load import parse_realm
from moorage_operator.spec.realm import Manifest as Resource
from moorage_operator.spec.realm import Realm

EXTERNAL_ETCD = {
    "type": "External",
    "external": {
        "endpoints": ["https://etcd-0.example.com:2379", "https://etcd-1.example.com:2379"],
        "tlsSecretRef": {"name": "etcd-tls"},
        "prefix": "/team/",
    },
}
MANAGED_STORE = {
    "type": "Managed",
    "managed": {"image": "example.com/minio:1", "servers": 4, "storage": {"size": "20Gi"}},
}
TEMPLATE = {
    "image": "example.com/other:2",
    "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    "placement": {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [
            {"key": "dedicated", "value": "files", "effect": "NoSchedule"},
            {"operator": "Exists"},
        ],
        "priorityClassName": "high",
    },
    "annotations": {"example.com/scrape": "true"},
    "imagePullSecrets": [{"name": "registry"}],
}

# What of the smallest realm is changed, as (kind, path, value).
VARIANTS: dict[str, list[tuple[str, str, Any]]] = {
    "smallest": [],
    "nginx-tls": [
        ("AccessPoint", "spec.exposure.nginx", {"tlsSecretRef": {"name": "front"}, "service": {"type": "NodePort", "nodePort": 30443}, "replicas": 3}),
    ],
    "ingress": [
        ("AccessPoint", "spec.exposure", {"type": "ingress", "ingress": {"className": "nginx", "annotations": {"a.example.com/b": "c"}, "tlsSecretRef": {"name": "front"}}}),
        ("AccessPoint", "spec.extraURLs", ["http://10.0.0.7:8000"]),
    ],
    "ingress-default": [("AccessPoint", "spec.exposure", {"type": "ingress"})],
    "gateway": [
        ("AccessPoint", "spec.exposure", {"type": "gateway", "gateway": {"parentRefs": [{"name": "front", "namespace": "infra", "sectionName": "https"}]}}),
    ],
    "none": [("AccessPoint", "spec.exposure", {"type": "none"})],
    "external-etcd": [
        ("AccessPoint", "spec.auth.etcd", EXTERNAL_ETCD),
        ("MetadataCluster", "spec.etcd", EXTERNAL_ETCD),
    ],
    "managed-store": [("BlockPool", "spec.store", MANAGED_STORE)],
    "single-etcd": [("MetadataCluster", "spec.etcd", {"type": "Managed", "managed": {"replicas": 1, "storage": {"size": "2Gi", "storageClass": "fast"}}})],
    "hibernated": [(kind, "spec.hibernated", True) for kind in ("AccessPoint", "MetadataCluster", "BlockPool")],
    "templates": [
        ("BlockPool", "spec.template", TEMPLATE),
        ("MetadataCluster", "spec.tiers.l1", {"template": TEMPLATE, "replicas": 5}),
        ("MetadataCluster", "spec.etcd.managed.template", TEMPLATE),
        ("MetadataCluster", "spec.gc.template", TEMPLATE),
    ],
}  # fmt: skip


def build_realm(variant: str, namespace: str = "files", uid: str | None = None) -> Realm:
    """One of each kind, all named `main`."""
    resources = {
        kind: build_resource(kind) for kind in ("AccessPoint", "MetadataCluster", "BlockPool", "Notifier")
    }
    resources["Notifier"]["spec"]["etcd"] = {"type": "Cluster", "cluster": {"name": "main"}}
    resources["MetadataCluster"]["spec"]["notifierRef"] = {"name": "main"}
    for kind, path, value in VARIANTS[variant]:
        resources[kind] = changed(resources[kind], path, value)
    for resource in resources.values():
        resource["metadata"]["namespace"] = namespace
        if uid is not None:
            resource["metadata"]["uid"] = uid
    return parse_realm([("m.yaml", yaml.safe_dump_all(resources.values()))])


def build_wide_realm(clusters: int, namespace: str = "files") -> Realm:
    """Many clusters over one pool and one notifier, behind a Gateway."""
    access_point = build_resource("AccessPoint")
    access_point["spec"]["clusters"] = [{"name": f"c{number}"} for number in range(clusters)]
    access_point["spec"]["auth"]["etcd"]["cluster"]["name"] = "c0"
    access_point["spec"]["exposure"] = {"type": "gateway", "gateway": {"parentRefs": [{"name": "front"}]}}
    resources = [access_point, build_resource("BlockPool"), build_resource("Notifier")]
    for number in range(clusters):
        cluster = changed(build_resource("MetadataCluster", f"c{number}"), "spec.serverKey", f"key-{number}")
        resources.append(changed(cluster, "spec.notifierRef", {"name": "main"}))
    for resource in resources:
        resource["metadata"]["namespace"] = namespace
    return parse_realm([("m.yaml", yaml.safe_dump_all(resources))])


def build_context(realm: Realm, revision: int = 7) -> ClusterContext:
    table = build_routing_table(realm, public_hosts(realm), revision)
    key = PublicKey("auth", "kid-auth", "-----BEGIN PUBLIC KEY-----\n…\n-----END PUBLIC KEY-----\n")
    return ClusterContext(
        images=Images(nodes="example.com/moorage:1", etcd="example.com/etcd:3", pull_secrets=("mirror",)),
        routing=table,
        proxy_routing=table,
        trust=build_trust([key], plan_services(realm), 3),
        admin_secret=f"{realm.access_point.metadata.name}-admin",
        etcd={
            cluster.metadata.name: EtcdState(founded=True, bundle_revision=2) for cluster in realm.clusters
        },
    )


def build_all(realm: Realm, context: ClusterContext | None = None) -> tuple[Manifest, ...]:
    """Of every resource of the realm."""
    context = context or build_context(realm)
    resources: tuple[Resource, ...] = (realm.access_point, *realm.clusters, *realm.pools, *realm.notifiers)
    return tuple(manifest for resource in resources for manifest in build_objects(realm, resource, context))
