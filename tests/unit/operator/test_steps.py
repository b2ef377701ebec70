"""Which phases are open: for what is missing, and for what differs."""

from typing import Any

from moorage_operator.reconcile.steps import plan_steps, why_blocked
from moorage_operator.resources.manifest import Manifest, Phase


def deployment(name: str, phase: Phase, image: str = "one") -> Manifest:
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "harbour"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "it", "image": image}]}}},
    }
    return Manifest(phase, body)


def stateful_set(name: str, image: str = "one") -> Manifest:
    body = {**deployment(name, Phase.STORES, image).body, "kind": "StatefulSet"}
    return Manifest(Phase.STORES, body)


def job(name: str) -> Manifest:
    body = {**deployment(name, Phase.STORES).body, "kind": "Job", "apiVersion": "batch/v1"}
    return Manifest(Phase.STORES, body)


class Cluster:
    """Objects as they were applied; a workload is ready when it is named in `ready`."""

    def __init__(self, *applied: Manifest, ready: tuple[str, ...] = ()) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        for manifest in applied:
            (step,) = plan_steps([manifest], lambda _: None, (), lambda *_: None).steps
            assert step.body is not None
            settled = 1 if manifest.name in ready else 0
            status = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": settled}
            self.objects[manifest.name] = {**step.body, "status": status}

    def live(self, body: Any) -> dict[str, Any] | None:
        return self.objects.get(body["metadata"]["name"])

    def steps(self, mine: list[Manifest], others: list[Manifest]) -> list[str]:
        def blocked(phase: Phase, missing: bool) -> str | None:
            return why_blocked(phase, missing, mine, [others], self.live)

        return [step.reason for step in plan_steps(mine, self.live, (), blocked).steps]


def test_servers_of_a_new_realm_do_not_wait_for_one_another():
    """L3 gets ready only when auth has told it which realm this is; auth comes last in an upgrade."""
    l3 = deployment("l3", Phase.L3)
    assert Cluster(l3).steps([deployment("auth", Phase.AUTH)], [l3]) == ["Deployment/auth is missing"]


def test_an_upgrade_goes_through_the_phases_in_order():
    l3, auth = deployment("l3", Phase.L3), deployment("auth", Phase.AUTH)
    newer = deployment("auth", Phase.AUTH, "two")
    assert Cluster(l3, auth).steps([newer], [l3]) == []
    assert Cluster(l3, auth, ready=("l3",)).steps([newer], [l3]) == ["Deployment/auth differs"]


def test_what_is_missing_still_waits_for_the_stores_of_its_own_resource():
    store, block = deployment("store", Phase.STORES), deployment("block", Phase.BLOCK)
    assert Cluster(store).steps([store, block], []) == []
    assert Cluster(store, ready=("store",)).steps([store, block], []) == ["Deployment/block is missing"]


def test_what_differs_waits_while_the_etcd_of_another_resource_is_on_its_way_to_a_newer_template():
    """Its own servers come after it, and those of later phases after them."""
    auth, newer = deployment("auth", Phase.AUTH), deployment("auth", Phase.AUTH, "two")
    etcd, l3 = stateful_set("etcd"), deployment("l3", Phase.L3)
    wished = [stateful_set("etcd", "two"), deployment("l3", Phase.L3, "two")]
    cluster = Cluster(etcd, l3, auth, ready=("etcd", "l3", "auth"))
    assert cluster.steps([newer], wished) == [], "etcd is not applied yet"

    cluster = Cluster(wished[0], l3, auth, ready=("l3", "auth"))
    cluster.objects["etcd"]["status"] |= {"currentRevision": "1", "updateRevision": "2"}
    assert cluster.steps([newer], wished) == [], "all pods are new, the last one is not ready"

    cluster = Cluster(wished[0], l3, auth, ready=("etcd", "l3", "auth"))
    assert cluster.steps([newer], wished) == [], "the turn of L3"
    cluster = Cluster(*wished, auth, ready=("etcd", "l3", "auth"))
    assert cluster.steps([newer], wished) == ["Deployment/auth differs"]


def test_an_etcd_that_is_down_or_new_holds_up_no_other_resource():
    auth, newer = deployment("auth", Phase.AUTH), deployment("auth", Phase.AUTH, "two")
    etcd, l3 = stateful_set("etcd"), deployment("l3", Phase.L3)
    down = Cluster(etcd, l3, auth, ready=("l3", "auth"))
    assert down.steps([newer], [etcd, l3]) == ["Deployment/auth differs"]
    for there in ([], [etcd]):
        new = Cluster(*there, auth, ready=("auth",))
        assert new.steps([newer], [etcd, l3]) == ["Deployment/auth differs"]


def test_what_differs_waits_while_the_store_of_a_pool_that_serves_is_tried_anew():
    auth, newer = deployment("auth", Phase.AUTH), deployment("auth", Phase.AUTH, "two")
    trial, block = job("trial-of-two"), deployment("block", Phase.BLOCK)
    assert Cluster(block, auth, ready=("block", "auth")).steps([newer], [trial, block]) == []
    assert Cluster(trial, block, auth, ready=("block", "auth")).steps([newer], [trial, block]) == []
    new_pool = Cluster(trial, auth, ready=("auth",))
    assert new_pool.steps([newer], [trial, block]) == ["Deployment/auth differs"]
