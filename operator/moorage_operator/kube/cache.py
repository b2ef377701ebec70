"""Watch caches: what the API server holds of one kind, as far as we have heard. List, then watch, for ever.

Objects are kept trimmed and encoded, 2 or 3 kB each instead of ten times that as Python values, and decoded for who
asks. Never older than it was: an event or a list from an API server that lags behind is told by its resource version
(comparable by KEP-5504) and passed over.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from moorage_operator.kube.client import Kube
from moorage_operator.kube.errors import KubeError, KubeForbiddenError, KubeGoneError, KubeNotFoundError
from moorage_operator.kube.kinds import Kind

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
DENIED_PAUSE = 30.0
MAX_TOMBSTONES = 10_000

Key = tuple[str, str]
"""Namespace and name."""
Listener = Callable[["Cached | None", "Cached | None"], None]
"""Called with what was known before and what is known now."""

log = logging.getLogger("moorage.kube")


@dataclass(frozen=True, slots=True)
class Cached:
    """One object. `labels` are looked at without decoding; `decode()` gives a value of the caller's own."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    version: int
    labels: Mapping[str, str]
    data: bytes

    @property
    def key(self) -> Key:
        return (self.namespace, self.name)

    def decode(self) -> dict[str, Any]:
        value: dict[str, Any] = msgspec.json.decode(self.data)
        return value


def build_cached(kind: Kind, value: Mapping[str, Any]) -> Cached:
    """Without what nobody here looks at: managed fields, and what kubectl remembers."""
    meta = {
        name: field for name, field in value["metadata"].items() if name not in {"managedFields", "selfLink"}
    }
    if "annotations" in meta:
        meta["annotations"] = {
            name: text
            for name, text in meta["annotations"].items()
            if name != "kubectl.kubernetes.io/last-applied-configuration"
        }
    trimmed = {**value, "apiVersion": kind.api_version, "kind": kind.name, "metadata": meta}
    return Cached(
        kind,
        meta.get("namespace", ""),
        meta["name"],
        meta["uid"],
        int(meta["resourceVersion"]),
        meta.get("labels", {}),
        msgspec.json.encode(trimmed),
    )


class Cache:
    """The objects of one kind. Listeners hear of every change, from the watch and from our own writes."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._objects: dict[Key, Cached] = {}
        self._gone: dict[str, int] = {}
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def get(self, namespace: str, name: str) -> Cached | None:
        return self._objects.get((namespace, name))

    def __iter__(self) -> Iterator[Cached]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, value: Mapping[str, Any]) -> None:
        """What the API server has just said an object is; older news than we have is passed over."""
        new = build_cached(self.kind, value)
        if new.version <= self._gone.get(new.uid, -1):
            return
        old = self._objects.get(new.key)
        if old is not None and new.version <= old.version:
            return
        self._objects[new.key] = new
        self._tell(old, new)

    def remove(self, value: Mapping[str, Any]) -> None:
        """The object was deleted, at the resource version that `value` carries."""
        meta = value["metadata"]
        self._bury(meta["uid"], int(meta["resourceVersion"]))
        old = self._objects.get((meta.get("namespace", ""), meta["name"]))
        if old is not None and old.uid == meta["uid"]:
            del self._objects[old.key]
            self._tell(old, None)

    def replace_all(self, values: Iterable[Mapping[str, Any]], version: int, namespace: str | None) -> None:
        """A list at `version`: what is not in it is gone, unless we know it from later than that."""
        listed = list(values)
        keep = {(value["metadata"].get("namespace", ""), value["metadata"]["name"]) for value in listed}
        for old in self:
            if old.key not in keep and old.version <= version and namespace in {None, old.namespace}:
                self._bury(old.uid, version)
                del self._objects[old.key]
                self._tell(old, None)
        for value in listed:
            self.put(value)

    def _bury(self, uid: str, version: int) -> None:
        self._gone[uid] = max(version, self._gone.get(uid, 0))
        while len(self._gone) > MAX_TOMBSTONES:
            del self._gone[next(iter(self._gone))]

    def _tell(self, old: Cached | None, new: Cached | None) -> None:
        for listener in self._listeners:
            listener(old, new)


class Watcher:
    """Keeps a cache true for one namespace, or for all: `run` until cancelled."""

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        namespace: str | None,
        selector: str = "",
        field: str = "",
    ) -> None:
        self.synced = asyncio.Event()
        """Set after the first complete list, or when reading is denied: then there is nothing to wait for."""
        self.denied: str | None = None
        """Why this may not be read, while it may not."""
        self._kube = kube
        self.cache = cache
        self.namespace = namespace
        self._selector = selector
        self._field = field
        self._version = 0

    async def run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._list()
                pause = FIRST_PAUSE
                await self._follow()
            except (KubeForbiddenError, KubeNotFoundError) as error:
                if self.denied is None:
                    log.warning("cannot watch", extra={"kind": self.cache.kind.name, "reason": error.detail})
                self.denied = error.detail
                self.synced.set()
                pause = DENIED_PAUSE
            except KubeError as error:
                log.info("watch ended", extra={"kind": self.cache.kind.name, "reason": error.detail})
                pause = min(LONGEST_PAUSE, max(error.retry_after or 0.0, pause * 2))
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load, hides nothing

    async def _list(self) -> None:
        page = await self._kube.list_all(self.cache.kind, self.namespace, self._selector, self._field)
        version = int(page.resource_version)
        if version < self._version:
            raise KubeError(f"A list of {self.cache.kind.name} was older than what was seen before.")
        self._version = version
        self.cache.replace_all(page.items, version, self.namespace)
        self.denied = None
        self.synced.set()

    async def _follow(self) -> None:
        """Watches one after the other, from where the last one ended, until one has to start over."""
        while True:
            try:
                await self._watch_once()
            except KubeGoneError:
                return

    async def _watch_once(self) -> None:
        kube, cache = self._kube, self.cache
        stream = kube.watch(cache.kind, self.namespace, str(self._version), self._selector, self._field)
        async for event in stream:
            self._version = max(self._version, int(event.object["metadata"]["resourceVersion"]))
            if event.kind == "DELETED":
                cache.remove(event.object)
            elif event.kind != "BOOKMARK":
                cache.put(event.object)
