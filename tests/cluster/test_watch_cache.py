import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from real_servers.kubernetes import OPERATOR, ApiServer

from moorage_operator.kube import cache as cache_module
from moorage_operator.kube.cache import Cache, Cached, Watcher, build_cached
from moorage_operator.kube.client import Kube, Page, WatchEvent
from moorage_operator.kube.connection import Connection
from moorage_operator.kube.errors import KubeGoneError, KubeUnavailableError
from moorage_operator.kube.kinds import CONFIG_MAP


def config_map(namespace: str, name: str, **data: str) -> dict:
    meta = {"name": name, "namespace": namespace, "labels": {"owner": "us"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


@contextlib.asynccontextmanager
async def watching(watcher: Watcher) -> AsyncIterator[Cache]:
    task = asyncio.create_task(watcher.run())
    try:
        async with asyncio.timeout(20):
            await watcher.synced.wait()
        yield watcher.cache
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def holds(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def value_of(cache: Cache, namespace: str, name: str) -> str | None:
    found = cache.get(namespace, name)
    return found.decode()["data"]["a"] if found else None


async def test_it_follows_what_is_made_changed_and_deleted(kube: Kube, namespace: str) -> None:
    before = await kube.apply(config_map(namespace, "before", a="1"))
    heard: list[tuple[str | None, str | None]] = []
    cache = Cache(CONFIG_MAP)

    def listen(old: Cached | None, new: Cached | None) -> None:
        heard.append((old and old.name, new and new.name))

    cache.subscribe(listen)
    async with watching(Watcher(kube, cache, namespace, "owner=us")):
        assert value_of(cache, namespace, "before") == "1"
        await kube.apply(config_map(namespace, "after", a="1"))
        await kube.apply(config_map(namespace, "after", a="2"))
        await holds(lambda: value_of(cache, namespace, "after") == "2")
        await kube.delete(CONFIG_MAP, namespace, "before", before["metadata"]["uid"])
        await holds(lambda: cache.get(namespace, "before") is None)
    assert heard == [(None, "before"), (None, "after"), ("after", "after"), ("before", None)]


async def test_managed_fields_are_not_kept(kube: Kube, namespace: str) -> None:
    applied = await kube.apply(config_map(namespace, "one", a="1"))
    cached = build_cached(CONFIG_MAP, applied)
    assert "managedFields" in applied["metadata"]
    assert b"managedFields" not in cached.data


class Flaky(Kube):
    """Ends watches at once, or too old, and lists of an API server that lags behind."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.watches = self.lists = 0
        self.stale: Page | None = None

    async def list_all(self, *args: object, **named: object) -> Page:
        self.lists += 1
        if self.stale is not None:
            stale, self.stale = self.stale, None
            return stale
        return await super().list_all(*args, **named)  # type: ignore[arg-type]

    async def watch(self, *args: object, **named: object) -> AsyncIterator[WatchEvent]:
        self.watches += 1
        if self.watches % 3 == 0:
            raise KubeGoneError("too old", status=410)
        if self.watches % 3 == 1:
            raise KubeUnavailableError("cut off")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                async for event in super().watch(*args, **named):  # type: ignore[arg-type]
                    yield event


async def test_dropped_and_outdated_watches_lose_nothing(
    api_server: ApiServer, kube: Kube, namespace: str, monkeypatch
) -> None:
    monkeypatch.setattr(cache_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(cache_module, "LONGEST_PAUSE", 0.05)
    flaky = Flaky(kube.connection)
    async with watching(Watcher(flaky, Cache(CONFIG_MAP), namespace, "owner=us")) as cache:
        for number in range(20):
            await kube.apply(config_map(namespace, f"n{number % 5}", a=str(number)))
            await asyncio.sleep(0.05)
        await holds(
            lambda: [value_of(cache, namespace, f"n{n}") for n in range(5)] == [*map(str, range(15, 20))]
        )
        doomed = cache.get(namespace, "n0")
        assert doomed is not None
        await kube.delete(CONFIG_MAP, namespace, "n0", doomed.uid)
        await holds(lambda: cache.get(namespace, "n0") is None)
    assert flaky.lists > 1
    await flaky.close()


async def test_a_stale_list_brings_nothing_back(kube: Kube, namespace: str, monkeypatch) -> None:
    monkeypatch.setattr(cache_module, "FIRST_PAUSE", 0.01)
    made = await kube.apply(config_map(namespace, "one", a="old"))
    flaky = Flaky(kube.connection)
    stale = await kube.list_all(CONFIG_MAP, namespace, "owner=us")
    await kube.apply(config_map(namespace, "one", a="new"))
    await kube.apply(config_map(namespace, "two", a="gone"))
    heard: list[str] = []
    cache = Cache(CONFIG_MAP)
    cache.subscribe(lambda _, new: heard.append(new.decode()["data"]["a"] if new else "deleted"))
    async with watching(Watcher(flaky, cache, namespace, "owner=us")):
        await kube.delete(CONFIG_MAP, namespace, "one", made["metadata"]["uid"])
        await holds(lambda: cache.get(namespace, "one") is None)
        flaky.stale = stale
        seen = flaky.lists
        await holds(lambda: flaky.lists > seen + 1)
        assert cache.get(namespace, "one") is None
    assert "old" not in heard
    await flaky.close()


def test_older_news_of_an_object_is_passed_over() -> None:
    def version(number: int, uid: str = "u") -> dict:
        meta = {"name": "x", "namespace": "n", "uid": uid, "resourceVersion": str(number)}
        return {"metadata": meta, "data": {"v": str(number)}}

    cache = Cache(CONFIG_MAP)
    cache.put(version(5))
    cache.put(version(4))
    assert cache.get("n", "x").version == 5
    cache.remove(version(6))
    cache.put(version(5))
    assert cache.get("n", "x") is None
    cache.put(version(7, uid="another"))
    cache.remove(version(8))
    assert cache.get("n", "x").uid == "another"


async def test_what_may_not_be_read_is_reported_and_holds_nobody_up(
    api_server: ApiServer, namespace: str
) -> None:
    kube = Kube(Connection(api_server.url, api_server.ca_file.read_text(), api_server.tokens[OPERATOR]))
    watcher = Watcher(kube, Cache(CONFIG_MAP), namespace)
    async with watching(watcher):
        assert "cannot list" in (watcher.denied or "")
    await kube.close()
