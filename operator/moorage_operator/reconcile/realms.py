"""From the resources of a namespace to realms that can be built, and to what the others wait for. Pure.

What is missing or wrong keeps back what needs it and nothing else: a cluster runs with those of its pools that are
there, and goes on by itself when the others come.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moorage_operator.reconcile.claims import Claims, InUse, Refusal, plan_claims
from moorage_operator.reconcile.resource import Resource, ResourceKey
from moorage_operator.spec.accesspoint import AccessPoint
from moorage_operator.spec.base import LocalRef
from moorage_operator.spec.blockpool import BlockPool
from moorage_operator.spec.metadatacluster import MetadataCluster, PoolRef
from moorage_operator.spec.notifier import Notifier
from moorage_operator.spec.parts import SharedEtcd
from moorage_operator.spec.realm import Manifest, Realm

RoutedPools = Callable[[Resource, str], Sequence[str] | None]
"""The pools that an AccessPoint's servers announce for a server key: where chunks may have been stored. None: there
were routes, and it is not known any more which.
"""
WhyPoolStays = Callable[[Resource, Resource], str | None]
"""Why a cluster must go on with a pool that it names no more, as the middle of a sentence; None when it need not."""


@dataclass(frozen=True, slots=True)
class OffList:
    """A pool that a cluster names no more, and that its servers announce still."""

    cluster: ResourceKey
    pool: ResourceKey


@dataclass(frozen=True, slots=True)
class NamespacePlan:
    """`realms`: AccessPoint → what of it can be built. `waits`: resource → sentences about what it waits for.
    `off_list`: AccessPoint → pools of its clusters that are to go, or that stay until they may.
    """

    resources: Mapping[ResourceKey, Resource]
    claims: Claims
    realms: Mapping[ResourceKey, Realm]
    waits: Mapping[ResourceKey, Sequence[str]]
    off_list: Mapping[ResourceKey, Sequence[OffList]]

    def realm_of(self, key: ResourceKey) -> Realm | None:
        """The realm that the resource is built in; None while it has to wait."""
        owner = key if key[0] == "AccessPoint" else self.claims.owner.get(key)
        realm = self.realms.get(owner) if owner else None
        return realm if realm is not None and key in {key_of(one) for one in members(realm)} else None


def key_of(manifest: Manifest) -> ResourceKey:
    meta = manifest.metadata
    return (manifest.kind, meta.namespace, meta.name)


def members(realm: Realm) -> tuple[Manifest, ...]:
    return (*realm.clusters, *realm.pools, *realm.notifiers, realm.access_point)


def plan_namespace(
    resources: Sequence[Resource], in_use: InUse, routed: RoutedPools, why_pool_stays: WhyPoolStays
) -> NamespacePlan:
    claims = plan_claims(resources, in_use)
    by_key = {resource.key: resource for resource in resources}
    planner = _Planner(by_key, claims, routed, why_pool_stays)
    realms: dict[ResourceKey, Realm] = {}
    for resource in resources:
        if isinstance(resource.manifest, AccessPoint) and resource.deleting is None:
            realm = planner.resolve(resource, resource.manifest)
            if realm is not None:
                realms[resource.key] = realm
    claims = replace(claims, refusals=(*claims.refusals, *planner.refusals))
    return NamespacePlan(by_key, claims, realms, planner.waits, planner.off_list)


@dataclass
class _Planner:
    by_key: Mapping[ResourceKey, Resource]
    claims: Claims
    routed: RoutedPools
    why_pool_stays: WhyPoolStays
    off_list: dict[ResourceKey, list[OffList]] = field(default_factory=dict)
    waits: dict[ResourceKey, list[str]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)

    def resolve(self, source: Resource, access_point: AccessPoint) -> Realm | None:
        named = [reference.name for reference in access_point.spec.clusters]
        kept = sorted(self.claims.members(source.key, "MetadataCluster") - set(named))
        clusters: list[MetadataCluster] = []
        pools: dict[str, BlockPool] = {}
        notifiers: dict[str, Notifier] = {}
        server_keys: dict[str, str] = {}
        for name in (*named, *kept):
            cluster = self._find(source, source, "MetadataCluster", name)
            if not isinstance(cluster, MetadataCluster):
                continue
            owner = server_keys.setdefault(cluster.spec.server_key, name)
            if owner != name:
                text = f'serverKey "{cluster.spec.server_key}" is MetadataCluster/{owner}\'s already'
                self._wait(("MetadataCluster", source.namespace, name), text)
                continue
            usable = self._with_what_is_there(source, cluster, pools, notifiers)
            if usable is not None:
                clusters.append(usable)
        if not clusters:
            self._wait(source.key, "none of its clusters can be run yet")
            return None
        there = {cluster.metadata.name for cluster in clusters}
        if not self._etcd_is_there(source.key, access_point.spec.auth.etcd, there):
            return None
        running = {name: one for name, one in notifiers.items() if self._notifier_runs(source, one, there)}
        return Realm(
            access_point,
            tuple(self._without_missing_notifier(cluster, running) for cluster in clusters),
            tuple(pools.values()),
            tuple(running.values()),
        )

    def _with_what_is_there(
        self,
        source: Resource,
        cluster: MetadataCluster,
        pools: dict[str, BlockPool],
        notifiers: dict[str, Notifier],
    ) -> MetadataCluster | None:
        """The cluster with the references that lead somewhere; None without a pool to write to."""
        owner = self.by_key["MetadataCluster", source.namespace, cluster.metadata.name]
        usable = []
        for reference in cluster.spec.block_pools:
            pool = self._find(source, owner, "BlockPool", reference.name)
            if isinstance(pool, BlockPool):
                pools[reference.name] = pool
                usable.append(reference)
        usable += self._pools_that_stay(source, cluster, pools)
        notifier_ref = cluster.spec.notifier_ref
        if notifier_ref is not None:
            notifier = self._find(source, owner, "Notifier", notifier_ref.name)
            if isinstance(notifier, Notifier):
                notifiers[notifier_ref.name] = notifier
        if not any(reference.mode == "ReadWrite" for reference in usable):
            self._wait(owner.key, "no pool that it may write to is there")
            return None
        return _updated(cluster, block_pools=tuple(usable))

    def _pools_that_stay(
        self, source: Resource, cluster: MetadataCluster, pools: dict[str, BlockPool]
    ) -> list[PoolRef]:
        """Pools taken off the cluster's list that it may have chunks in: served, but not written to."""
        named = {reference.name for reference in cluster.spec.block_pools}
        owner = self.by_key["MetadataCluster", source.namespace, cluster.metadata.name]
        routed = self.routed(source, cluster.spec.server_key)
        if routed is None:
            routed = sorted(self.claims.members(source.key, "BlockPool"))
        stay = []
        for name in routed:
            key = ("BlockPool", source.namespace, name)
            found = self.by_key.get(key)
            if name in named or found is None or found.deleting is not None:
                continue
            self.off_list.setdefault(source.key, []).append(OffList(owner.key, key))
            why = self.why_pool_stays(owner, found)
            if why is None or self.claims.owner.get(key) != source.key:
                continue
            if not isinstance(found.manifest, BlockPool):
                continue
            pools[name] = found.manifest
            stay.append(PoolRef(name=name, mode="ReadOnly"))
            if key not in self.claims.retained:
                text = (
                    f"BlockPool/{name} was taken off the list of MetadataCluster/{cluster.metadata.name}, but {why}: "
                    "it stays, read only. Name it again, or delete the resource itself (its deletionPolicy says what "
                    "becomes of the data)."
                )
                self.refusals.append(Refusal(source.key, "InUse", text))
        return stay

    def _find(self, source: Resource, user: Resource, kind: str, name: str) -> Manifest | None:
        """The manifest of what `user` names, if it is valid and belongs to the AccessPoint `source`."""
        key = (kind, source.namespace, name)
        found = self.by_key.get(key)
        if found is None or found.deleting is not None:
            state = "is being deleted" if found else "does not exist"
            self._wait(user.key, f"{kind}/{name} {state}")
        elif found.manifest is None:
            self._wait(user.key, f"{kind}/{name} is not valid: {found.problems[0] if found.problems else ''}")
        elif self.claims.owner.get(key) != source.key:
            owner = self.claims.owner.get(key)
            self._wait(
                user.key, f"{kind}/{name} belongs to {f'AccessPoint/{owner[2]}' if owner else 'nobody'}"
            )
        else:
            return found.manifest
        return None

    def _etcd_is_there(self, key: ResourceKey, etcd: SharedEtcd, clusters: set[str]) -> bool:
        if etcd.cluster is None or etcd.cluster.name in clusters:
            return True
        self._wait(
            key, f"MetadataCluster/{etcd.cluster.name}, whose etcd it uses, does not run in this realm"
        )
        return False

    def _notifier_runs(self, source: Resource, notifier: Notifier, clusters: set[str]) -> bool:
        key = ("Notifier", source.namespace, notifier.metadata.name)
        return self._etcd_is_there(key, notifier.spec.etcd, clusters)

    def _without_missing_notifier(
        self, cluster: MetadataCluster, running: Mapping[str, Notifier]
    ) -> MetadataCluster:
        reference: LocalRef | None = cluster.spec.notifier_ref
        if reference is None or reference.name in running:
            return cluster
        return _updated(cluster, notifier_ref=None)

    def _wait(self, key: ResourceKey, text: str) -> None:
        texts = self.waits.setdefault(key, [])
        if text not in texts:
            texts.append(text)


def _updated(cluster: MetadataCluster, **changes: Any) -> MetadataCluster:
    return cluster.model_copy(update={"spec": cluster.spec.model_copy(update=changes)})
