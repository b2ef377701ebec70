from operator_bed.bed import Bed
from operator_bed.controllers import controllers
from operator_bed.manifests import build_realm

from moorage_operator.kube.kinds import DEPLOYMENT

ALL = {"files-auth", "files-proxy", "main-l1", "main-l2", "main-l3", "pool-block"}


async def start(bed: Bed) -> None:
    for manifest in build_realm():
        await bed.put(manifest)


async def test_three_manifests_become_ready_and_a_second_look_writes_nothing(bed: Bed) -> None:
    await start(bed)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:

        async def ready() -> bool:
            states = [(await bed.conditions(manifest)).get("Ready") for manifest in build_realm()]
            return all(state == ("True", "Ready") for state in states)

        await bed.until(ready)
        await bed.settled()
        deployments = await bed.kube.list_all(DEPLOYMENT, bed.namespace)
        assert {one["metadata"]["name"] for one in deployments.items} == ALL
        since = bed.api.audit_position()
        operator.wake_all()
        await bed.settled()
        assert bed.writes(since) == []
        await operator.resync()
        await bed.settled()
        assert bed.writes(since) == []
    # A new process finds everything as it is wished.
    since = bed.api.audit_position()
    async with bed.running():
        await bed.settled()
        assert bed.writes(since) == []
