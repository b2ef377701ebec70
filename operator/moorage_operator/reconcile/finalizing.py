"""`deletionPolicy: Delete`: volumes and what belongs to them go with the resource. Deletion never hangs on it.

The finalizer is there only while there is something of ours to delete: a managed store under that policy. It goes when
that is done, at the deadline whatever happened, or at once by an annotation.
"""

import datetime as dt
import logging
from collections.abc import Callable

from moorage_operator.kube.client import FIELD_MANAGER, Kube
from moorage_operator.kube.errors import KubeNotFoundError
from moorage_operator.reconcile.resource import Resource
from moorage_operator.reconcile.secret_keeper import SecretKeeper
from moorage_operator.reconcile.world import World
from moorage_operator.resources.names import store_credentials
from moorage_operator.spec.base import API_VERSION
from moorage_operator.spec.blockpool import BlockPool
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.status import parse_time

FINALIZER = "moorage.dev/data"
ABANDON = "moorage.dev/abandon-data"
"""Annotation, `"true"`: let the resource go now and leave what is not deleted yet."""
DEADLINE = dt.timedelta(minutes=15)
POLL_SECONDS = 2.0
FINALIZER_MANAGER = f"{FIELD_MANAGER}-finalizer"

log = logging.getLogger("moorage.reconcile")


def wants_finalizer(resource: Resource) -> bool:
    manifest = resource.manifest
    if manifest is None or manifest.spec.deletion_policy != "Delete":
        return False
    if isinstance(manifest, MetadataCluster):
        return manifest.spec.etcd.type == "Managed"
    return isinstance(manifest, BlockPool) and manifest.spec.store.type == "Managed"


class Finalizer:
    def __init__(
        self, kube: Kube, world: World, keeper: SecretKeeper, now: Callable[[], dt.datetime]
    ) -> None:
        self._kube = kube
        self._world = world
        self._keeper = keeper
        self._now = now

    async def keep_in_step(self, resource: Resource) -> None:
        """The finalizer is there exactly while it is wanted. A spec that cannot be read changes nothing."""
        if resource.manifest is None:
            return
        wanted = wants_finalizer(resource)
        if wanted != (FINALIZER in resource.finalizers):
            await self._write(resource, [FINALIZER] if wanted else [])

    async def finalize(self, resource: Resource) -> float | None:
        """Of a resource that is being deleted: delete its data, then let it go. When to come back, if at all."""
        if FINALIZER not in resource.finalizers:
            return None
        if self._must_let_go(resource):
            log.warning("let go without all of its data deleted", extra={"resource": resource.title})
            await self._write(resource, [])
            return None
        left = self._world.owned(resource.key)
        # Volumes last: nothing that still runs shall lose them under its feet.
        running = [one for one in left if one.kind.name != "PersistentVolumeClaim"]
        for one in running or left:
            if "deletionTimestamp" not in one.decode()["metadata"]:
                await self._kube.delete(one.kind, one.namespace, one.name, one.uid)
        if left:
            return POLL_SECONDS
        if resource.kind == "BlockPool":
            await self._keeper.drop(resource.namespace, store_credentials(resource.name))
        await self._write(resource, [])
        return None

    def _must_let_go(self, resource: Resource) -> bool:
        if resource.annotations.get(ABANDON) == "true":
            return True
        try:
            return self._now() - parse_time(resource.deleting or "") > DEADLINE
        except ValueError:
            return True

    async def _write(self, resource: Resource, finalizers: list[str]) -> None:
        meta = {"name": resource.name, "namespace": resource.namespace, "uid": resource.uid}
        body = {
            "apiVersion": API_VERSION,
            "kind": resource.kind,
            "metadata": {**meta, "finalizers": finalizers},
        }
        try:
            applied = await self._kube.apply(body, FINALIZER_MANAGER)
        except KubeNotFoundError:
            return
        self._world.resources[resource.kind].put(applied)
