"""The jobs of the chart's demo, on a real API server."""

import pytest
from real_servers.kubernetes import ApiServer
from resources_bed import apply_crds, build_resource

from moorage_operator.demo import INSTANCE, apply_demo, delete_demo
from moorage_operator.kube.client import Kube
from moorage_operator.kube.kinds import kind_of

KINDS = ("AccessPoint", "MetadataCluster", "BlockPool", "Notifier")


@pytest.fixture
def manifests(api_server: ApiServer, namespace: str):
    apply_crds(api_server)

    def build(instance: str) -> list[dict]:
        built = []
        for kind in KINDS:
            resource = build_resource(kind)
            resource["metadata"] = {"name": "demo", "namespace": namespace, "labels": {INSTANCE: instance}}
            built.append(resource)
        return built

    return build


async def revisions(kube: Kube, manifests: list[dict]) -> list[str | None]:
    found = [await kube.get(kind_of(m), m["metadata"]["namespace"], m["metadata"]["name"]) for m in manifests]
    return [each and each["metadata"]["resourceVersion"] for each in found]


async def test_the_demo_is_applied_and_a_second_time_changes_nothing(kube, manifests):
    await apply_demo(kube, manifests("one"))
    applied = await revisions(kube, manifests("one"))
    assert all(applied)
    await apply_demo(kube, manifests("one"))
    assert await revisions(kube, manifests("one")) == applied


async def test_a_release_deletes_its_own_demo_and_no_other(kube, manifests):
    await apply_demo(kube, manifests("one"))
    await delete_demo(kube, manifests("other"), "other")
    assert all(await revisions(kube, manifests("one")))
    await delete_demo(kube, manifests("one"), "one")
    assert await revisions(kube, manifests("one")) == [None] * len(KINDS)
    await delete_demo(kube, manifests("one"), "one")


async def test_a_demo_that_another_release_has_taken_over_is_that_ones(kube, manifests):
    await apply_demo(kube, manifests("one"))
    await apply_demo(kube, manifests("two"))
    await delete_demo(kube, manifests("one"), "one")
    assert all(await revisions(kube, manifests("one")))
