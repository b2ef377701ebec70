"""The operator as a whole, but for how it hears of custom resources: caches, queue, Lease, and who may act.

Standbys keep the same caches warm and do not work. Losing the Lease ends the process: `run` returns.
"""

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from moorage_operator.kube.cache import DENIED_PAUSE, Cache, Cached, Watcher
from moorage_operator.kube.client import Kube
from moorage_operator.kube.connection import Connection
from moorage_operator.kube.errors import KubeError, KubeForbiddenError, NotLeaderError
from moorage_operator.kube.kinds import BUILT, HTTP_ROUTE, LEASE, RESOURCES, Kind
from moorage_operator.kube.lease import Lease
from moorage_operator.metrics import OperatorMetrics
from moorage_operator.reconcile.applying import Applier
from moorage_operator.reconcile.finalizing import Finalizer
from moorage_operator.reconcile.hearing import Hearing
from moorage_operator.reconcile.preparing import Preparer
from moorage_operator.reconcile.realms import NamespacePlan
from moorage_operator.reconcile.reconciler import Reconciler
from moorage_operator.reconcile.resource import KIND_BY_NAME, Resource, ResourceKey
from moorage_operator.reconcile.secret_keeper import SecretKeeper
from moorage_operator.reconcile.servers import Servers
from moorage_operator.reconcile.usage import Usage
from moorage_operator.reconcile.world import World
from moorage_operator.resources.context import Images
from moorage_operator.resources.manifest import MANAGED_BY
from moorage_operator.work_queue import WorkQueue

OWNED_SELECTOR = f"{MANAGED_BY}=moorage-operator"
RESYNC_SECONDS = 600.0
CANARY_SECONDS = 30.0
OLDEST_KEY_SECONDS = 120.0
SYNC_SECONDS = 60.0

log = logging.getLogger("moorage.operator")


class NamespaceOpenedError(Exception):
    """kopf has given up to watch a namespace whose rights have come since: only a new process hears of it."""


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """`namespaces` empty means all of the cluster. `namespace` is where the Lease lives."""

    images: Images
    namespace: str
    identity: str
    namespaces: tuple[str, ...] = ()
    lease_name: str = "moorage-operator"


class Operator:
    def __init__(
        self,
        connection: Connection,
        settings: OperatorSettings,
        servers: Servers,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        monotonic: Callable[[], float] = time.monotonic,
        hearing: Hearing | None = None,
    ) -> None:
        """`hearing` notes what kopf tells, where it is kopf that does."""
        self.settings = settings
        self._hearing = hearing
        self._monotonic = monotonic
        self.world = World(self._wake, self._in_use, self._why_pool_stays, self._planned)
        self.queue = WorkQueue[ResourceKey](self._work, monotonic=monotonic, expected=KubeError)
        self.metrics = OperatorMetrics(self._statuses, lambda: float(len(self.queue)))
        own = Kube(connection, count=self.metrics.count_request)
        self.lease = Lease(own, settings.namespace, settings.lease_name, settings.identity, monotonic)
        self.kube = Kube(connection, self.lease.holds, self.metrics.count_request)
        self._clients = (own, self.kube)
        self.keeper = SecretKeeper(self.kube, monotonic)
        self.usage = Usage(self.world, self.keeper, servers, now, monotonic)
        self.reconciler = Reconciler(
            self.kube,
            self.world,
            self.usage,
            Preparer(self.world, self.keeper, servers, settings.images, now),
            Applier(self.kube, self.world, monotonic),
            Finalizer(self.kube, self.world, self.keeper, now),
            servers,
            settings.identity,
            now,
            self._wake,
        )
        self.synced = asyncio.Event()
        self._leases = Cache(LEASE)
        self._leases.subscribe(self._lease_seen)
        self._lease_heard = monotonic()
        self._watchers: list[Watcher] = []
        self._closed: set[str | None] = set()  # namespaces that could not be listed

    async def run(self) -> None:
        """Until the Lease is lost, or for ever; cancelled, it releases the Lease and stops."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = [group.create_task(watcher.run()) for watcher in await self._build_watchers()]
                watching.append(group.create_task(self._resync_for_ever()))
                await self.lease.acquire()
                self._lease_heard = self._monotonic()
                self.metrics.set_leading(1)
                await self.synced.wait()
                # What was changed while nobody led is found by looking at everything once.
                self.queue.clear()
                self.wake_all()
                working = group.create_task(self.queue.run())
                await self.lease.keep()
                working.cancel()
                for task in watching:
                    task.cancel()
        finally:
            self.metrics.set_leading(0)
            await asyncio.shield(self._stop())

    async def _stop(self) -> None:
        await self.lease.release()
        for client in self._clients:
            await client.close()

    def wake_all(self) -> None:
        for key in (*self.world.keys(), *self.world.orphans()):
            self.queue.add(key)

    # --- probes

    def is_alive(self) -> tuple[bool, str]:
        """A leader sees its own renewals come back on a watch, and works off its queue. What only an API server that
        is down prevents does not count.
        """
        if not self.lease.holds():
            return True, "stands by"
        silence = self._monotonic() - self._lease_heard
        if silence > CANARY_SECONDS:
            return False, f"its own Lease has not been seen to be renewed for {silence:.0f} s"
        oldest = self.queue.oldest_seconds()
        if oldest > OLDEST_KEY_SECONDS:
            return False, f"a resource has been waiting for {oldest:.0f} s"
        return True, "leads"

    def is_ready(self) -> tuple[bool, str]:
        """Whether it knows the cluster: a standby too, since it must be able to take over at once."""
        denied = {watcher.namespace: watcher for watcher in self._watchers if watcher.denied}
        said = [
            f"may not watch {watcher.cache.kind.name}: {watcher.denied}"
            for _, watcher in sorted(denied.items())
        ]
        if denied and len(denied) == len({watcher.namespace for watcher in self._watchers}):
            return False, said[0]
        is_filled = self.synced.is_set()
        # A namespace that is closed to it, or was deleted, holds up no other one.
        return is_filled, "; ".join(
            ["caches are filled" if is_filled else "caches are not filled yet", *said]
        )

    # --- what is heard

    async def _build_watchers(self) -> list[Watcher]:
        kinds: list[Kind] = list(BUILT)
        while True:
            try:
                if await self.kube.knows(HTTP_ROUTE):
                    kinds.append(HTTP_ROUTE)
                break
            except KubeError as error:
                log.warning("API server not reached yet", extra={"reason": error.detail})
                await asyncio.sleep(1)
        places: Sequence[str | None] = self.settings.namespaces or (None,)
        self._watchers = [
            Watcher(self.kube, self.world.built[kind], place, OWNED_SELECTOR)
            for kind in kinds
            for place in places
        ]
        self._watchers += [
            Watcher(self.kube, self.world.endpoints, place, OWNED_SELECTOR) for place in places
        ]
        canary = Watcher(
            self.kube,
            self._leases,
            self.settings.namespace,
            field=f"metadata.name={self.settings.lease_name}",
        )
        return [*self._watchers, canary]

    async def _resync_for_ever(self) -> None:
        """First of all a list of every custom resource, then again now and then: an event that got lost is made up
        for, and what is not watched (Secrets) is looked at.
        """
        for watcher in self._watchers:
            await watcher.synced.wait()
        while True:
            try:
                await self.resync()
            except KubeError as error:
                log.warning("resources not listed", extra={"reason": error.detail})
                await asyncio.sleep(2)
                continue
            if not self.synced.is_set():
                self.synced.set()
                self.world.forget_plans()
            await asyncio.sleep(DENIED_PAUSE if self._closed else RESYNC_SECONDS)

    async def resync(self) -> None:
        """Every custom resource as it is now, then a look at each. A namespace that may not be listed is passed over;
        KubeForbiddenError when there is no other; NamespaceOpenedError when it may be listed after all; DeafError.
        """
        places: Sequence[str | None] = self.settings.namespaces or (None,)
        closed: set[str | None] = set()
        listed: list[dict[str, Any]] = []
        for place in places:
            try:
                for kind in RESOURCES:
                    page = await self.kube.list_all(kind, place)
                    self.world.resources[kind.name].replace_all(page.items, int(page.resource_version), place)
                    listed += page.items
            except KubeForbiddenError as error:
                if len(closed) + 1 == len(places):
                    raise
                closed.add(place)
                if place not in self._closed:
                    log.warning("namespace passed over", extra={"place": place, "reason": error.detail})
        if self._hearing is not None:
            self._hearing.listed(listed)
        opened = self._closed - closed
        self._closed = closed
        self.wake_all()
        if opened:
            raise NamespaceOpenedError(f"Rights have come in {', '.join(sorted(map(str, opened)))}.")

    def _lease_seen(self, _: Cached | None, new: Cached | None) -> None:
        if new is not None:
            self._lease_heard = self._monotonic()

    # --- work

    def _wake(self, key: ResourceKey) -> None:
        if key[0] in KIND_BY_NAME:
            self.queue.add(key)

    async def _work(self, key: ResourceKey) -> float | None:
        started = time.monotonic()
        result = "ok"
        try:
            return await self.reconciler.reconcile(key)
        except NotLeaderError:
            result = "not leading"
            raise
        except KubeError:
            result = "api"
            raise
        except BaseException:
            result = "failed"
            raise
        finally:
            self.metrics.observe_pass(key[0], result, started)

    def _in_use(self, access_point: Resource, resource: Resource) -> str | None:
        if not self.synced.is_set():
            return "the operator does not know yet what runs"
        return self.usage.why_in_use(access_point, resource)

    def _why_pool_stays(self, cluster: Resource, pool: Resource) -> str | None:
        return self.usage.why_pool_stays(cluster, pool)

    def _planned(self, namespace: str, plan: NamespacePlan) -> None:
        self.usage.keep(namespace, plan)

    def _statuses(self) -> list[tuple[str, str, str, dict[str, object]]]:
        found = map(self.world.resource, self.world.keys())
        return [(one.kind, one.namespace, one.name, dict(one.status)) for one in found if one is not None]
