"""References that lead in a circle, to another namespace, or nowhere."""

from collections.abc import Callable
from typing import Any

import pytest
from operator_bed.bed import Bed
from operator_bed.controllers import controllers
from operator_bed.manifests import build_access_point, build_cluster, build_notifier, build_pool, build_realm

from moorage_operator.kube.errors import KubeInvalidError
from moorage_operator.kube.kinds import DEPLOYMENT

MANAGED = {"type": "Managed", "managed": {"replicas": 1, "storage": {"size": "1Gi"}}}


def in_etcd_of(cluster: str) -> dict[str, Any]:
    return {"type": "Cluster", "cluster": {"name": cluster}}


async def test_a_circle_of_references_stands_where_each_waits_for_another_condition(bed: Bed) -> None:
    """Each cluster rings a notifier whose queues lie in the other one's etcd, and users in the first one's."""
    files = build_access_point(clusters=("main", "other"))
    files["spec"]["auth"]["etcd"] = in_etcd_of("main")
    realm = [
        build_pool(),
        build_cluster(etcd=MANAGED, notifierRef={"name": "bell"}),
        build_cluster("other", etcd=MANAGED, notifierRef={"name": "gong"}),
        build_notifier("bell", etcd=in_etcd_of("other")),
        build_notifier("gong", etcd=in_etcd_of("main")),
        files,
    ]
    for manifest in realm:
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready(realm))
        await bed.settled()
        since = bed.api.audit_position()
        operator.wake_all()
        await bed.settled()
        assert bed.writes(since) == []


async def test_a_notifier_in_the_etcd_of_a_cluster_of_no_realm_waits_and_holds_up_nobody(bed: Bed) -> None:
    bell = build_notifier("bell", etcd=in_etcd_of("stray"))
    ringing = build_cluster(notifierRef={"name": "bell"})
    for manifest in (build_pool(), build_cluster("stray", etcd=MANAGED), bell, ringing, build_access_point()):
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready([build_pool(), ringing, build_access_point()]))
        await bed.until(lambda: _waits(bed, bell, "MetadataCluster/stray"))


async def test_what_is_named_is_looked_for_in_the_own_namespace_alone(
    bed: Bed, make_bed_namespace: Callable[[], str]
) -> None:
    elsewhere = Bed(bed.api, make_bed_namespace(), bed.kube)
    bed.more_namespaces = (elsewhere.namespace,)
    for manifest in (build_pool(), build_cluster()):
        await elsewhere.put(manifest)
    files = build_access_point()
    await bed.put(files)
    async with (
        controllers(bed.kube, bed.namespace),
        controllers(bed.kube, elsewhere.namespace),
        bed.running(),
    ):
        await bed.until(lambda: _waits(bed, files, "MetadataCluster/main does not exist"))
        # There nobody names them, whoever has that name here.
        await bed.until(lambda: _is(elsewhere, build_cluster(), "Accepted", ("False", "NotReferenced")))
        await bed.put(build_cluster())
        await bed.until(lambda: _waits(bed, build_cluster(), "BlockPool/pool does not exist"))
        await bed.put(build_pool())
        await bed.until(lambda: bed.ready(build_realm()))
        await bed.settled()
        assert await _is(elsewhere, build_cluster(), "Accepted", ("False", "NotReferenced"))
        assert (await bed.kube.list_all(DEPLOYMENT, elsewhere.namespace)).items == []


@pytest.mark.parametrize("name", ["other/main", "other.main/", "../main", "MAIN", ""])
async def test_a_name_cannot_lead_out_of_its_namespace(bed: Bed, name: str) -> None:
    with pytest.raises(KubeInvalidError, match=r"spec\.clusters\[0\]\.name"):
        await bed.put(build_access_point(clusters=(name,)))


async def _waits(bed: Bed, manifest: dict[str, Any], text: str) -> bool:
    said = (await bed.conditions(manifest)).get("Reconciling")
    return said == ("True", "Waiting") and text in await bed.message(manifest, "Reconciling")


async def _is(bed: Bed, manifest: dict[str, Any], condition: str, wanted: tuple[str, str]) -> bool:
    return (await bed.conditions(manifest)).get(condition) == wanted
