"""References between manifests: each is resolved, or said to be wrong."""

import pytest

from moorage_operator.spec.load import parse_realm
from moorage_operator.spec.problems import ManifestError

AP, MC, BP, NF = "AccessPoint/home", "MetadataCluster/main", "BlockPool/main", "Notifier/main"


def test_what_is_not_there_is_named_by_who_names_it(manifests):
    manifests.set(AP, "spec.clusters.0.name", "a").set(AP, "spec.auth.etcd.cluster.name", "a")
    assert manifests.problems() == [
        f"{AP}: spec.clusters[0].name: there is no MetadataCluster/a in namespace default"
    ]
    manifests.set(AP, "spec.clusters.0.name", "main").set(AP, "spec.auth.etcd.cluster.name", "main")
    manifests.set(MC, "spec.blockPools.0.name", "b").set(MC, "spec.notifierRef.name", "c")
    assert manifests.problems() == [
        f"{MC}: spec.blockPools[0].name: there is no BlockPool/b in namespace default",
        f"{MC}: spec.notifierRef.name: there is no Notifier/c in namespace default",
    ]


def test_a_reference_stays_within_its_namespace(manifests):
    manifests.set(BP, "metadata.namespace", "other")
    assert manifests.problems() == [
        f"{MC}: spec.blockPools[0].name: there is no BlockPool/main in namespace default"
    ]


def test_users_live_in_a_cluster_of_the_same_access_point(manifests):
    manifests.add(MC, "second")["spec"]["serverKey"] = "second"
    manifests.set(AP, "spec.auth.etcd.cluster.name", "second")
    assert manifests.problems() == [
        f"{AP}: spec.auth.etcd.cluster.name: expected one of the AccessPoint's clusters, got 'second'"
    ]


def test_two_clusters_of_one_server_key_are_refused(manifests):
    manifests.add(MC, "second")
    manifests.set(AP, "spec.clusters", [{"name": "main"}, {"name": "second"}])
    assert manifests.problems() == [
        'MetadataCluster/second: spec.serverKey: "main" is already the server key of MetadataCluster/main'
    ]


def test_a_resource_written_twice_is_refused_with_both_places(manifests):
    manifests.add(BP, "main")
    (problem,) = manifests.problems()
    assert problem.startswith(f"{BP}: metadata.name: is written twice, first at m.yaml:")


def test_a_pool_named_twice_or_only_pools_to_read_are_refused(manifests):
    manifests.set(MC, "spec.blockPools", [{"name": "main"}] * 2)
    assert manifests.problems() == [f"{MC}: spec.blockPools: holds 'main' twice"]
    manifests.set(MC, "spec.blockPools", [{"name": "main", "mode": "ReadOnly"}])
    assert manifests.problems() == [
        f"{MC}: spec.blockPools: expected at least one pool with mode ReadWrite",
    ]


def test_there_is_exactly_one_access_point(manifests):
    manifests.add(AP, "second")
    assert manifests.problems() == ["AccessPoint/second: expected exactly one AccessPoint; this is one more"]
    manifests.documents = [d for d in manifests.documents if d["kind"] != "AccessPoint"]
    assert manifests.problems() == ["expected exactly one AccessPoint, found none"]


def test_nothing_at_all_is_no_realm():
    with pytest.raises(ManifestError, match="expected exactly one AccessPoint, found none"):
        parse_realm([("empty.yaml", "# nothing\n---\n")])


def test_what_nobody_names_is_told_and_not_part_of_the_realm(manifests):
    manifests.add(BP, "spare")
    manifests.add(NF, "spare")
    realm = parse_realm([("m", manifests.text())])
    assert realm.unused == ("BlockPool/spare", "Notifier/spare")
    assert [pool.metadata.name for pool in realm.pools] == ["main"]


def test_a_pool_that_two_clusters_share_is_in_the_realm_once(manifests):
    manifests.add(MC, "second")["spec"]["serverKey"] = "second"
    manifests.set(AP, "spec.clusters", [{"name": "main"}, {"name": "second"}])
    realm = parse_realm([("m", manifests.text())])
    assert len(realm.clusters) == 2
    assert len(realm.pools) == 1
