"""What people see of a resource: Events, the scale subresource, how full an etcd is, and nothing of what is gone."""

from typing import Any

import pytest
from operator_bed.bed import Bed
from operator_bed.controllers import controllers
from operator_bed.manifests import build_access_point, build_cluster, build_pool, build_realm

from moorage_operator.kube.kinds import (
    ACCESS_POINT,
    BLOCK_POOL,
    DEPLOYMENT,
    EVENT,
    METADATA_CLUSTER,
    SERVICE,
)
from moorage_operator.reconcile import reconciler
from moorage_operator.reconcile.space import Space

MANAGED = build_cluster(etcd={"type": "Managed", "managed": {"replicas": 3, "storage": {"size": "1Gi"}}})


async def events(bed: Bed, manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """(type, reason) of what was told of a resource, in order."""
    found = (await bed.kube.list_all(EVENT, bed.namespace)).items
    mine = [
        one
        for one in found
        if (one["regarding"]["kind"], one["regarding"]["name"])
        == (manifest["kind"], manifest["metadata"]["name"])
    ]
    return [(one["type"], one["reason"]) for one in sorted(mine, key=lambda one: one["eventTime"])]


async def test_events_tell_what_became_different_and_nothing_twice(bed: Bed) -> None:
    for manifest in build_realm():
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready(build_realm()))
        await bed.settled()
        for manifest in build_realm():
            assert ("Normal", "Ready") in await events(bed, manifest)
        assert ("Normal", "PreflightPassed") in await events(bed, build_pool())
        before = await events(bed, build_cluster())
        operator.wake_all()
        await bed.settled()
        assert await events(bed, build_cluster()) == before
        found = await bed.kube.get(METADATA_CLUSTER, bed.namespace, "main")
        assert found is not None
        found["spec"]["retention"]["deleted"] = "a while"
        found["metadata"]["resourceVersion"] = str(int(found["metadata"]["resourceVersion"]) + 10**9)
        operator.world.resources["MetadataCluster"].put(found)
        await bed.until(lambda: _has(bed, build_cluster(), "Stalled", ("True", "InvalidSpec")))
        await bed.settled()
        assert ("Warning", "InvalidSpec") in await events(bed, build_cluster())
        listed = (await bed.kube.list_all(EVENT, bed.namespace)).items
        stalled = next(one for one in listed if (one["type"], one["reason"]) == ("Warning", "InvalidSpec"))
        assert "spec.retention.deleted" in stalled["note"]
        assert stalled["regarding"]["uid"] == found["metadata"]["uid"]


async def test_a_pool_is_scaled_by_the_subresource_and_says_how_many_serve(bed: Bed) -> None:
    for manifest in build_realm():
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(build_realm()))
        place = f"{BLOCK_POOL.path(bed.namespace, 'pool')}/scale"
        merge = "application/merge-patch+json"
        status, answer = bed.api.request("PATCH", place, {"spec": {"replicas": 4}}, merge)
        assert status == 200, answer

        async def scaled() -> bool:
            live = await bed.kube.get(DEPLOYMENT, bed.namespace, "pool-block")
            answer = bed.api.request("GET", place)[1]
            assert live is not None
            return bool(live["spec"]["replicas"] == answer["status"]["replicas"] == 4)

        await bed.until(scaled)
        live = await bed.kube.get(DEPLOYMENT, bed.namespace, "pool-block")
        assert live is not None
        selector = bed.api.request("GET", place)[1]["status"]["selector"]
        labels = live["spec"]["selector"]["matchLabels"]
        assert dict(pair.split("=") for pair in selector.split(",")) == labels


async def test_an_etcd_that_fills_up_says_so_before_and_when_it_is_full(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "SPACE_POLL_SECONDS", 0.2)
    for manifest in (build_pool(), MANAGED, build_access_point()):
        await bed.put(manifest)
    bed.servers.space = Space(0.1, full=False)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: _has(bed, MANAGED, "EtcdSpace", ("True", "Enough")))
        for space, reason in (
            (Space(0.85, full=False), "NearQuota"),
            (Space(1.0, full=True), "NoSpace"),
            # The alarm stays after room was made, until somebody takes it away.
            (Space(0.5, full=True), "NoSpace"),
        ):
            bed.servers.space = space
            await bed.until(lambda reason=reason: _has(bed, MANAGED, "EtcdSpace", ("False", reason)))
        bed.servers.space = Space(0.5, full=False)
        await bed.until(lambda: _has(bed, MANAGED, "EtcdSpace", ("True", "Enough")))
        bed.servers.space = None
        await bed.until(lambda: _has(bed, MANAGED, "EtcdSpace", ("Unknown", "NotReached")))


async def test_what_was_deleted_while_no_operator_ran_is_cleared_away_by_the_next_one(bed: Bed) -> None:
    """No collector of owner references runs here."""
    for manifest in build_realm():
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(build_realm()))
    for kind, name in ((ACCESS_POINT, "files"), (METADATA_CLUSTER, "main"), (BLOCK_POOL, "pool")):
        await bed.take(kind, name)
    async with bed.running():

        async def gone() -> bool:
            left = [await bed.kube.list_all(kind, bed.namespace) for kind in (DEPLOYMENT, SERVICE)]
            return not any(page.items for page in left)

        await bed.until(gone)


async def _has(bed: Bed, manifest: dict[str, Any], condition: str, wanted: tuple[str, str]) -> bool:
    return (await bed.conditions(manifest)).get(condition) == wanted
