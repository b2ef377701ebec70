"""One operator with the chart's rights on a real API server, and what people, clusters and accidents do to it."""

import copy
from typing import Any

import pytest
from operator_bed.bed import Bed
from operator_bed.cluster import grant
from operator_bed.controllers import controllers
from operator_bed.manifests import build_access_point, build_cluster, build_pool, build_realm

from moorage_operator.kube import cache
from moorage_operator.kube.errors import KubeConflictError, KubeInvalidError, KubeUnavailableError
from moorage_operator.kube.kinds import (
    ACCESS_POINT,
    BLOCK_POOL,
    CONFIG_MAP,
    DEPLOYMENT,
    METADATA_CLUSTER,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    VOLUME_CLAIM,
    Kind,
)
from moorage_operator.reconcile.operator import NamespaceOpenedError, Operator
from moorage_operator.resources.context import Images

ALL = {"files-auth", "files-proxy", "main-l1", "main-l2", "main-l3", "pool-block"}


async def put_all(bed: Bed) -> None:
    for manifest in build_realm():
        await bed.put(manifest)


async def names(bed: Bed, kind: Kind) -> set[str]:
    return {one["metadata"]["name"] for one in (await bed.kube.list_all(kind, bed.namespace)).items}


async def get(bed: Bed, kind: Kind, name: str) -> dict[str, Any]:
    found = await bed.kube.get(kind, bed.namespace, name)
    assert found is not None
    return found


async def test_three_manifests_become_ready_and_a_second_look_writes_nothing(bed: Bed) -> None:
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready(build_realm()))
        await bed.settled()
        assert await names(bed, DEPLOYMENT) >= ALL
        since = bed.api.audit_position()
        operator.wake_all()
        await bed.settled()
        assert bed.writes(since) == []
        # Nor does it ask: all it looks at is in its caches.
        assert bed.requests(since) == []
        await operator.resync()
        await bed.settled()
        assert bed.writes(since) == []
    # A new process finds everything as it is wished.
    since = bed.api.audit_position()
    async with bed.running():
        await bed.settled()
        assert bed.writes(since) == []


async def test_servers_of_a_new_realm_start_at_once_but_for_those_whose_store_is_not_proven(bed: Bed) -> None:
    await put_all(bed)
    async with bed.running():
        await bed.settled()
        # Nothing becomes ready here: the pool waits for its preflight, the others need one another to become so.
        assert await names(bed, DEPLOYMENT) == ALL - {"pool-block"}


async def test_an_upgrade_rolls_workloads_in_order_each_when_the_one_before_is_ready(bed: Bed) -> None:
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(build_realm()))
        await bed.settled()
    since = bed.api.audit_position()
    bed.images = Images(nodes="moorage:next", etcd="etcd:test")
    async with bed.running():
        await bed.settled()
        # Nobody carries out the first step: the next ones wait for it.
        assert {name for name in ALL if await image_of(bed, name) == "moorage:next"} == {"main-l3"}
        async with controllers(bed.kube, bed.namespace):
            await bed.until(lambda: all_run(bed, "moorage:next"))
    order = [
        write.rpartition("/")[2]
        for write in bed.writes(since)
        if "/deployments/" in write and write.startswith("patch")
    ]
    first = list(dict.fromkeys(order))
    assert first[:3] == ["main-l3", "main-l2", "main-l1"]
    assert first[3:] == ["pool-block", "files-auth", "files-proxy"]


async def image_of(bed: Bed, deployment: str) -> str:
    found = await get(bed, DEPLOYMENT, deployment)
    image: str = found["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


async def all_run(bed: Bed, image: str) -> bool:
    return all([await image_of(bed, name) == image for name in ALL])


async def test_objects_edited_or_deleted_by_hand_are_repaired(bed: Bed) -> None:
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(build_realm()))
        image = {"template": {"spec": {"containers": [{"name": "l1", "image": "evil:1"}]}}}
        edit = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "main-l1"}, "spec": image}
        await bed.put(edit)
        await bed.take(SERVICE, "main-l2")
        await bed.take(CONFIG_MAP, "files-live")

        async def repaired() -> bool:
            found = await get(bed, DEPLOYMENT, "main-l1")
            return found["spec"]["template"]["spec"]["containers"][0]["image"] == "moorage:test"

        await bed.until(repaired)
        await bed.until(lambda: bed.kube.get(SERVICE, bed.namespace, "main-l2"))
        await bed.until(lambda: bed.kube.get(CONFIG_MAP, bed.namespace, "files-live"))


async def test_fields_that_others_set_are_left_alone(bed: Bed) -> None:
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready(build_realm()))
        theirs = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "main-l1", "annotations": {"team": "blue"}},
            # The number of L1 servers is nobody's in the manifest, so an autoscaler may have it.
            "spec": {"replicas": 5, "template": {"metadata": {"annotations": {"restarted": "now"}}}},
        }
        await bed.put(theirs)
        await bed.settled()
        since = bed.api.audit_position()
        operator.wake_all()
        await bed.settled()
        found = await get(bed, DEPLOYMENT, "main-l1")
        assert found["metadata"]["annotations"]["team"] == "blue"
        assert found["spec"]["replicas"] == 5
        assert found["spec"]["template"]["metadata"]["annotations"]["restarted"] == "now"
        assert [write for write in bed.writes(since) if "deployments" in write] == []


async def test_a_number_that_nobody_names_begins_at_two_and_is_let_go(bed: Bed) -> None:
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(build_realm()))
        found = await get(bed, DEPLOYMENT, "main-l1")
        assert found["spec"]["replicas"] == 2
        ours = [one for one in found["metadata"]["managedFields"] if one["manager"] == "moorage-operator"]
        assert "f:replicas" not in str(ours)
        # Named, then not any more: it stays what it was instead of falling back to one.
        await bed.put(build_cluster(tiers={"l1": {"replicas": 4}}))

        async def is_four() -> bool:
            return (await get(bed, DEPLOYMENT, "main-l1"))["spec"]["replicas"] == 4

        await bed.until(is_four)
        await bed.until(lambda: bed.ready(build_realm()))
        await bed.put(build_cluster())

        async def let_go() -> bool:
            live = await get(bed, DEPLOYMENT, "main-l1")
            return "moorage.dev/owns-replicas" not in live["metadata"]["annotations"]

        await bed.until(let_go)
        assert await is_four()


async def test_two_who_fight_about_a_field_stall_instead_of_looping(bed: Bed) -> None:
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(build_realm()))
        edit = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "main-l1-settings"},
            "data": {"settings.json": "{}"},
        }

        async def fought() -> bool:
            await bed.put(edit)
            await bed.settled(0.1)
            return (await bed.conditions(build_cluster())).get("Stalled") == ("True", "FieldFight")

        await bed.until(fought)
        since = bed.api.audit_position()
        await bed.put({**edit, "data": {"settings.json": "{ }"}})
        await bed.settled()
        assert [write for write in bed.writes(since) if "configmaps" in write] == []


async def test_paused_changes_nothing_and_hibernated_runs_nothing(bed: Bed) -> None:
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(build_realm()))
        await bed.put(build_cluster(paused=True))
        await bed.until(lambda: _has(bed, build_cluster(), "Ready", ("Unknown", "Paused")))
        await bed.take(SERVICE, "main-l1")
        await bed.settled()
        assert "main-l1" not in await names(bed, SERVICE)
        await bed.put(build_cluster(hibernated=True))
        await bed.until(lambda: _has(bed, build_cluster(), "Ready", ("False", "Hibernated")))
        assert (await get(bed, DEPLOYMENT, "main-l1"))["spec"]["replicas"] == 0
        assert "main-l1" in await names(bed, SERVICE)
        await bed.put(build_cluster())
        await bed.until(lambda: bed.ready(build_realm()))
        assert (await get(bed, DEPLOYMENT, "main-l1"))["spec"]["replicas"] == 2


async def _has(bed: Bed, manifest: dict[str, Any], condition: str, expected: tuple[str, str]) -> bool:
    return (await bed.conditions(manifest)).get(condition) == expected


async def test_who_waits_for_something_goes_on_by_itself_when_it_comes(bed: Bed) -> None:
    access_point, cluster, pool = build_access_point(), build_cluster(), build_pool()
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.put(access_point)
        await bed.until(lambda: _has(bed, access_point, "Ready", ("False", "Waiting")))
        assert "MetadataCluster/main does not exist" in await bed.message(access_point, "Ready")
        await bed.put(cluster)

        async def waits_for_the_pool() -> bool:
            return "BlockPool/pool does not exist" in await bed.message(cluster, "Ready")

        await bed.until(lambda: _has(bed, cluster, "Ready", ("False", "Waiting")))
        await bed.until(waits_for_the_pool)
        await bed.put(pool)
        await bed.until(lambda: bed.ready(build_realm()))


async def test_a_resource_that_nobody_names_says_so(bed: Bed) -> None:
    async with bed.running():
        await bed.put(build_pool("lonely"))
        await bed.until(lambda: _has(bed, build_pool("lonely"), "Accepted", ("False", "NotReferenced")))
        assert await names(bed, DEPLOYMENT) == set()


async def test_a_second_claimant_is_not_accepted_and_does_not_disturb_the_first(bed: Bed) -> None:
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(build_realm()))
        second = build_access_point("second")
        await bed.put(second)
        await bed.until(lambda: _has(bed, second, "Accepted", ("False", "Claimed")))
        assert "belongs to AccessPoint/files" in await bed.message(second, "Accepted")
        assert await bed.ready(build_realm())
        claimed = await get(bed, METADATA_CLUSTER, "main")
        assert claimed["status"]["accessPoint"]["name"] == "files"
        # The claim ends with its AccessPoint, and the other goes on by itself.
        await bed.take(ACCESS_POINT, "files")
        await bed.until(lambda: bed.ready([build_pool(), build_cluster(), second]))


async def test_a_cluster_taken_off_the_list_stays_while_nobody_says_that_it_has_no_users(bed: Bed) -> None:
    both = build_access_point(clusters=("main", "other"))
    other = build_cluster("other")
    for manifest in (build_pool(), build_cluster(), other, both):
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready([build_pool(), build_cluster(), other, both]))
        await bed.put(build_access_point())
        await bed.until(lambda: _has(bed, both, "Accepted", ("False", "InUse")))
        assert "MetadataCluster/other" in await bed.message(both, "Accepted")
        await bed.settled()
        assert "other-l1" in await names(bed, DEPLOYMENT)


async def test_one_broken_resource_stops_no_other(bed: Bed) -> None:
    for manifest in build_realm():
        await bed.put(manifest)
    # What the schema cannot know: two clusters of one realm with the same key.
    await bed.put(build_cluster("twin", serverKey="main"))
    await bed.put(build_access_point(clusters=("main", "twin")))
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: _has(bed, build_cluster("twin"), "Ready", ("False", "Waiting")))
        assert "MetadataCluster/main's already" in await bed.message(build_cluster("twin"), "Ready")
        await bed.until(lambda: bed.ready(build_realm()))
        with pytest.raises(KubeInvalidError, match="serverKey"):
            await bed.put(build_cluster(serverKey="Not A Key"))


async def test_a_spec_that_the_models_refuse_is_said_and_what_runs_is_left_alone(bed: Bed) -> None:
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready(build_realm()))
        # As an API server with an older definition would hand it on.
        found = await get(bed, METADATA_CLUSTER, "main")
        found["spec"]["retention"]["deleted"] = "a while"
        found["metadata"]["resourceVersion"] = str(int(found["metadata"]["resourceVersion"]) + 10**9)
        operator.world.resources["MetadataCluster"].put(found)
        await bed.until(lambda: _has(bed, build_cluster(), "Stalled", ("True", "InvalidSpec")))
        assert "spec.retention.deleted" in await bed.message(build_cluster(), "Stalled")
        assert await names(bed, DEPLOYMENT) >= ALL


async def test_without_rights_on_secrets_the_namespace_says_so_and_goes_on_when_they_come(
    api_server, namespace, kube, definitions
) -> None:
    bed = Bed(api_server, namespace, kube)
    grant(api_server, namespace, ("resources", "own"))
    await put_all(bed)
    access_point = build_access_point()
    async with controllers(kube, namespace), bed.running() as operator:
        await bed.until(lambda: _has(bed, access_point, "Stalled", ("True", "MissingPermissions")))
        assert 'cannot get resource "secrets"' in await bed.message(access_point, "Stalled")
        grant(api_server, namespace, ("secrets",))
        await bed.settled()

        async def ready() -> bool:
            operator.wake_all()  # instead of waiting for the next try
            return await bed.ready(build_realm())

        await bed.until(ready)


async def test_a_namespace_that_is_closed_to_it_or_was_deleted_holds_up_no_other(
    bed: Bed, closed_namespace: str
) -> None:
    bed.more_namespaces = (closed_namespace,)
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready(build_realm()))
        is_ready, said = operator.is_ready()
        assert is_ready, said
        assert "may not watch" in said
        assert closed_namespace in said
        # kopf does not try again where it was refused, so a new process is wanted.
        grant(bed.api, closed_namespace)
        with pytest.raises(NamespaceOpenedError, match=closed_namespace):
            await operator.resync()


async def test_secrets_of_users_are_never_read_and_no_secret_is_ever_listed(bed: Bed) -> None:
    access_point = build_access_point()
    access_point["spec"]["auth"]["adminSecretRef"] = {"name": "my-admin"}
    for name, content in (("my-admin", {"token": "c2VjcmV0"}), ("s3-credentials", {"access_key_id": "aQ=="})):
        await bed.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": content})
    for manifest in (build_pool(), build_cluster(), access_point):
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready([build_pool(), build_cluster(), access_point]))
    asked = [
        (event["verb"], event.get("objectRef", {}).get("name"))
        for event in bed.api.audit_events(0)
        if event["user"]["username"] == bed.user and event.get("objectRef", {}).get("resource") == "secrets"
    ]
    assert {verb for verb, _ in asked} <= {"get", "create", "update", "delete"}
    assert not {"my-admin", "s3-credentials"} & {name for _, name in asked}
    assert (await get(bed, ACCESS_POINT, "files"))["status"]["adminSecretRef"] == {"name": "my-admin"}


async def test_generated_secrets_that_were_deleted_or_broken_are_made_again(bed: Bed) -> None:
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running() as operator:
        await bed.until(lambda: bed.ready(build_realm()))
        await bed.take(SECRET, "main-l2-signing")
        broken = await get(bed, SECRET, "main-l1-signing")
        await bed.kube.replace({**broken, "data": {"private.pem": "bm8ga2V5"}})
        operator.keeper._facts.clear()  # as the next look, some minutes later
        operator.wake_all()
        await bed.until(lambda: bed.kube.get(SECRET, bed.namespace, "main-l2-signing"))
        await bed.settled()
        keys = {one["name"]: one for one in (await get(bed, ACCESS_POINT, "files"))["status"]["keys"]}
        trust = (await get(bed, CONFIG_MAP, "files-live"))["data"]["trust.json"]
        for part in ("main-l1", "main-l2"):
            # What the lost key signed stays valid for its time.
            assert keys[part]["phase"] == "Signing"
            assert keys[part]["current"] in trust
            assert keys[part]["other"] in trust


async def test_a_secret_of_somebody_else_under_a_name_of_ours_is_left_alone(bed: Bed) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "files-admin"},
        "data": {"token": "eA=="},
    }
    await bed.put(theirs)
    await put_all(bed)
    access_point = build_access_point()
    async with bed.running():
        await bed.until(lambda: _has(bed, access_point, "Stalled", ("True", "SecretNotOurs")))
        assert (await get(bed, SECRET, "files-admin"))["data"] == {"token": "eA=="}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_resources_may_be_deleted_in_any_order(bed: Bed, order: tuple[int, ...]) -> None:
    kinds = ((BLOCK_POOL, "pool"), (METADATA_CLUSTER, "main"), (ACCESS_POINT, "files"))
    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(build_realm()))
        for place in order:
            await bed.take(*kinds[place])
            await bed.settled(0.1)

        async def gone() -> bool:
            return not await names(bed, DEPLOYMENT) and not await names(bed, SERVICE)

        await bed.until(gone)
        # And once more from the beginning.
        await put_all(bed)
        await bed.until(lambda: bed.ready(build_realm()))


def managed_realm(**cluster: Any) -> list[dict[str, Any]]:
    etcd = {"type": "Managed", "managed": {"replicas": 3, "storage": {"size": "1Gi"}}}
    store = {"type": "Managed", "managed": {"image": "minio:test", "storage": {"size": "1Gi"}}}
    access_point = build_access_point()
    access_point["spec"]["auth"]["etcd"] = {"type": "Cluster", "cluster": {"name": "main"}}
    return [build_pool(store=store), build_cluster(etcd=etcd, **cluster), access_point]


async def test_managed_stores_come_before_the_servers_and_keep_their_data(bed: Bed) -> None:
    realm = managed_realm()
    for manifest in realm:
        await bed.put(manifest)
    async with bed.running():
        await bed.until(lambda: _has(bed, realm[1], "EtcdReady", ("False", "NotFounded")))
        await bed.settled()
        assert await names(bed, DEPLOYMENT) == set()
        async with controllers(bed.kube, bed.namespace):
            await bed.until(lambda: bed.ready(realm))
        assert (await bed.conditions(realm[1]))["EtcdReady"] == ("True", "Quorum")
        assert (await bed.conditions(realm[0]))["StoreReady"] == ("True", "PreflightPassed")
        await bed.settled()
        claims = await names(bed, VOLUME_CLAIM)
        assert len(claims) == 4
        credentials = await get(bed, SECRET, "pool-store-credentials")
        for kind, name in ((METADATA_CLUSTER, "main"), (BLOCK_POOL, "pool"), (ACCESS_POINT, "files")):
            await bed.take(kind, name)

        async def gone() -> bool:
            return not await names(bed, DEPLOYMENT) and not await names(bed, STATEFUL_SET)

        await bed.until(gone)
        assert await names(bed, VOLUME_CLAIM) == claims
        assert (await get(bed, CONFIG_MAP, "main-etcd-state"))["data"] == {"founded": "true"}
        for manifest in realm:
            await bed.put(manifest)
        async with controllers(bed.kube, bed.namespace):
            await bed.until(lambda: bed.ready(realm))
            await bed.settled()
        assert (await get(bed, SECRET, "pool-store-credentials"))["data"] == credentials["data"]
    since = bed.api.audit_position()
    async with bed.running():
        await bed.settled()
        assert bed.writes(since) == []


async def test_a_volume_that_cannot_grow_holds_up_nothing_else(bed: Bed) -> None:
    realm = managed_realm()
    for manifest in realm:
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(realm))
        pool = copy.deepcopy(realm[0])
        pool["spec"]["store"]["managed"]["storage"] = {"size": "40Gi"}
        pool["spec"]["template"] = {"image": "moorage:mine"}
        await bed.put(pool)
        # These claims are bound to nothing, and the API server lets none such grow.
        await bed.until(lambda: _has(bed, pool, "Stalled", ("True", "VolumeCannotGrow")))
        await bed.until(lambda: _runs(bed, "pool-block", "moorage:mine"))
        found = await get(bed, STATEFUL_SET, "pool-store")
        (template,) = found["spec"]["volumeClaimTemplates"]
        assert template["spec"]["resources"]["requests"]["storage"] == "1Gi"


async def _runs(bed: Bed, deployment: str, image: str) -> bool:
    return await image_of(bed, deployment) == image


async def test_data_goes_with_the_resource_only_when_it_says_so(bed: Bed) -> None:
    realm = managed_realm(deletionPolicy="Delete")
    for manifest in realm:
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(realm))
        await bed.take(METADATA_CLUSTER, "main")

        async def gone() -> bool:
            for claim in (await bed.kube.list_all(VOLUME_CLAIM, bed.namespace)).items:
                if "deletionTimestamp" in claim["metadata"]:  # the cluster's own controller lets go of it
                    patch = {"metadata": {"finalizers": None}}
                    await bed.kube.merge(VOLUME_CLAIM, bed.namespace, claim["metadata"]["name"], patch)
            return await bed.kube.get(METADATA_CLUSTER, bed.namespace, "main") is None

        await bed.until(gone)
        assert {name.partition("-etcd")[0] for name in await names(bed, VOLUME_CLAIM)} == {
            "data-pool-store-0"
        }
        assert "main-etcd-state" not in await names(bed, CONFIG_MAP)


async def test_a_deletion_that_cannot_be_finished_does_not_hang(bed: Bed) -> None:
    realm = managed_realm(deletionPolicy="Delete")
    for manifest in realm:
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(realm))
        await bed.take(METADATA_CLUSTER, "main")
        await bed.settled(0.1)
        assert await bed.kube.get(METADATA_CLUSTER, bed.namespace, "main") is not None
        patch = {"metadata": {"annotations": {"moorage.dev/abandon-data": "true"}}}
        await bed.kube.merge(METADATA_CLUSTER, bed.namespace, "main", patch)

        async def gone() -> bool:
            return await bed.kube.get(METADATA_CLUSTER, bed.namespace, "main") is None

        await bed.until(gone)


async def test_a_cluster_of_which_nothing_ever_ran_may_be_taken_off_the_list(bed: Bed) -> None:
    both = build_access_point(clusters=("main", "other"))
    other = build_cluster("other", blockPools=[{"name": "missing"}])
    for manifest in (build_pool(), build_cluster(), other, both):
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready([build_pool(), build_cluster()]))
        await bed.put(build_access_point())
        await bed.until(lambda: _has(bed, other, "Accepted", ("False", "NotReferenced")))
        await bed.until(lambda: bed.ready(build_realm()))


async def test_an_api_server_that_throttles_conflicts_and_breaks_off_only_delays(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of nine requests fail, one of them after it was carried out."""
    monkeypatch.setattr(cache, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(cache, "LONGEST_PAUSE", 0.05)
    count = 0

    def trouble(operator: Operator) -> None:
        original = operator.kube._request

        async def request(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            number = count
            errors = (
                KubeUnavailableError("throttled", status=429, retry_after=0.01),
                KubeConflictError("somebody was faster", status=409),
                KubeUnavailableError("the answer was lost"),
            )
            if number % 9 == 0:
                raise errors[number // 9 % 3]
            answer = await original(*arguments, **named)
            if number % 9 == 4:
                raise errors[number // 9 % 3]
            return answer

        operator.kube._request = request  # type: ignore[method-assign]

    await put_all(bed)
    async with controllers(bed.kube, bed.namespace), bed.running(prepare=trouble) as operator:
        operator.queue._spread = lambda: 0.05  # instead of waiting for the next try

        await bed.until(lambda: bed.ready(build_realm()))
        assert count > 60
    async with controllers(bed.kube, bed.namespace), bed.running():
        await bed.until(lambda: bed.ready(build_realm()))
        await bed.settled()
        since = bed.api.audit_position()
        await bed.settled()
        assert bed.writes(since) == []
