"""Who belongs to which AccessPoint. Pure; each resource reports its own claim in its status.

A cluster belongs to the AccessPoint that names it, a pool or notifier to the one whose clusters name it. A claim
once made stays while its AccessPoint (the same object) still names the resource or the resource is in use; the
oldest of several claimants comes first where nobody holds it yet.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from moorage_operator.reconcile.resource import Resource, ResourceKey
from moorage_operator.spec.accesspoint import AccessPoint
from moorage_operator.spec.metadatacluster import MetadataCluster

InUse = Callable[[Resource, Resource], str | None]
"""Why an AccessPoint's cluster, pool or notifier may not go, as the middle of a sentence; None when it may."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an AccessPoint asks for and does not get. `reason` is a condition's."""

    access_point: ResourceKey
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Claims:
    """`owner`: resource → the AccessPoint it belongs to. `retained`: taken off a list but still in use."""

    owner: Mapping[ResourceKey, ResourceKey]
    retained: frozenset[ResourceKey]
    refusals: tuple[Refusal, ...]

    def members(self, access_point: ResourceKey, kind: str) -> set[str]:
        """Names of the resources of a kind that belong to it."""
        return {key[2] for key, owner in self.owner.items() if owner == access_point and key[0] == kind}


def plan_claims(resources: Iterable[Resource], in_use: InUse) -> Claims:
    """The claims of one namespace's resources."""
    by_kind: dict[str, list[Resource]] = {}
    for resource in resources:
        by_kind.setdefault(resource.kind, []).append(resource)
    access_points = sorted(by_kind.get("AccessPoint", ()), key=lambda one: (one.created, one.name))
    planner = _Planner({one.key: one for one in access_points}, in_use)
    clusters = by_kind.get("MetadataCluster", [])
    for cluster in clusters:
        planner.decide(cluster, [one.key for one in access_points if _names_cluster(one, cluster.name)])
    for kind in ("BlockPool", "Notifier"):
        for resource in by_kind.get(kind, ()):
            users = [cluster for cluster in clusters if _cluster_names(cluster, kind, resource.name)]
            owners = {planner.owner[cluster.key] for cluster in users if cluster.key in planner.owner}
            planner.decide(resource, [one.key for one in access_points if one.key in owners])
    return Claims(planner.owner, frozenset(planner.retained), tuple(planner.refusals))


class _Planner:
    def __init__(self, access_points: Mapping[ResourceKey, Resource], in_use: InUse) -> None:
        self._access_points = access_points
        self._in_use = in_use
        self.owner: dict[ResourceKey, ResourceKey] = {}
        self.retained: set[ResourceKey] = set()
        self.refusals: list[Refusal] = []

    def decide(self, resource: Resource, claimants: list[ResourceKey]) -> None:
        holder = self._holder(resource)
        chosen, why = self._choose(resource, holder, claimants)
        if chosen is None:
            return
        self.owner[resource.key] = chosen
        if why is not None:
            self.retained.add(resource.key)
            self.refusals.append(
                Refusal(
                    chosen,
                    "InUse",
                    f"{resource.title} was taken off the list, but {why}: it stays. Name it again, or delete the "
                    "resource itself (its deletionPolicy says what becomes of the data).",
                )
            )
        for other in claimants:
            if other != chosen:
                self.refusals.append(
                    Refusal(
                        other,
                        "Claimed",
                        f"{resource.title} belongs to AccessPoint/{chosen[2]}: take it off one of the two lists.",
                    )
                )

    def _holder(self, resource: Resource) -> ResourceKey | None:
        """Who holds it by its own word, if that is the same object still."""
        claim = resource.claim()
        if claim is None:
            return None
        key = ("AccessPoint", resource.namespace, str(claim.get("name")))
        found = self._access_points.get(key)
        return key if found is not None and found.uid == claim.get("uid") else None

    def _choose(
        self, resource: Resource, holder: ResourceKey | None, claimants: list[ResourceKey]
    ) -> tuple[ResourceKey | None, str | None]:
        """Whom it belongs to, and why it does although that one names it no more."""
        if holder is not None and holder in claimants:
            return holder, None
        if holder is not None:
            access_point = self._access_points[holder]
            if access_point.manifest is None:
                # It says nothing about its lists.
                return holder, "that list cannot be read (see InvalidSpec)"
            why = self._in_use(access_point, resource) if access_point.deleting is None else None
            if why is not None:
                return holder, why
        return (claimants[0] if claimants else None), None


def _names_cluster(access_point: Resource, name: str) -> bool:
    manifest = access_point.manifest
    if not isinstance(manifest, AccessPoint) or access_point.deleting is not None:
        return False
    return any(reference.name == name for reference in manifest.spec.clusters)


def _cluster_names(cluster: Resource, kind: str, name: str) -> bool:
    manifest = cluster.manifest
    if not isinstance(manifest, MetadataCluster) or cluster.deleting is not None:
        return False
    if kind == "BlockPool":
        return any(pool.name == name for pool in manifest.spec.block_pools)
    return manifest.spec.notifier_ref is not None and manifest.spec.notifier_ref.name == name
