"""An operator of a test: started, waited for until it has nothing to do, stopped, killed."""

import asyncio
import contextlib
import datetime as dt
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from real_servers.kubernetes import ADMIN, OPERATOR, ApiServer

from moorage_operator.kube.cache import Watcher
from moorage_operator.kube.client import Kube
from moorage_operator.kube.connection import Connection
from moorage_operator.kube.errors import KubeUnavailableError
from moorage_operator.kube.kinds import RESOURCES, Kind, kind_of
from moorage_operator.reconcile.operator import Operator, OperatorSettings
from moorage_operator.reconcile.servers import RegistryReport, Revisions, StoringReport, UsersReport
from moorage_operator.reconcile.space import Space
from moorage_operator.resources.context import Images

IMAGES = Images(nodes="moorage:test", etcd="etcd:test")
SETTLE_SECONDS = 150.0


def connect(api: ApiServer, user: str = ADMIN) -> Connection:
    return Connection(api.url, ca_pem=api.ca_file.read_text(), token=api.tokens[user])


class PatientKube(Kube):
    """The test's own hand: on a machine that is busy it asks again, where that is the same as once."""

    async def _request(self, method: str, *arguments: Any, **named: Any) -> dict[str, Any]:
        for _ in range(10):
            try:
                return await super()._request(method, *arguments, **named)
            except KubeUnavailableError as error:
                if method == "POST":
                    raise
                last = error
        raise last


class TellingServers:
    """Servers that report what they are told to: pods have no addresses here that anybody could reach."""

    def __init__(self) -> None:
        self.report: Revisions | None = None
        self.space: Space | None = None

    async def ask_revisions(self, addresses: Sequence[str]) -> list[Revisions | None]:
        return [self.report for _ in addresses]

    async def ask_users(self, addresses: Sequence[str], token: str) -> list[UsersReport | None]:
        return [None for _ in addresses]

    async def ask_storing(self, addresses: Sequence[str], token: str) -> list[StoringReport | None]:
        return [None for _ in addresses]

    async def ask_registry(self, addresses: Sequence[str], token: str) -> list[RegistryReport | None]:
        return [None for _ in addresses]

    async def ask_space(self, addresses: Sequence[str]) -> list[Space | None]:
        return [self.space for _ in addresses]


class Bed:
    """One namespace with its operator. `kube` has all rights and no gate: the test's own hand."""

    def __init__(self, api: ApiServer, namespace: str, kube: Kube, user: str = OPERATOR) -> None:
        self.api = api
        self.namespace = namespace
        self.kube = kube
        self.user = user
        self.servers = TellingServers()
        self.images = IMAGES
        self.more_namespaces: tuple[str, ...] = ()
        self.now = dt.datetime(2026, 11, 25, 12, 0, tzinfo=dt.UTC)
        self.operator: Operator | None = None
        self.prepared: Any = None

    def build_operator(self) -> Operator:
        """With a Lease of its own: one that was killed is not waited for."""
        identity = secrets.token_hex(4)
        settings = OperatorSettings(
            images=self.images,
            namespace=self.namespace,
            identity=identity,
            namespaces=(self.namespace, *self.more_namespaces),
            lease_name=f"lease-{identity}",
        )
        connection = connect(self.api, self.user)
        return Operator(connection, settings, self.servers, now=lambda: self.now)

    @contextlib.asynccontextmanager
    async def running(self, prepare: Callable[[Operator], Any] | None = None) -> AsyncIterator[Operator]:
        """An operator that hears of resources by watches, as kopf would tell it. `prepare` sees it before it runs;
        `prepared` is what that returned.
        """
        operator = self.operator = self.build_operator()
        self.prepared = prepare(operator) if prepare else None
        hearing = [
            Watcher(operator.kube, operator.world.resources[kind.name], self.namespace) for kind in RESOURCES
        ]
        tasks = [asyncio.create_task(watcher.run()) for watcher in hearing]
        tasks.append(asyncio.create_task(operator.run()))
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await operator.synced.wait()
            yield operator
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self, quiet: float = 0.3) -> None:
        """Until the operator has had nothing to do for a while."""
        operator = self.operator
        assert operator is not None
        async with asyncio.timeout(SETTLE_SECONDS):
            since = None
            while True:
                now = asyncio.get_running_loop().time()
                if len(operator.queue) or not operator.lease.holds():
                    since = None
                elif since is None:
                    since = now
                elif now - since > quiet:
                    return
                await asyncio.sleep(0.02)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Until it holds; AssertionError with what every resource says when it does not come to."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            if loop.time() > deadline:
                raise AssertionError(await self.describe())
            await asyncio.sleep(0.05)

    async def describe(self) -> str:
        """All conditions of all resources."""
        lines = []
        for kind in RESOURCES:
            for one in (await self.kube.list_all(kind, self.namespace)).items:
                lines.append(f"{kind.name}/{one['metadata']['name']}")
                said = (one.get("status") or {}).get("conditions", ())
                lines += ["  {type}={status} {reason}: {message}".format(**condition) for condition in said]
        return "\n".join(lines)

    async def put(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """As a person would by `kubectl apply --server-side`."""
        meta = {**manifest["metadata"], "namespace": self.namespace}
        return await self.kube.apply({**manifest, "metadata": meta}, manager="person")

    async def take(self, kind: Kind, name: str) -> None:
        found = await self.kube.get(kind, self.namespace, name)
        assert found is not None
        await self.kube.delete(kind, self.namespace, name, found["metadata"]["uid"])

    async def conditions(self, manifest: dict[str, Any]) -> dict[str, tuple[str, str]]:
        """Condition type → (status, reason)."""
        found = await self.kube.get(kind_of(manifest), self.namespace, manifest["metadata"]["name"])
        assert found is not None
        status = found.get("status") or {}
        return {one["type"]: (one["status"], one["reason"]) for one in status.get("conditions", ())}

    async def ready(self, manifests: Sequence[dict[str, Any]]) -> bool:
        """Whether all of them say that they are, of the spec that they have now."""
        for manifest in manifests:
            found = await self.kube.get(kind_of(manifest), self.namespace, manifest["metadata"]["name"])
            status = (found or {}).get("status") or {}
            if found is None or status.get("observedGeneration") != found["metadata"]["generation"]:
                return False
            said = {one["type"]: one["reason"] for one in status["conditions"] if one["status"] == "True"}
            if said.get("Ready") != "Ready":
                return False
        return True

    async def message(self, manifest: dict[str, Any], condition: str) -> str:
        found = await self.kube.get(kind_of(manifest), self.namespace, manifest["metadata"]["name"])
        assert found is not None
        return str(next(one["message"] for one in found["status"]["conditions"] if one["type"] == condition))

    def requests(self, since: int) -> list[str]:
        """Every request of the operator, watches that go on and the Lease aside."""
        return [
            f"{event['verb']} {event['requestURI'].partition('?')[0]}"
            for event in self.api.audit_events(since)
            if event["user"]["username"] == self.user
            and event["verb"] != "watch"
            and event.get("objectRef", {}).get("resource") != "leases"
            and event.get("objectRef", {}).get("namespace") == self.namespace
        ]

    def writes(self, since: int) -> list[str]:
        """Every request of the operator that is no read, the Lease aside."""
        return [
            f"{event['verb']} {event['requestURI'].partition('?')[0]}"
            for event in self.api.audit_events(since)
            if event["user"]["username"] == self.user
            and event["verb"] not in {"get", "list", "watch"}
            and event.get("objectRef", {}).get("resource") != "leases"
            and event.get("objectRef", {}).get("namespace") == self.namespace
        ]
