"""Secrets of a resource that was deleted and made again: the second one has them too, whoever is faster."""

from typing import Any

from moorage_operator.kube.client import Kube
from moorage_operator.kube.kinds import SECRET
from moorage_operator.reconcile.secret_keeper import SecretKeeper
from moorage_operator.resources.manifest import OWNER_KIND
from moorage_operator.spec.base import API_VERSION

NAME = "main-block-signing"


def metadata(namespace: str, uid: str) -> dict[str, Any]:
    owner = {"apiVersion": API_VERSION, "kind": "BlockPool", "name": "main", "uid": uid, "controller": True}
    labels = {OWNER_KIND: "BlockPool"}
    return {"name": NAME, "namespace": namespace, "labels": labels, "ownerReferences": [owner]}


async def ensure(keeper: SecretKeeper, namespace: str, uid: str, content: str) -> str:
    return await keeper.ensure(metadata(namespace, uid), lambda: {"key": content}, lambda data: data["key"])


async def test_what_went_with_the_resource_before_is_made_again_at_once(kube: Kube, namespace: str):
    keeper = SecretKeeper(kube)
    assert await ensure(keeper, namespace, "first", "one") == "one"
    found = await kube.get(SECRET, namespace, NAME)
    assert found is not None
    await kube.delete(SECRET, namespace, NAME, found["metadata"]["uid"])
    assert await ensure(keeper, namespace, "first", "two") == "one", "looked at again after some minutes"
    assert await ensure(keeper, namespace, "second", "two") == "two"
    assert await kube.get(SECRET, namespace, NAME) is not None


async def test_what_is_about_to_go_with_the_resource_before_is_taken_over_as_it_is(
    kube: Kube, namespace: str
):
    keeper = SecretKeeper(kube)
    await ensure(keeper, namespace, "first", "one")
    assert await ensure(keeper, namespace, "second", "two") == "one"
    taken = await kube.get(SECRET, namespace, NAME)
    assert taken is not None
    assert [owner["uid"] for owner in taken["metadata"]["ownerReferences"]] == ["second"]
    exactly = {"key": "dHdv"}
    await keeper.ensure_exactly(metadata(namespace, "third"), exactly)
    taken = await kube.get(SECRET, namespace, NAME)
    assert taken is not None
    assert taken["data"] == exactly
    assert [owner["uid"] for owner in taken["metadata"]["ownerReferences"]] == ["third"]


async def test_an_unchanged_secret_is_written_once(kube: Kube, namespace: str):
    await ensure(SecretKeeper(kube), namespace, "first", "one")
    before = await kube.get(SECRET, namespace, NAME)
    await ensure(SecretKeeper(kube), namespace, "first", "two")
    assert await kube.get(SECRET, namespace, NAME) == before


async def test_a_secret_that_was_looked_for_and_not_there_is_made_when_it_is_wanted(
    kube: Kube, namespace: str
):
    keeper = SecretKeeper(kube)
    assert await keeper.look(metadata(namespace, "first"), lambda data: data["key"]) is None
    assert await ensure(keeper, namespace, "first", "one") == "one"
    assert await kube.get(SECRET, namespace, NAME) is not None
