"""Whether a cluster that was taken off its AccessPoint's list has users. The auth servers are asked, and only then.

First they cease to put new users on it (`plan.build_settings`), all of them; what is counted after that holds. So
nobody is made on a cluster in the moment that it goes. What is not known is refused.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moorage_operator.kube.errors import KubeForbiddenError
from moorage_operator.kube.kinds import DEPLOYMENT
from moorage_operator.reconcile.claims import Claims
from moorage_operator.reconcile.keys import fetch_operator_token
from moorage_operator.reconcile.resource import Resource, ResourceKey
from moorage_operator.reconcile.rollout import observe_progress
from moorage_operator.reconcile.secret_keeper import ForeignSecretError, SecretKeeper
from moorage_operator.reconcile.servers import Servers, UsersReport
from moorage_operator.reconcile.world import World
from moorage_operator.resources.names import auth_part
from moorage_operator.spec.accesspoint import AccessPoint
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.notifier import Notifier

ASK_SECONDS = 10.0
"""Between two questions while an answer is on its way."""
USERS_POLL_SECONDS = 60.0
"""Between two questions about users that a person has to move."""
NOT_ASKED = "auth servers have not said yet whether it has users"

Case = tuple[ResourceKey, str, str, int]
"""Resource, its uid, and the AccessPoint whose list is meant: uid and generation. Another list is another question."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why` it may not go, None when it may. `closed`: no auth server puts new users on it."""

    why: str | None
    closed: bool
    again: float | None


def judge_users(server_key: str, reports: Sequence[UsersReport | None], closed_for: float | None) -> Verdict:
    """Pure. `reports` are of every auth server that there is, all of them of the newest settings; `closed_for`: for how
    many seconds it has been known that none of them puts new users on the cluster, None when it has not.
    """
    silent = sum(report is None for report in reports)
    if not reports or silent:
        which = (
            f"{silent} of {len(reports)} auth servers did not answer"
            if reports
            else "no auth server is there"
        )
        why = f"whether it has users could not be asked ({which}), which is tried again by itself"
        return Verdict(why, closed=False, again=ASK_SECONDS)
    known = [report for report in reports if report is not None]
    if any(server_key in report.placing for report in known):
        why = "auth servers still put new users on it, until they have taken up the new list"
        return Verdict(why, closed=False, again=ASK_SECONDS)
    fresh = [
        (report.age, report.users)
        for report in known
        if report.users is not None and closed_for is not None and report.age < closed_for
    ]
    if not fresh:
        return Verdict("its users are being counted", closed=True, again=ASK_SECONDS)
    _, users = min(fresh, key=lambda one: one[0])
    number = users.get(server_key, 0)
    if not number:
        return Verdict(None, closed=True, again=None)
    live = "1 user lives" if number == 1 else f"{number} users live"
    why = f"{live} on it (`GET /auth/users` lists all users with their `server_key`; once those are deleted it goes by itself)"
    return Verdict(why, closed=True, again=USERS_POLL_SECONDS)


class Usage:
    """What was found out is remembered for one list and one object alone, and asked anew by another process."""

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
        self._verdicts: dict[Case, Verdict] = {}
        self._closed: dict[Case, float] = {}
        self._asked: dict[Case, float] = {}

    def why_in_use(self, access_point: Resource, resource: Resource) -> str | None:
        """Asks nobody. None for what nothing was ever built for, and for a cluster that is known to have no users."""
        if not self._world.owned(resource.key):
            return None
        if resource.kind == "BlockPool":
            return "it may hold chunks"
        if resource.kind == "Notifier":
            return "it may have queues"
        user = self._etcd_user(access_point, resource)
        if user is not None:
            return f"its etcd is that of {user}"
        verdict = self._verdicts.get(_case(access_point, resource))
        return NOT_ASKED if verdict is None else verdict.why

    def _etcd_user(self, access_point: Resource, cluster: Resource) -> str | None:
        """Who else keeps its keys in the etcd of a cluster."""
        known = self._world.keys()
        here = (key for key in known if key[0] == "Notifier" and key[1] == cluster.namespace)
        for one in (access_point, *map(self._world.resource, here)):
            manifest = one.manifest if one is not None else None
            if isinstance(manifest, AccessPoint):
                etcd = manifest.spec.auth.etcd
            elif isinstance(manifest, Notifier):
                etcd = manifest.spec.etcd
            else:
                continue
            if etcd.cluster is not None and etcd.cluster.name == cluster.name:
                return one.title if one is not None else None
        return None

    async def look(self, access_point: Resource, claims: Claims) -> float | None:
        """Ask about the clusters that `access_point` keeps without naming them; when to come back, if at all. KubeError."""
        kept = [
            cluster
            for key in sorted(claims.retained)
            if key[0] == "MetadataCluster" and claims.owner[key] == access_point.key
            if (cluster := self._world.resource(key)) is not None
            and self._etcd_user(access_point, cluster) is None
        ]
        if not kept:
            return None
        self._forget_others(access_point)
        due = [cluster for cluster in kept if self._is_due(_case(access_point, cluster))]
        if due:
            asked = self._monotonic()
            reports = await self._ask(access_point)
            for cluster in due:
                self._judge(access_point, cluster, reports, asked)
        again = [self._verdicts[_case(access_point, one)].again for one in kept]
        return min((seconds for seconds in again if seconds is not None), default=None)

    def _is_due(self, case: Case) -> bool:
        verdict, asked = self._verdicts.get(case), self._asked.get(case)
        if verdict is None or asked is None or verdict.again is None:
            return True
        return self._monotonic() - asked >= verdict.again * 0.9

    def _judge(
        self,
        access_point: Resource,
        cluster: Resource,
        reports: Sequence[UsersReport | None] | str,
        asked: float,
    ) -> None:
        case, now = _case(access_point, cluster), self._monotonic()
        closed = self._closed.get(case)
        if isinstance(reports, str):
            verdict = Verdict(reports, closed=False, again=ASK_SECONDS)
        elif not isinstance(cluster.manifest, MetadataCluster):
            verdict = Verdict("its spec cannot be read (see InvalidSpec)", closed=False, again=ASK_SECONDS)
        else:
            key = cluster.manifest.spec.server_key
            verdict = judge_users(key, reports, None if closed is None else asked - closed)
        self._asked[case] = now
        if not verdict.closed:
            self._closed.pop(case, None)
        elif closed is None:
            self._closed[case] = now
        before = self._verdicts.get(case)
        self._verdicts[case] = verdict
        if before is None or before.why != verdict.why:
            self._world.plan_anew(access_point.namespace)

    async def _ask(self, access_point: Resource) -> Sequence[UsersReport | None] | str:
        """What every auth server says, or why they are not asked."""
        part = auth_part(access_point.name)
        found = self._world.built[DEPLOYMENT].get(access_point.namespace, part)
        if found is None:
            return "whether it has users could not be asked (no auth server is there)"
        progress = observe_progress(found.decode())
        if not progress.settled:
            # An old one that comes back would put new users on it.
            return f"auth servers take up the new list first ({progress.why_not})"
        try:
            token = await fetch_operator_token(self._keeper, access_point, self._now())
        except (KubeForbiddenError, ForeignSecretError) as error:
            return f"whether it has users could not be asked ({error})"
        if token is None:
            return "whether it has users could not be asked (the operator's key is being made)"
        addresses = [address for address, _ in self._world.addresses(access_point.namespace, part)]
        return await self._servers.ask_users(addresses, token)

    def _forget_others(self, access_point: Resource) -> None:
        """What was found out for a list that this AccessPoint has had before."""
        for known in (self._verdicts, self._closed, self._asked):
            old = [one for one in known if one[2] == access_point.uid and one[3] != access_point.generation]
            for one in old:
                del known[one]


def _case(access_point: Resource, resource: Resource) -> Case:
    return (resource.key, resource.uid, access_point.uid, access_point.generation)
