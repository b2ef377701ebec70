"""Small typed calls to the API server. Every write passes one gate, which asks whether we may."""

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from moorage_operator.kube.connection import Connection, build_ssl_context
from moorage_operator.kube.errors import (
    KubeConflictError,
    KubeError,
    KubeNotFoundError,
    KubeUnavailableError,
    NotLeaderError,
    build_error,
)
from moorage_operator.kube.kinds import EVENT, Kind, kind_of

FIELD_MANAGER = "moorage-operator"
REQUEST_SECONDS = 5.0
"""With the Lease's 10 s until we stop writing, a write that we sent is over before another may lead (15 s)."""
WATCH_SECONDS = 300
WATCH_SILENCE_SECONDS = 330.0
PAGE_SIZE = 250
LONGEST_LINE = 8 * 1024 * 1024

Manifest = Mapping[str, Any]
log = logging.getLogger("moorage.kube")


@dataclass(frozen=True, slots=True)
class Page:
    """All objects of a list, raw, at one revision."""

    items: list[dict[str, Any]]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`kind` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    kind: str
    object: dict[str, Any]


def allow_all() -> bool:
    """For whoever writes without a Lease: the Lease itself, and tests."""
    return True


class Kube:
    """`may_write` is asked before each write that is sent. `count` is told method and status of each request.

    Every call raises a KubeError; none retries by itself.
    """

    def __init__(
        self,
        connection: Connection,
        may_write: Callable[[], bool] = allow_all,
        count: Callable[[str, int], None] = lambda _method, _status: None,
    ) -> None:
        self.connection = connection
        self.may_write = may_write
        self._count = count
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --- reads

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, or None where there is none."""
        try:
            return await self._request("GET", kind.path(namespace, name))
        except KubeNotFoundError:
            return None

    async def knows(self, kind: Kind) -> bool:
        """Whether this cluster serves the kind."""
        root = "/apis" if kind.group else "/api"
        try:
            answer = await self._request("GET", f"{root}/{kind.api_version}")
        except KubeNotFoundError:
            return False
        return any(entry["name"] == kind.plural for entry in answer["resources"])

    async def list_all(self, kind: Kind, namespace: str | None, selector: str = "", field: str = "") -> Page:
        """All objects in pages at one revision. KubeGoneError when that became too old on the way."""
        items: list[dict[str, Any]] = []
        query = {"limit": str(PAGE_SIZE)} | _selectors(selector, field)
        while True:
            answer = await self._request("GET", kind.path(namespace), query=query)
            items += answer["items"]
            token = answer["metadata"].get("continue")
            if not token:
                return Page(items, answer["metadata"]["resourceVersion"])
            query["continue"] = token

    async def watch(
        self, kind: Kind, namespace: str | None, resource_version: str, selector: str = "", field: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Events after `resource_version` until the server ends the stream. KubeGoneError when that is too old."""
        query = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        } | _selectors(selector, field)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=REQUEST_SECONDS, sock_read=WATCH_SILENCE_SECONDS
        )
        async with self._answer("GET", kind.path(namespace), query, None, None, timeout) as response:
            buffer = bytearray()
            async for chunk in response.content.iter_any():
                buffer += chunk
                *lines, rest = bytes(buffer).split(b"\n")
                buffer = bytearray(rest)
                for line in lines:
                    event = msgspec.json.decode(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise build_error(int(status.get("code", 500)), str(status.get("message", "")))
                    yield WatchEvent(event["type"], event["object"])

    # --- writes

    async def apply(
        self, manifest: Manifest, manager: str = FIELD_MANAGER, subresource: str = ""
    ) -> dict[str, Any]:
        """Server-side apply; fields that others hold and we name become ours. Idempotent."""
        meta = manifest["metadata"]
        path = kind_of(manifest).path(meta["namespace"], meta["name"], subresource)
        query = {"fieldManager": manager, "force": "true"}
        return await self._write("PATCH", path, manifest, "application/apply-patch+yaml", query)

    async def create(self, manifest: Manifest) -> dict[str, Any]:
        """KubeConflictError when it is there already."""
        path = kind_of(manifest).path(manifest["metadata"]["namespace"])
        return await self._write("POST", path, manifest, query={"fieldManager": FIELD_MANAGER})

    async def replace(self, manifest: Manifest) -> dict[str, Any]:
        """PUT with the object's own resourceVersion: KubeConflictError when somebody was faster."""
        meta = manifest["metadata"]
        path = kind_of(manifest).path(meta["namespace"], meta["name"])
        return await self._write("PUT", path, manifest, query={"fieldManager": FIELD_MANAGER})

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> dict[str, Any]:
        """A JSON merge patch; with metadata.resourceVersion in it, KubeConflictError when somebody was faster."""
        path = kind.path(namespace, name)
        return await self._write(
            "PATCH", path, patch, "application/merge-patch+json", {"fieldManager": FIELD_MANAGER}
        )

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str, resource_version: str | None = None
    ) -> bool:
        """Delete exactly the object that was seen; False when it is not there (any more). Dependents follow."""
        preconditions = {"uid": uid}
        if resource_version is not None:
            preconditions["resourceVersion"] = resource_version
        body = {"preconditions": preconditions, "propagationPolicy": "Background"}
        try:
            await self._write("DELETE", kind.path(namespace, name), body)
        except KubeNotFoundError:
            return False
        return True

    async def post_event(self, event: Manifest) -> None:
        """An Event for people. What stands in its way is logged: nobody waits for it."""
        try:
            await self._write("POST", EVENT.path(event["metadata"]["namespace"]), event)
        except NotLeaderError:
            raise
        except KubeConflictError:
            pass  # told already
        except KubeError as error:
            log.warning("event not posted: %s", error.detail)

    # --- requests

    async def _write(
        self,
        method: str,
        path: str,
        body: Manifest,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        if not self.may_write():
            raise NotLeaderError
        return await self._request(method, path, body, content_type, query)

    async def _request(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        content_type: str | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        async with self._answer(method, path, query, body, content_type, timeout) as response:
            try:
                answer: dict[str, Any] = msgspec.json.decode(await response.read())
            except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
                raise KubeUnavailableError(f"{method} {path}: {type(error).__name__}") from error
        return answer

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Manifest | None,
        content_type: str | None,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer if it is a good one, else the error that it stands for."""
        headers = {"Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        if token := self.connection.read_token():
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with self._open().request(
                method,
                self.connection.server + path,
                params=query or {},
                data=None if body is None else json.dumps(body, separators=(",", ":")),
                headers=headers,
                timeout=timeout,
            ) as response:
                self._count(method, response.status)
                if response.status >= 300:
                    raise await _read_error(response, f"{method} {path}")
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(method, 0)
            raise KubeUnavailableError(f"{method} {path}: {type(error).__name__} {error}".rstrip()) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = build_ssl_context(self.connection)
            connector = aiohttp.TCPConnector(ssl=context or True, limit=64)
            self._session = aiohttp.ClientSession(connector=connector, read_bufsize=256 * 1024)
        return self._session


async def create_or_get(kube: Kube, manifest: Manifest) -> dict[str, Any]:
    """The object as it was made now or before: who makes it first wins. Idempotent."""
    try:
        return await kube.create(manifest)
    except KubeConflictError:
        meta = manifest["metadata"]
        found = await kube.get(kind_of(manifest), meta["namespace"], meta["name"])
        if found is None:
            raise
        return found


async def _read_error(response: aiohttp.ClientResponse, what: str) -> KubeError:
    text = await response.text()
    with contextlib.suppress(ValueError, AttributeError):
        text = json.loads(text).get("message", text)
    retry_after: float | None = None
    with contextlib.suppress(ValueError):
        retry_after = float(response.headers.get("Retry-After", ""))
    return build_error(response.status, f"{what}: {text.strip()[:1000]}", retry_after)


def _selectors(labels: str, fields: str) -> dict[str, str]:
    query = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in query.items() if value}
