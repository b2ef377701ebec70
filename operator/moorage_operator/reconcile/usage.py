"""Whether what was taken off a list is in use: a cluster has users, a pool chunks. Servers are asked, and only then."""

import datetime as dt
from collections.abc import Callable, Sequence

from moorage.core.routing import RoutingTable
from moorage_operator.kube.errors import KubeForbiddenError
from moorage_operator.kube.kinds import DEPLOYMENT
from moorage_operator.reconcile.chunks import Question, judge_chunks, may_hold
from moorage_operator.reconcile.keys import fetch_operator_token
from moorage_operator.reconcile.realms import NamespacePlan, OffList
from moorage_operator.reconcile.resource import Resource, ResourceKey
from moorage_operator.reconcile.rollout import observe_progress
from moorage_operator.reconcile.secret_keeper import ForeignSecretError, SecretKeeper
from moorage_operator.reconcile.servers import Servers
from moorage_operator.reconcile.users import judge_users
from moorage_operator.reconcile.verdicts import ASK_SECONDS, Verdict, Verdicts
from moorage_operator.reconcile.world import World
from moorage_operator.resources.names import auth_part, block_part, collector_part, tier_part
from moorage_operator.spec.accesspoint import AccessPoint
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.notifier import Notifier

ClusterCase = tuple[ResourceKey, str, str, int]
"""A cluster, its uid, and the AccessPoint whose list is meant: uid and generation. Another list is another question."""
PoolCase = tuple[ResourceKey, str, str]
"""A pool, its uid, and the uid of the cluster whose list is meant: as long as every plan has it off that list."""


class _NotAskedError(Exception):
    """Why nobody could be asked."""


class Usage:
    def __init__(
        self,
        world: World,
        keeper: SecretKeeper,
        servers: Servers,
        now: Callable[[], dt.datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._world = world
        self._keeper = keeper
        self._servers = servers
        self._now = now
        self._monotonic = monotonic
        self._clusters = Verdicts[ClusterCase](monotonic)
        self._pools = Verdicts[PoolCase](monotonic)

    # --- what is known; nobody is asked

    def why_in_use(self, access_point: Resource, resource: Resource) -> str | None:
        """`moorage_operator.reconcile.claims.InUse`. None for what nothing was ever built for, and for a notifier: what
        its clients have not been told yet, L1 has told by another one.
        """
        if resource.kind == "Notifier" or not self._world.owned(resource.key):
            return None
        if resource.kind == "BlockPool":
            return self._why_any_stays(access_point, resource)
        user = self._etcd_user(access_point, resource)
        if user is not None:
            return f"its etcd is that of {user}"
        verdict = self._clusters.get(_cluster_case(access_point, resource))
        return "auth servers have not said yet whether it has users" if verdict is None else verdict.why

    def why_pool_stays(self, cluster: Resource, pool: Resource) -> str | None:
        """`moorage_operator.reconcile.realms.WhyPoolStays`"""
        verdict = self._pools.get(_pool_case(cluster, pool))
        return may_hold(cluster.name, "nobody has been asked yet") if verdict is None else verdict.why

    def keep(self, namespace: str, plan: NamespacePlan) -> None:
        """A pool that is on a list again, or in no route any more, is asked about anew the next time."""
        pairs = [one for pairs in plan.off_list.values() for one in pairs]
        kept = {_pool_case(plan.resources[pair.cluster], plan.resources[pair.pool]) for pair in pairs}
        self._pools.forget(lambda case: case[0][1] == namespace and case not in kept)

    def _why_any_stays(self, access_point: Resource, pool: Resource) -> str | None:
        """Of any cluster that servers announce the pool for."""
        for cluster in self._world.resources_in(pool.namespace, "MetadataCluster"):
            if cluster.deleting is not None or self._goes(access_point, cluster):
                continue
            if not isinstance(cluster.manifest, MetadataCluster):
                if (cluster.claim() or {}).get("name") == access_point.name:
                    return may_hold(cluster.name, "its spec cannot be read, see InvalidSpec")
                continue
            routed = self._world.routed_pools(access_point, cluster.manifest.spec.server_key)
            if routed is None or pool.name in routed:
                why = self.why_pool_stays(cluster, pool)
                if why is not None:
                    return why
        return None

    def _goes(self, access_point: Resource, cluster: Resource) -> bool:
        """Whether a cluster is let go itself, and its chunks with it: nobody lives on it."""
        manifest = access_point.manifest
        if not isinstance(manifest, AccessPoint) or any(
            reference.name == cluster.name for reference in manifest.spec.clusters
        ):
            return False
        return self.why_in_use(access_point, cluster) is None

    def _etcd_user(self, access_point: Resource, cluster: Resource) -> str | None:
        """Who else keeps its keys in the etcd of a cluster."""
        for one in (access_point, *self._world.resources_in(cluster.namespace, "Notifier")):
            if isinstance(one.manifest, AccessPoint):
                etcd = one.manifest.spec.auth.etcd
            elif isinstance(one.manifest, Notifier):
                etcd = one.manifest.spec.etcd
            else:
                continue
            if etcd.cluster is not None and etcd.cluster.name == cluster.name:
                return one.title
        return None

    # --- asking

    async def look(
        self, access_point: Resource, plan: NamespacePlan, announced: RoutingTable
    ) -> float | None:
        """Ask about what `access_point` keeps without naming it; when to come back, if at all. `announced`: the routes
        that its servers are to have. KubeError.
        """
        self._clusters.forget(lambda case: case[2] == access_point.uid and case[3] != access_point.generation)
        clusters = self._kept_clusters(access_point, plan)
        pairs = [
            pair
            for pair in plan.off_list.get(access_point.key, ())
            if self.why_pool_stays(plan.resources[pair.cluster], plan.resources[pair.pool]) is not None
        ]
        changed = False
        due = [one for one in clusters if self._clusters.is_due(_cluster_case(access_point, one))]
        if due:
            changed |= await self._ask_auth(access_point, due)
        for pair in pairs:
            cluster, pool = plan.resources[pair.cluster], plan.resources[pair.pool]
            if self._pools.is_due(_pool_case(cluster, pool)):
                changed |= await self._ask_pool(access_point, cluster, pool, announced)
        if changed:
            self._world.plan_anew(access_point.namespace)
        verdicts = [self._clusters.get(_cluster_case(access_point, one)) for one in clusters]
        verdicts += [self._pools.get(_pair_case(plan, pair)) for pair in pairs]
        again = [one.again for one in verdicts if one is not None and one.again is not None]
        return min(again, default=None)

    def _kept_clusters(self, access_point: Resource, plan: NamespacePlan) -> list[Resource]:
        return [
            cluster
            for key in sorted(plan.claims.retained)
            if key[0] == "MetadataCluster" and plan.claims.owner[key] == access_point.key
            if (cluster := self._world.resource(key)) is not None
            and self._etcd_user(access_point, cluster) is None
        ]

    async def _ask_auth(self, access_point: Resource, clusters: Sequence[Resource]) -> bool:
        """Whether a verdict on any of them is another one now."""
        asked = self._monotonic()
        part = auth_part(access_point.name)
        why = ""
        try:
            # An old one that comes back would put new users on it.
            addresses = self._find_servers(access_point.namespace, part, "auth")
            reports = await self._servers.ask_users(addresses, await self._token(access_point))
        except _NotAskedError as error:
            why = f"whether it has users could not be asked ({error})"
        changed = False
        for cluster in clusters:
            case = _cluster_case(access_point, cluster)
            if why:
                verdict = Verdict(why, closed=False, again=ASK_SECONDS)
            elif not isinstance(cluster.manifest, MetadataCluster):
                verdict = Verdict(
                    "its spec cannot be read (see InvalidSpec)", closed=False, again=ASK_SECONDS
                )
            else:
                closed_for = self._clusters.closed_for(case, asked)
                verdict = judge_users(cluster.manifest.spec.server_key, reports, closed_for)
            changed |= self._clusters.note(case, verdict)
        return changed

    async def _ask_pool(
        self, access_point: Resource, cluster: Resource, pool: Resource, announced: RoutingTable
    ) -> bool:
        """Whether the verdict is another one now."""
        asked = self._monotonic()
        case, namespace = _pool_case(cluster, pool), pool.namespace
        assert isinstance(cluster.manifest, MetadataCluster)  # of a cluster that is built
        question = Question(
            pool.name, cluster.name, cluster.manifest.spec.server_key, collector_part(cluster.name)
        )
        before = self._pools.get(case)
        try:
            block = self._find_servers(namespace, block_part(pool.name), "block")
            l3 = self._find_servers(namespace, tier_part(cluster.name, "l3"), "L3")
            token = await self._token(access_point)
        except _NotAskedError as error:
            why = may_hold(cluster.name, f"could not be asked: {error}")
            return self._pools.note(case, Verdict(why, closed=False, again=ASK_SECONDS))
        storing = await self._servers.ask_storing(block, token)
        registry = await self._servers.ask_registry(l3, token)
        verdict = judge_chunks(
            question,
            announced,
            storing,
            registry,
            self._pools.closed_for(case, asked),
            before.mark if before else None,
        )
        return self._pools.note(case, verdict)

    def _find_servers(self, namespace: str, part: str, role: str) -> list[str]:
        """Addresses of all servers of a part, when there are no others than those of its newest settings."""
        found = self._world.built[DEPLOYMENT].get(namespace, part)
        if found is None:
            raise _NotAskedError(f"no {role} server is there")
        progress = observe_progress(found.decode())
        if not progress.settled:
            raise _NotAskedError(f"{role} servers take up the new list first: {progress.why_not}")
        return [address for address, _ in self._world.addresses(namespace, part)]

    async def _token(self, access_point: Resource) -> str:
        try:
            token = await fetch_operator_token(self._keeper, access_point, self._now())
        except (KubeForbiddenError, ForeignSecretError) as error:
            raise _NotAskedError(str(error)) from error
        if token is None:
            raise _NotAskedError("the operator's key is being made")
        return token


def _cluster_case(access_point: Resource, cluster: Resource) -> ClusterCase:
    return (cluster.key, cluster.uid, access_point.uid, access_point.generation)


def _pool_case(cluster: Resource, pool: Resource) -> PoolCase:
    return (pool.key, pool.uid, cluster.uid)


def _pair_case(plan: NamespacePlan, pair: OffList) -> PoolCase:
    return _pool_case(plan.resources[pair.cluster], plan.resources[pair.pool])
