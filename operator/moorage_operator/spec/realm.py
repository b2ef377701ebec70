"""References between manifests: what belongs to the one AccessPoint, and what is wrong with it. Pure."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeVar

from moorage_operator.spec.accesspoint import AccessPoint
from moorage_operator.spec.blockpool import BlockPool
from moorage_operator.spec.documents import Document
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.notifier import Notifier
from moorage_operator.spec.parts import SharedEtcd
from moorage_operator.spec.problems import FieldPath, Problem

Manifest = AccessPoint | MetadataCluster | BlockPool | Notifier
Identity = tuple[str, str, str]  # kind, namespace, name
M = TypeVar("M", AccessPoint, MetadataCluster, BlockPool, Notifier)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid manifest and where it was written."""

    manifest: Manifest
    document: Document

    @property
    def identity(self) -> Identity:
        meta = self.manifest.metadata
        return (self.manifest.kind, meta.namespace, meta.name)

    @property
    def title(self) -> str:
        return f"{self.manifest.kind}/{self.manifest.metadata.name}"

    def problem(self, path: FieldPath, message: str) -> Problem:
        document = self.document
        return Problem(document.file, document.line(path), self.title, path, message)


@dataclass(frozen=True, slots=True)
class Realm:
    """An AccessPoint and all that belongs to it, in the order in which it is named; each resource once.

    `unused`: titles of manifests that were given and that nothing of the realm names.
    """

    access_point: AccessPoint
    clusters: tuple[MetadataCluster, ...]
    pools: tuple[BlockPool, ...]
    notifiers: tuple[Notifier, ...]
    unused: tuple[str, ...] = ()


def resolve_realm(
    manifests: Sequence[Loaded], broken: AbstractSet[Identity] = frozenset()
) -> tuple[Realm | None, list[Problem]]:
    """The realm of the one AccessPoint among `manifests`, or None and everything that stands against it.

    `broken`: what was written down but is wrong by itself; it is not reported as missing as well.
    """
    problems = list(_find_duplicates(manifests))
    by_identity = {loaded.identity: loaded for loaded in reversed(manifests)}
    access_points = [loaded for loaded in by_identity.values() if isinstance(loaded.manifest, AccessPoint)]
    if not access_points and any(kind == "AccessPoint" for kind, _, _ in broken):
        return None, problems
    if not access_points:
        file = manifests[0].document.file if manifests else "manifests"
        return None, [*problems, Problem(file, 1, "", (), "expected exactly one AccessPoint, found none")]
    if len(access_points) > 1:
        problems += [
            other.problem((), "expected exactly one AccessPoint; this is one more")
            for other in sorted(access_points, key=manifests.index)[1:]
        ]
        return None, problems
    resolver = _Resolver(by_identity, access_points[0], broken)
    realm = resolver.resolve()
    problems += resolver.problems
    return (None if problems else realm), problems


def _find_duplicates(manifests: Iterable[Loaded]) -> Iterable[Problem]:
    first: dict[Identity, Loaded] = {}
    for loaded in manifests:
        before = first.setdefault(loaded.identity, loaded)
        if before is not loaded:
            place = f"{before.document.file}:{before.document.line(())}"
            yield loaded.problem(("metadata", "name"), f"is written twice, first at {place}")


class _Resolver:
    def __init__(
        self, by_identity: dict[Identity, Loaded], access_point: Loaded, broken: AbstractSet[Identity]
    ) -> None:
        self.broken = broken
        self.by_identity = by_identity
        self.root = access_point
        self.namespace = access_point.manifest.metadata.namespace
        self.problems: list[Problem] = []
        self.used: dict[Identity, Loaded] = {access_point.identity: access_point}

    def resolve(self) -> Realm:
        access_point = self.root.manifest
        assert isinstance(access_point, AccessPoint)
        clusters = [
            found
            for place, ref in enumerate(access_point.spec.clusters)
            if (
                found := self._find(
                    self.root, ("spec", "clusters", place, "name"), "MetadataCluster", ref.name
                )
            )
        ]
        members = {ref.name for ref in access_point.spec.clusters}
        self._check_server_keys(clusters)
        for found in clusters:
            self._follow_cluster(found)
        self._check_etcd(self.root, ("spec", "auth", "etcd"), access_point.spec.auth.etcd, members)
        for found in list(self.used.values()):
            if isinstance(found.manifest, Notifier):
                self._check_etcd(found, ("spec", "etcd"), found.manifest.spec.etcd, members)
        unused = [one.title for identity, one in self.by_identity.items() if identity not in self.used]
        return Realm(
            access_point,
            self._all(MetadataCluster),
            self._all(BlockPool),
            self._all(Notifier),
            tuple(sorted(unused)),
        )

    def _all(self, kind: type[M]) -> tuple[M, ...]:
        return tuple(one.manifest for one in self.used.values() if isinstance(one.manifest, kind))

    def _find(self, source: Loaded, path: FieldPath, kind: str, name: str) -> Loaded | None:
        identity = (kind, self.namespace, name)
        found = self.by_identity.get(identity)
        if found is None and identity in self.broken:
            return None
        if found is None:
            self.problems.append(
                source.problem(path, f"there is no {kind}/{name} in namespace {self.namespace}")
            )
            return None
        self.used[identity] = found
        return found

    def _follow_cluster(self, found: Loaded) -> None:
        cluster = found.manifest
        assert isinstance(cluster, MetadataCluster)
        for place, pool in enumerate(cluster.spec.block_pools):
            self._find(found, ("spec", "blockPools", place, "name"), "BlockPool", pool.name)
        if cluster.spec.notifier_ref is not None:
            self._find(found, ("spec", "notifierRef", "name"), "Notifier", cluster.spec.notifier_ref.name)

    def _check_server_keys(self, clusters: Iterable[Loaded]) -> None:
        owners: dict[str, Loaded] = {}
        for found in clusters:
            assert isinstance(found.manifest, MetadataCluster)
            key = found.manifest.spec.server_key
            owner = owners.setdefault(key, found)
            if owner is not found:
                message = f'"{key}" is already the server key of {owner.title}'
                self.problems.append(found.problem(("spec", "serverKey"), message))

    def _check_etcd(self, source: Loaded, path: FieldPath, etcd: SharedEtcd, members: set[str]) -> None:
        if etcd.cluster is not None and etcd.cluster.name not in members:
            message = f"expected one of the AccessPoint's clusters, got {etcd.cluster.name!r}"
            self.problems.append(source.problem((*path, "cluster", "name"), message))
