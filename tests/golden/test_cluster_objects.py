"""What is applied in a cluster, as a reviewer reads it."""

import pytest
import yaml
from built_objects import build_context, build_realm

from moorage_operator.resources.build import build_objects
from moorage_operator.resources.manifest import Phase


class Dumper(yaml.SafeDumper):
    """Text of several lines as a block, everything written out."""

    def ignore_aliases(self, data):
        return True


def as_block(dumper, text):
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, as_block)


def render(manifests):
    return "".join(
        f"# phase {manifest.phase.name}"
        + (f", begins with {manifest.initial_replicas} replicas" if manifest.initial_replicas else "")
        + f"\n---\n{yaml.dump(manifest.body, Dumper=Dumper, sort_keys=False, width=110)}"
        for manifest in manifests
    )


def test_the_objects_of_each_kind_are_the_reviewed_ones(golden, two_clusters):
    context = build_context(two_clusters)
    west, old, bell = two_clusters.clusters[0], two_clusters.pools[1], two_clusters.notifiers[0]
    for resource in (two_clusters.access_point, west, old, bell):
        golden(f"cluster/{resource.kind}.yaml", render(build_objects(two_clusters, resource, context)))


def test_the_managed_store_is_the_reviewed_one(golden):
    realm = build_realm("managed-store")
    built = build_objects(realm, realm.pools[0], build_context(realm))
    golden("cluster/managed-store.yaml", render(m for m in built if m.phase <= Phase.STORES))


@pytest.mark.parametrize("exposure", ["nginx-tls", "ingress", "gateway"])
def test_each_exposure_is_the_reviewed_one(golden, exposure):
    realm = build_realm(exposure)
    built = build_objects(realm, realm.access_point, build_context(realm))
    names = ("main-proxy", "main-routes", "main-discovery")
    golden(f"cluster/{exposure}.yaml", render(m for m in built if m.name.startswith(names)))
