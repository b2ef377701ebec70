import asyncio

import pytest
from real_servers.kubernetes import OPERATOR, ApiServer

from moorage_operator.kube.client import Kube, create_or_get
from moorage_operator.kube.connection import Connection, load_connection
from moorage_operator.kube.errors import (
    KubeConflictError,
    KubeForbiddenError,
    KubeGoneError,
    KubeInvalidError,
    KubeUnavailableError,
    NotLeaderError,
)
from moorage_operator.kube.kinds import CONFIG_MAP, INGRESS, SECRET, SERVICE, Kind


def config_map(namespace: str, name: str = "one", **data: str) -> dict:
    meta = {"name": name, "namespace": namespace, "labels": {"test": "yes"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


async def test_an_apply_makes_what_is_missing_and_the_same_again_changes_nothing(
    kube: Kube, namespace: str
) -> None:
    first = await kube.apply(config_map(namespace, a="1"))
    second = await kube.apply(config_map(namespace, a="1"))
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_an_apply_drops_what_we_no_longer_name_and_leaves_what_others_set(
    kube: Kube, namespace: str
) -> None:
    await kube.apply(config_map(namespace, a="1", b="2"))
    await kube.apply(config_map(namespace, theirs="3"), manager="somebody-else")
    applied = await kube.apply(config_map(namespace, a="1"))
    assert applied["data"] == {"a": "1", "theirs": "3"}


async def test_a_delete_spares_an_object_that_is_another_one_or_has_changed_since(
    kube: Kube, namespace: str
) -> None:
    old = await kube.apply(config_map(namespace, a="1"))
    await kube.apply(config_map(namespace, a="2"))
    uid, version = old["metadata"]["uid"], old["metadata"]["resourceVersion"]
    with pytest.raises(KubeConflictError):
        await kube.delete(CONFIG_MAP, namespace, "one", uid, version)
    with pytest.raises(KubeConflictError):
        await kube.delete(CONFIG_MAP, namespace, "one", "another-uid")
    assert await kube.delete(CONFIG_MAP, namespace, "one", uid) is True
    assert await kube.delete(CONFIG_MAP, namespace, "one", uid) is False


async def test_what_the_server_refuses_says_why(kube: Kube, namespace: str) -> None:
    with pytest.raises(KubeInvalidError, match="must consist of"):
        await kube.apply(config_map(namespace, name="Not A Name"))


async def test_a_missing_permission_is_named(api_server: ApiServer, namespace: str) -> None:
    kube = Kube(Connection(api_server.url, api_server.ca_file.read_text(), api_server.tokens[OPERATOR]))
    with pytest.raises(KubeForbiddenError, match='cannot get resource "secrets"'):
        await kube.get(SECRET, namespace, "one")
    await kube.close()


async def test_an_api_server_that_is_not_there_is_an_error_of_ours() -> None:
    kube = Kube(Connection("http://127.0.0.1:9"))
    with pytest.raises(KubeUnavailableError):
        await kube.get(SECRET, "default", "one")
    await kube.close()


async def test_a_closed_gate_sends_no_write(api_server: ApiServer, kube: Kube, namespace: str) -> None:
    made = await kube.apply(config_map(namespace, a="1"))
    kube.may_write = lambda: False
    since = api_server.audit_position()
    meta = made["metadata"]
    for write in (
        lambda: kube.apply(config_map(namespace, a="2")),
        lambda: kube.create(config_map(namespace, name="two")),
        lambda: kube.replace(made),
        lambda: kube.merge(CONFIG_MAP, namespace, "one", {"data": {"a": "2"}}),
        lambda: kube.delete(CONFIG_MAP, namespace, "one", meta["uid"]),
        lambda: kube.post_event({"metadata": {"namespace": namespace}}),
    ):
        with pytest.raises(NotLeaderError):
            await write()
    assert [event for event in api_server.audit_events(since) if namespace in event["requestURI"]] == []


async def test_who_makes_an_object_first_wins(kube: Kube, namespace: str) -> None:
    made = await asyncio.gather(
        *(create_or_get(kube, config_map(namespace, maker=str(number))) for number in range(5))
    )
    assert len({one["metadata"]["uid"] for one in made}) == 1
    assert len({one["data"]["maker"] for one in made}) == 1


async def test_a_long_list_is_read_in_pages(
    kube: Kube, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage_operator.kube.client.PAGE_SIZE", 3)
    await asyncio.gather(*(kube.apply(config_map(namespace, name=f"n{n}")) for n in range(8)))
    page = await kube.list_all(CONFIG_MAP, namespace, "test=yes")
    assert sorted(item["metadata"]["name"] for item in page.items) == [f"n{n}" for n in range(8)]


async def test_a_watch_tells_every_change_after_the_list(kube: Kube, namespace: str) -> None:
    page = await kube.list_all(CONFIG_MAP, namespace)
    made = await kube.apply(config_map(namespace, a="1"))
    await kube.delete(CONFIG_MAP, namespace, "one", made["metadata"]["uid"])
    kinds = []
    async with asyncio.timeout(20):
        async for event in kube.watch(CONFIG_MAP, namespace, page.resource_version, "test=yes"):
            if event.kind != "BOOKMARK":
                kinds.append(event.kind)
            if len(kinds) == 2:
                break
    assert kinds == ["ADDED", "DELETED"]


async def test_a_watch_from_before_a_compaction_says_that_it_must_start_over(
    api_server: ApiServer, kube: Kube, namespace: str
) -> None:
    templates = Kind("v1", "PodTemplate", "podtemplates")
    made = await kube.apply(config_map(namespace, a="1"))
    api_server.compact(int(made["metadata"]["resourceVersion"]))
    with pytest.raises(KubeGoneError):
        async for _ in kube.watch(templates, namespace, "1"):
            pass


async def test_the_cluster_says_which_kinds_it_serves(kube: Kube) -> None:
    assert await kube.knows(INGRESS)
    assert await kube.knows(SERVICE)
    assert not await kube.knows(Kind("nobody.example.com/v1", "Nothing", "nothings"))
    assert not await kube.knows(Kind(INGRESS.api_version, "Nothing", "nothings"))


async def test_a_kubeconfig_is_enough_to_connect(api_server: ApiServer, namespace: str) -> None:
    kube = Kube(load_connection({"KUBECONFIG": str(api_server.kubeconfig())}))
    assert (await kube.apply(config_map(namespace, a="1")))["data"] == {"a": "1"}
    await kube.close()
