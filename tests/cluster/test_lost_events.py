"""What the operator was never told, or told too late: it finds out by looking again."""

from typing import Any

from operator_bed.bed import Bed
from operator_bed.controllers import controllers
from operator_bed.manifests import build_cluster, build_realm

from moorage_operator.kube.kinds import BLOCK_POOL, CONFIG_MAP, DEPLOYMENT, METADATA_CLUSTER
from moorage_operator.reconcile.operator import Operator

BLUE = build_cluster(tiers={"l1": {"template": {"annotations": {"team": "blue"}}}})


def deafen(operator: Operator, kind: str) -> Any:
    """As kopf does where a watch of its drops an event: nothing comes in by it any more. Returns what undoes it."""
    cache = operator.world.resources[kind]
    hearing = cache.put, cache.remove
    cache.put = cache.remove = lambda _: None  # type: ignore[method-assign]

    def hear() -> None:
        cache.put, cache.remove = hearing  # type: ignore[method-assign]

    return hear


async def is_blue(bed: Bed) -> bool:
    found = await bed.kube.get(DEPLOYMENT, bed.namespace, "main-l1")
    assert found is not None
    return (found["spec"]["template"]["metadata"].get("annotations") or {}).get("team") == "blue"


async def test_a_change_and_a_deletion_that_nobody_told_are_found_by_the_next_list(bed: Bed) -> None:
    for manifest in build_realm():
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready(build_realm()))
        await bed.settled()
        hear = deafen(operator, "MetadataCluster")
        await bed.put(BLUE)
        await bed.settled()
        operator.wake_all()
        await bed.settled()
        assert not await is_blue(bed)
        hear()
        await operator.resync()
        await bed.until(lambda: is_blue(bed))
        await bed.until(lambda: bed.ready([*build_realm()[::2], BLUE]))

        await bed.settled()
        hear = deafen(operator, "MetadataCluster")
        await bed.take(METADATA_CLUSTER, "main")
        await bed.settled()
        hear()
        await operator.resync()

        async def stopped() -> bool:
            names = {
                one["metadata"]["name"] for one in (await bed.kube.list_all(DEPLOYMENT, bed.namespace)).items
            }
            return not names & {"main-l1", "main-l2", "main-l3"}

        await bed.until(stopped)


async def test_a_list_from_before_takes_nothing_back(bed: Bed) -> None:
    """As an API server gives that lags behind the others."""
    realm = build_realm()
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        lists: dict[str, Any] = {}
        original = operator.kube.list_all
        for kind in (BLOCK_POOL, METADATA_CLUSTER):
            lists[kind.name] = await original(kind, bed.namespace)
        for manifest in realm:
            await bed.put(manifest)
        await bed.until(lambda: bed.ready(realm))
        await bed.settled()

        async def stale(kind: Any, *arguments: Any, **named: Any) -> Any:
            return lists[kind.name] if kind.name in lists else await original(kind, *arguments, **named)

        operator.kube.list_all = stale  # type: ignore[method-assign]
        since = bed.api.audit_position()
        await operator.resync()
        await bed.settled()
        assert bed.writes(since) == []
        # One whose resources are older than what is known of them.
        operator.kube.list_all = original  # type: ignore[method-assign]
        lists["MetadataCluster"] = await original(METADATA_CLUSTER, bed.namespace)
        await bed.put(BLUE)
        await bed.until(lambda: is_blue(bed))
        await bed.until(lambda: bed.ready([*realm[::2], BLUE]))
        await bed.settled()
        operator.kube.list_all = stale  # type: ignore[method-assign]
        since = bed.api.audit_position()
        await operator.resync()
        await bed.settled()
        assert bed.writes(since) == []
        assert await is_blue(bed)


async def test_an_edit_by_hand_that_nobody_told_is_found_when_the_watch_begins_anew(bed: Bed) -> None:
    """Of what the operator built it hears by watches of its own; one that breaks off is followed by a list."""
    for manifest in build_realm():
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready(build_realm()))
        await bed.settled()
        cache = operator.world.built[CONFIG_MAP]
        hearing = cache.put, cache.remove
        cache.put = cache.remove = lambda _: None  # type: ignore[method-assign]
        await bed.take(CONFIG_MAP, "main-l1-settings")
        await bed.settled()
        assert await bed.kube.get(CONFIG_MAP, bed.namespace, "main-l1-settings") is None
        cache.put, cache.remove = hearing  # type: ignore[method-assign]
        (watcher,) = (one for one in operator._watchers if one.cache is cache)
        await watcher._list()
        await bed.until(lambda: bed.kube.get(CONFIG_MAP, bed.namespace, "main-l1-settings"))
