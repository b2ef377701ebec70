"""What runs for a resource that nobody wants any more is stopped, when no route leads there; kept data stays."""

from collections.abc import Mapping

from moorage.core.routing import ClusterRoute
from moorage_operator.kube.client import Kube
from moorage_operator.kube.kinds import ACCESS_POINT, METADATA_CLUSTER
from moorage_operator.reconcile.applying import Applier
from moorage_operator.reconcile.resource import KIND_BY_NAME, Resource, ResourceKey
from moorage_operator.reconcile.steps import plan_steps
from moorage_operator.reconcile.world import World
from moorage_operator.resources.context import ClusterContext
from moorage_operator.spec.metadatacluster import MetadataCluster


class Clearing:
    """`contexts`: AccessPoint → what its servers and proxy were last told."""

    def __init__(
        self, kube: Kube, world: World, applier: Applier, contexts: Mapping[ResourceKey, ClusterContext]
    ) -> None:
        self._kube = kube
        self._world = world
        self._applier = applier
        self._contexts = contexts

    def is_routed(self, resource: Resource) -> bool:
        """Whether the AccessPoint that it belonged to still leads clients to it, or has not been looked at."""
        claim = resource.claim()
        if claim is None:
            return False
        key = ("AccessPoint", resource.namespace, str(claim.get("name")))
        holder = self._world.resource(key)
        if holder is None or holder.uid != claim.get("uid") or holder.deleting is not None:
            return False
        context = self._contexts.get(key)
        if context is None:
            return True
        routes = (*context.routing.clusters, *context.proxy_routing.clusters)
        return any(_leads_to(route, resource) for route in routes)

    async def clear(self, resource: Resource) -> None:
        """Of a resource in no realm: stop what runs for it, if it was really let go. KubeError."""
        owned = self._world.owned(resource.key)
        if owned and await self._is_really_let_go(resource):
            planned = plan_steps((), self._world.live, owned, lambda *_: None)
            await self._applier.carry_out(planned.steps)

    async def clear_away(self, key: ResourceKey) -> None:
        """The resource is gone: so is what was built for it, but for kept data. Owner references say the same to the
        cluster's own collector; here it happens also where that has not come round.
        """
        owned = self._world.owned(key)
        if not owned or await self._kube.get(KIND_BY_NAME[key[0]], key[1], key[2]) is not None:
            return
        planned = plan_steps((), self._world.live, owned, lambda *_: None)
        await self._applier.carry_out(planned.steps)

    async def _is_really_let_go(self, resource: Resource) -> bool:
        """Asked before anything is stopped: what we know of who might name it must be how that stands now."""
        claim = resource.claim()
        if claim is None:
            return True
        name = str(claim.get("name"))
        found = await self._kube.get(ACCESS_POINT, resource.namespace, name)
        known = self._world.resources["AccessPoint"].get(resource.namespace, name)
        if found is None or known is None:
            return found is None
        if int(found["metadata"]["resourceVersion"]) != known.version:
            return False
        return resource.kind == "MetadataCluster" or await self._are_clusters_known(resource.namespace)

    async def _are_clusters_known(self, namespace: str) -> bool:
        """They name pools and notifiers."""
        there = (await self._kube.list_all(METADATA_CLUSTER, namespace)).items
        versions = {one["metadata"]["name"]: int(one["metadata"]["resourceVersion"]) for one in there}
        cached = self._world.resources["MetadataCluster"]
        return versions == {one.name: one.version for one in cached if one.namespace == namespace}


def _leads_to(route: ClusterRoute, resource: Resource) -> bool:
    if resource.kind == "BlockPool":
        return resource.name in route.pools
    if resource.kind == "Notifier":
        return resource.name in route.notifiers
    # Of one whose spec cannot be read nobody knows the server key.
    manifest = resource.manifest
    return isinstance(manifest, MetadataCluster) and route.server_key == manifest.spec.server_key
