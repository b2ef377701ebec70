"""What the operator knows: caches of resources and of what it built, and what follows from them, computed once.

Every change of a cache says which resources it concerns. Nothing in here asks the API server.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from moorage_operator.kube.cache import Cache, Cached
from moorage_operator.kube.kinds import (
    BUILT,
    CONFIG_MAP,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    RESOURCES,
    Kind,
    kind_of,
)
from moorage_operator.reconcile.claims import InUse
from moorage_operator.reconcile.realms import NamespacePlan, WhyPoolStays, plan_namespace
from moorage_operator.reconcile.resource import Resource, ResourceKey, parse_resource
from moorage_operator.reconcile.routing import parse_table
from moorage_operator.resources.manifest import OWNER_KIND, OWNER_NAME
from moorage_operator.resources.names import live_files

Wake = Callable[[ResourceKey], None]


class World:
    """`wake` is called with every resource that a change may concern. `planned` hears of every plan before anybody acts
    on it.
    """

    def __init__(
        self,
        wake: Wake,
        in_use: InUse,
        why_pool_stays: WhyPoolStays,
        planned: Callable[[str, NamespacePlan], None],
    ) -> None:
        self.resources: Mapping[str, Cache] = {kind.name: Cache(kind) for kind in RESOURCES}
        self.built: Mapping[Kind, Cache] = {kind: Cache(kind) for kind in (*BUILT, HTTP_ROUTE)}
        self.endpoints = Cache(ENDPOINT_SLICE)
        self._wake = wake
        self._in_use = in_use
        self._why_pool_stays = why_pool_stays
        self._planned = planned
        self._owned: dict[ResourceKey, dict[tuple[str, str], Cached]] = {}
        self._by_namespace: dict[str, dict[ResourceKey, Cached]] = {}
        self._parsed: dict[ResourceKey, tuple[int, Resource]] = {}
        self._plans: dict[str, NamespacePlan] = {}
        for cache in self.resources.values():
            cache.subscribe(self._resource_changed)
        for cache in self.built.values():
            cache.subscribe(self._built_changed)
        self.endpoints.subscribe(self._built_changed)

    def keys(self) -> Iterable[ResourceKey]:
        """Every resource there is."""
        return [key for resources in self._by_namespace.values() for key in resources]

    def orphans(self) -> Iterable[ResourceKey]:
        """Owners of what we built that are not there any more."""
        return [key for key in self._owned if not self.exists(key)]

    def exists(self, key: ResourceKey) -> bool:
        return key in self._by_namespace.get(key[1], {})

    def resource(self, key: ResourceKey) -> Resource | None:
        cached = self._by_namespace.get(key[1], {}).get(key)
        if cached is None:
            return None
        known = self._parsed.get(key)
        if known is None or known[0] != cached.version:
            known = self._parsed[key] = (cached.version, parse_resource(cached))
        return known[1]

    def resources_in(self, namespace: str, kind: str) -> list[Resource]:
        """All of a kind."""
        found = (self.resource(key) for key in self._by_namespace.get(namespace, {}) if key[0] == kind)
        return [one for one in found if one is not None]

    def plan(self, namespace: str) -> NamespacePlan:
        """Claims and realms of a namespace."""
        found = self._plans.get(namespace)
        if found is None:
            parsed = (self.resource(key) for key in self._by_namespace.get(namespace, {}))
            found = plan_namespace(
                [one for one in parsed if one is not None],
                self._in_use,
                self.routed_pools,
                self._why_pool_stays,
            )
            self._planned(namespace, found)
            self._plans[namespace] = found
        return found

    def routed_pools(self, access_point: Resource, server_key: str) -> tuple[str, ...] | None:
        """`moorage_operator.reconcile.realms.RoutedPools`"""
        found = self.built[CONFIG_MAP].get(access_point.namespace, live_files(access_point.name))
        data = (found.decode().get("data") or {}) if found else {}
        table = parse_table(data.get("routing.json"))
        if table is None and access_point.status.get("routingRevision"):
            return None
        routes = table.clusters if table is not None else ()
        return next((route.pools for route in routes if route.server_key == server_key), ())

    def forget_plans(self) -> None:
        """What `in_use` says may be something else now."""
        self._plans.clear()

    def plan_anew(self, namespace: str) -> None:
        """What `in_use` says of a resource of this namespace is something else now: everybody there looks again."""
        self._plans.pop(namespace, None)
        self._wake_all(namespace)

    def live(self, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
        meta = manifest["metadata"]
        found = self.built[kind_of(manifest)].get(meta["namespace"], meta["name"])
        return found.decode() if found else None

    def owned(self, key: ResourceKey) -> list[Cached]:
        """What carries the resource's labels and is watched for pruning."""
        return [one for one in self._owned.get(key, {}).values() if one.kind in self.built]

    def addresses(self, namespace: str, part: str) -> list[tuple[str, bool]]:
        """Of the part's pods: address, and whether it is ready."""
        found: dict[str, bool] = {}
        for slice_ in self.endpoints:
            if slice_.namespace != namespace or slice_.labels.get("kubernetes.io/service-name") != part:
                continue
            for endpoint in slice_.decode().get("endpoints") or ():
                ready = (endpoint.get("conditions") or {}).get("ready", True)
                for address in endpoint["addresses"]:
                    found[address] = found.get(address, False) or bool(ready)
        return sorted(found.items())

    def _resource_changed(self, old: Cached | None, new: Cached | None) -> None:
        one = new or old
        assert one is not None  # one of them is there
        key = (one.kind.name, one.namespace, one.name)
        here = self._by_namespace.setdefault(one.namespace, {})
        if new is not None:
            here[key] = new
        else:
            here.pop(key, None)
            self._parsed.pop(key, None)
        if not here:
            del self._by_namespace[one.namespace]
        self._plans.pop(one.namespace, None)
        self._wake(key)
        # References and claims lead from anything to anything of the namespace; who is not concerned writes nothing.
        self._wake_all(one.namespace)

    def _built_changed(self, old: Cached | None, new: Cached | None) -> None:
        for one, there in ((old, False), (new, True)):
            owner = owner_of(one) if one is not None else None
            if one is None or owner is None:
                continue
            owned = self._owned.setdefault(owner, {})
            if there:
                owned[one.kind.name, one.name] = one
            elif new is None or owner_of(new) != owner:
                owned.pop((one.kind.name, one.name), None)
            if not owned:
                del self._owned[owner]
            self._wake(owner)
            self._wake_realm(owner)

    def _wake_realm(self, key: ResourceKey) -> None:
        """Who waits for one another's workloads: all of a realm."""
        owners = self.plan(key[1]).claims.owner
        access_point = owners.get(key, key)
        self._wake(access_point)
        for other, owner in owners.items():
            if owner == access_point:
                self._wake(other)

    def _wake_all(self, namespace: str) -> None:
        for key in self._by_namespace.get(namespace, {}):
            self._wake(key)


def owner_of(one: Cached) -> ResourceKey | None:
    """The resource that an object of ours was built for, by its labels."""
    kind, name = one.labels.get(OWNER_KIND), one.labels.get(OWNER_NAME)
    return (kind, one.namespace, name) if kind and name else None
