"""What is applied in a cluster, as a reviewer reads it."""

import yaml

from moorage_operator.plan import PublicKey, build_routing_table, build_trust, plan_services, public_hosts
from moorage_operator.resources.build import build_objects
from moorage_operator.resources.context import ClusterContext, Images


class Dumper(yaml.SafeDumper):
    """Text of several lines as a block."""


def as_block(dumper, text):
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, as_block)


def context_of(realm):
    table = build_routing_table(realm, public_hosts(realm), 7)
    keys = [PublicKey("auth", "kid-auth", "-----BEGIN PUBLIC KEY-----\n…\n-----END PUBLIC KEY-----\n")]
    return ClusterContext(
        images=Images(nodes="example.com/moorage:1", etcd="example.com/etcd:3"),
        routing=table,
        proxy_routing=table,
        trust=build_trust(keys, plan_services(realm), 3),
        admin_secret=f"{realm.access_point.metadata.name}-admin",
    )


def render(manifests):
    return "".join(
        f"# phase {manifest.phase.name}"
        + (f", begins with {manifest.initial_replicas} replicas" if manifest.initial_replicas else "")
        + f"\n---\n{yaml.dump(manifest.body, Dumper=Dumper, sort_keys=False, width=110)}"
        for manifest in manifests
    )


def test_the_objects_of_each_kind_are_the_reviewed_ones(golden, two_clusters):
    context = context_of(two_clusters)
    west, old, bell = two_clusters.clusters[0], two_clusters.pools[1], two_clusters.notifiers[0]
    for resource in (two_clusters.access_point, west, old, bell):
        golden(f"cluster/{resource.kind}.yaml", render(build_objects(two_clusters, resource, context)))
