"""Secrets that the operator makes: read by name, never listed or watched, and only what it made itself.

Each is read once and looked at again after `FRESH_SECONDS`, so an unchanged pass asks nothing and what somebody
deleted or broke is made again. Only what `read` extracts is remembered (public keys), never the secret itself; and only
for the resource that it was made for: one of the same name that comes later finds its Secrets gone, or about to be
collected with the resource before, and takes those over.
"""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from moorage_operator.kube.client import Kube, create_or_get
from moorage_operator.kube.kinds import SECRET
from moorage_operator.resources.manifest import OWNER_KIND, Body, hash_content

T = TypeVar("T")
FRESH_SECONDS = 300.0


class ForeignSecretError(Exception):
    """A Secret of the name that we would make is somebody else's: it is left alone."""


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """`owner`: uid of the resource that the Secret belongs to; empty for what is kept."""

    value: T
    read_at: float
    owner: str


class SecretKeeper:
    """Nothing here is atomic over two Secrets; each call is idempotent."""

    def __init__(self, kube: Kube, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._monotonic = monotonic
        self._facts: dict[tuple[str, str], Fact[Any]] = {}

    def forget(self, namespace: str, name: str) -> None:
        self._facts.pop((namespace, name), None)

    async def ensure(
        self,
        metadata: Body,
        make: Callable[[], Mapping[str, str]],
        read: Callable[[Mapping[str, str]], T],
    ) -> T:
        """What `read` finds in the Secret, which is made when it is not there and made anew when `read` raises
        KeyError or ValueError. KubeForbiddenError without the permission, ForeignSecretError when it is not ours.
        """
        fact = self._fresh(metadata)
        if fact is not None and fact.value is not None:  # that it was not there is known by `look`
            value: T = fact.value
            return value
        found = await self._kube.get(SECRET, metadata["namespace"], metadata["name"])
        if found is None:
            found = await create_or_get(self._kube, _build(metadata, make()))
        check_ours(found)
        version = {"resourceVersion": found["metadata"]["resourceVersion"]}
        try:
            value = read(_decode(found))
        except (KeyError, ValueError):
            made = _build(metadata, make())
            found = await self._kube.replace({**made, "metadata": {**metadata, **version}})
            value = read(_decode(found))
        else:
            if _owner(found["metadata"]) != _owner(metadata):
                await self._kube.replace({**found, "metadata": {**metadata, **version}})
        self.remember(metadata, value)
        return value

    async def look(self, metadata: Body, read: Callable[[Mapping[str, str]], T]) -> T | None:
        """What `read` finds in the Secret; None when it is not there or `read` raises KeyError or ValueError."""
        fact = self._fresh(metadata)
        if fact is not None:
            known: T | None = fact.value
            return known
        found = await self._kube.get(SECRET, metadata["namespace"], metadata["name"])
        value: T | None = None
        if found is not None:
            check_ours(found)
            try:
                value = read(_decode(found))
            except (KeyError, ValueError):
                value = None
        self.remember(metadata, value)
        return value

    async def ensure_exactly(self, metadata: Body, data: Mapping[str, str]) -> None:
        """The Secret with exactly this `data` (base64 by key), written when it holds anything else."""
        mark = hash_content(data)
        fact = self._fresh(metadata)
        if fact is not None and fact.value == mark:
            return
        wished = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
        found = await self._kube.get(SECRET, metadata["namespace"], metadata["name"])
        if found is None:
            found = await create_or_get(self._kube, wished)
        check_ours(found)
        if found.get("data") != data or _owner(found["metadata"]) != _owner(metadata):
            version = {"resourceVersion": found["metadata"]["resourceVersion"]}
            found = await self._kube.replace({**wished, "metadata": {**metadata, **version}})
        self.remember(metadata, mark)

    def remember(self, metadata: Body, value: Any) -> None:
        """What was found out about a Secret, until it is looked at again."""
        place = (metadata["namespace"], metadata["name"])
        self._facts[place] = Fact(value, self._monotonic(), _owner(metadata))

    def recall(self, metadata: Body) -> Any:
        """What is remembered; None when it has to be looked at again."""
        fact = self._fresh(metadata)
        return None if fact is None else fact.value

    async def fetch_data(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """`data` as it is now, base64 by key."""
        found = await self._kube.get(SECRET, namespace, name)
        if found is None:
            return None
        check_ours(found)
        return found.get("data") or {}

    async def fetch(self, namespace: str, name: str) -> tuple[Mapping[str, str], str] | None:
        """The content as it is now, and its resource version."""
        found = await self._kube.get(SECRET, namespace, name)
        if found is None:
            return None
        check_ours(found)
        return _decode(found), found["metadata"]["resourceVersion"]

    async def replace(self, metadata: Body, content: Mapping[str, str], resource_version: str) -> None:
        """Write over what was fetched. KubeConflictError when it has changed since."""
        self.forget(metadata["namespace"], metadata["name"])
        made = _build(metadata, content)
        made["metadata"] = {**made["metadata"], "resourceVersion": resource_version}
        await self._kube.replace(made)

    async def drop(self, namespace: str, name: str) -> None:
        """Delete it if it is there and ours."""
        self.forget(namespace, name)
        found = await self._kube.get(SECRET, namespace, name)
        if found is not None:
            check_ours(found)
            meta = found["metadata"]
            await self._kube.delete(SECRET, namespace, name, meta["uid"], meta["resourceVersion"])

    def _fresh(self, metadata: Body) -> Fact[Any] | None:
        fact = self._facts.get((metadata["namespace"], metadata["name"]))
        if fact is None or fact.owner != _owner(metadata):
            return None
        return fact if self._monotonic() - fact.read_at < FRESH_SECONDS else None


def _owner(metadata: Mapping[str, Any]) -> str:
    """Uid of the resource that it is collected with."""
    return next((str(reference["uid"]) for reference in metadata.get("ownerReferences", ())), "")


def check_ours(found: Mapping[str, Any]) -> None:
    meta = found["metadata"]
    if OWNER_KIND not in meta.get("labels", {}):
        raise ForeignSecretError(
            f"Secret/{meta['name']} was not made by the operator, which needs this name: rename or delete it."
        )


def _build(metadata: Body, content: Mapping[str, str]) -> Body:
    data = {name: base64.b64encode(text.encode()).decode() for name, text in content.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def _decode(found: Mapping[str, Any]) -> dict[str, str]:
    """ValueError when an entry is no text."""
    return {name: base64.b64decode(value).decode() for name, value in (found.get("data") or {}).items()}
