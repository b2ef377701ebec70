"""One pass for one resource, read aloud: look, decide, write, report. Level-triggered: nothing is remembered that
could not be found out again, so a pass may end anywhere and the next one goes on.
"""

import datetime as dt
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from moorage_operator.kube.client import FIELD_MANAGER, Kube
from moorage_operator.kube.errors import KubeForbiddenError, KubeNotFoundError
from moorage_operator.kube.kinds import POD
from moorage_operator.reconcile.applying import FIGHT_RETRY_SECONDS, Applier
from moorage_operator.reconcile.clearing import Clearing
from moorage_operator.reconcile.finalizing import Finalizer
from moorage_operator.reconcile.judging import (
    judge_external_etcd,
    judge_managed_etcd,
    judge_store,
    why_no_etcd,
)
from moorage_operator.reconcile.preparing import Prepared, Preparer, plan_departing
from moorage_operator.reconcile.realms import NamespacePlan, key_of, members
from moorage_operator.reconcile.resource import Resource, ResourceKey
from moorage_operator.reconcile.rollout import WORKLOADS, Progress, gave_up, observe_progress
from moorage_operator.reconcile.secret_keeper import ForeignSecretError
from moorage_operator.reconcile.servers import Servers
from moorage_operator.reconcile.space import judge_space
from moorage_operator.reconcile.steps import plan_steps, why_blocked
from moorage_operator.reconcile.stores import observe_claim_sizes
from moorage_operator.reconcile.telling import Report, Teller, kept_fields
from moorage_operator.reconcile.usage import Usage
from moorage_operator.reconcile.world import World
from moorage_operator.resources.build import build_objects
from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.manifest import PART, Manifest, Phase
from moorage_operator.resources.names import etcd_part, preflight_part
from moorage_operator.spec.blockpool import BlockPool
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.realm import Manifest as Wish
from moorage_operator.spec.realm import Realm
from moorage_operator.status import Finding

STATUS_MANAGER = f"{FIELD_MANAGER}-status"
DENIED_RETRY_SECONDS = 60.0
PREFLIGHT_POLL_SECONDS = 10.0
ROUTES_POLL_SECONDS = 2.0
SPACE_POLL_SECONDS = 60.0

log = logging.getLogger("moorage.reconcile")


class Reconciler:
    def __init__(
        self,
        kube: Kube,
        world: World,
        usage: Usage,
        preparer: Preparer,
        applier: Applier,
        finalizer: Finalizer,
        servers: Servers,
        identity: str,
        now: Callable[[], dt.datetime],
        wake: Callable[[ResourceKey], None],
    ) -> None:
        self._kube = kube
        self._world = world
        self._usage = usage
        self._preparer = preparer
        self._applier = applier
        self._finalizer = finalizer
        self._servers = servers
        self._teller = Teller(kube, world, identity, now)
        self._wake = wake
        self._contexts: dict[ResourceKey, ClusterContext] = {}
        self._clearing = Clearing(kube, world, applier, self._contexts)
        self._unprepared: set[ResourceKey] = set()
        self._builds: dict[ResourceKey, tuple[Any, Mapping[ResourceKey, tuple[Manifest, ...]]]] = {}

    async def reconcile(self, key: ResourceKey) -> float | None:
        """Returns when to come back by itself. KubeError when the API server stood in the way: then soon."""
        resource = self._world.resource(key)
        if resource is None:
            self._contexts.pop(key, None)
            self._builds.pop(key, None)
            await self._clearing.clear_away(key)
            return None
        if resource.deleting is not None:
            return await self._finalizer.finalize(resource)
        report = Report()
        if await self._pass(resource, report):
            await self._teller.tell(resource, report)
        return report.again

    async def _pass(self, resource: Resource, report: Report) -> bool:
        """False when there is nothing to report yet: this process has not come to the AccessPoint so far."""
        plan = self._world.plan(resource.namespace)
        self._judge_claim(resource, plan, report)
        if resource.manifest is None:
            report.more |= kept_fields(resource)
            report.stall("InvalidSpec", "; ".join(resource.problems))
            return True
        if resource.manifest.spec.paused:
            report.more |= kept_fields(resource)
            report.idle = Finding(
                "Ready", "Unknown", "Paused", "spec.paused is true: nothing is looked after."
            )
            return True
        await self._finalizer.keep_in_step(resource)
        realm = plan.realm_of(resource.key)
        report.waits += plan.waits.get(resource.key, ())
        if realm is None:
            await self._rest(resource, plan, report)
            return True
        if resource.kind == "AccessPoint" and not await self._prepare(resource, realm, report):
            return True
        access_point = key_of(realm.access_point)
        context = self._contexts.get(access_point)
        if context is not None:
            await self._carry_out(resource, realm, context, report)
            if resource.kind == "AccessPoint":
                report.come_back(await self._usage.look(resource, plan, context.routing))
        elif access_point in self._unprepared:
            report.more |= {**kept_fields(resource), **report.more}
            report.waits.append(f"AccessPoint/{access_point[2]} prepares keys and routes first")
        else:
            self._wake(access_point)
            return False
        return True

    async def _prepare(self, resource: Resource, realm: Realm, report: Report) -> bool:
        """Secrets and live files of the realm; False when something stands in their way."""
        try:
            prepared: Prepared = await self._preparer.prepare(resource, realm)
        except KubeForbiddenError as error:
            report.more |= kept_fields(resource)
            text = (
                f"{error.detail}. Give the operator's role for Secrets in this namespace (docs/install.md)."
            )
            report.stall("MissingPermissions", text, DENIED_RETRY_SECONDS)
        except ForeignSecretError as error:
            report.more |= kept_fields(resource)
            report.stall("SecretNotOurs", str(error), DENIED_RETRY_SECONDS)
        else:
            self._unprepared.discard(resource.key)
            self._take_up(resource, realm, prepared, report)
            return True
        if resource.key not in self._unprepared:
            self._unprepared.add(resource.key)
            self._wake_members(realm)
        return False

    def _take_up(self, resource: Resource, realm: Realm, prepared: Prepared, report: Report) -> None:
        report.more |= prepared.more
        report.waits += prepared.waits
        report.come_back(prepared.again)
        if self._contexts.get(resource.key) != prepared.context:
            self._contexts[resource.key] = prepared.context
            self._wake_members(realm)

    def _wake_members(self, realm: Realm) -> None:
        for member in members(realm):
            self._wake(key_of(member))

    async def _carry_out(
        self, resource: Resource, realm: Realm, context: ClusterContext, report: Report
    ) -> None:
        builds = self._build(realm, context)
        wanted = builds[resource.key]
        wish = next(one for one in members(realm) if key_of(one) == resource.key)
        known = self._world.plan(resource.namespace).resources
        others = [
            built for key, built in builds.items() if key != resource.key and not _is_stuck(known.get(key))
        ]
        live = self._world.live

        def blocked(phase: Phase, missing: bool) -> str | None:
            reason = why_no_etcd(self._world, realm, wish) if phase > Phase.STORES else None
            return reason or why_blocked(phase, missing, wanted, others, live)

        planned = plan_steps(wanted, live, self._world.owned(resource.key), blocked)
        self._applier.settle(wanted, planned.steps)
        try:
            problem = await self._applier.carry_out(planned.steps)
        except KubeForbiddenError as error:
            report.stall("MissingPermissions", error.detail, DENIED_RETRY_SECONDS)
        except KubeNotFoundError as error:
            text = f"{error.detail}: the cluster does not know this kind, or the namespace is gone."
            report.stall("KindMissing", text, DENIED_RETRY_SECONDS)
        else:
            if problem is not None:
                again = FIGHT_RETRY_SECONDS if problem.reason == "FieldFight" else DENIED_RETRY_SECONDS
                report.stall(problem.reason, problem.message, again)
        report.waits += planned.waits
        self._judge_parts(resource, wanted, report)
        await self._judge_stores(wish, wanted, report)

    async def _judge_stores(self, wish: Wish, wanted: Sequence[Manifest], report: Report) -> None:
        namespace, name = wish.metadata.namespace, wish.metadata.name
        if isinstance(wish, MetadataCluster):
            managed = wish.spec.etcd.type == "Managed"
            judged = (
                judge_managed_etcd(self._world, namespace, name)
                if managed
                else judge_external_etcd(name, report.parts)
            )
            report.findings.append(judged)
            if managed and not wish.spec.hibernated:
                addresses = [address for address, _ in self._world.addresses(namespace, etcd_part(name))]
                report.findings.append(judge_space(await self._servers.ask_space(addresses)))
                report.come_back(SPACE_POLL_SECONDS)
        elif isinstance(wish, BlockPool):
            finding = judge_store(self._world, wanted, ())
            if finding is not None and finding.status != "True":
                # Nobody tells us of a pod that failed, so it is asked for while there is something to wait for.
                selector = f"{PART}={preflight_part(name)}"
                pods = await self._kube.list_all(POD, namespace, selector)
                finding = judge_store(self._world, wanted, pods.items)
                report.come_back(PREFLIGHT_POLL_SECONDS)
            if finding is not None:
                report.findings.append(finding)

    def _judge_parts(self, resource: Resource, wanted: Sequence[Manifest], report: Report) -> None:
        for manifest in wanted:
            if manifest.kind not in WORKLOADS:
                continue
            found = self._world.live(manifest.body)
            if found is None:
                report.parts.append(Progress(manifest.name, 0, 0, settled=False, why_not="is not there yet"))
                continue
            progress = observe_progress(found)
            report.parts.append(progress)
            if not progress.settled and progress.why_not not in report.waits:
                report.waits.append(progress.why_not)
            if not progress.settled and gave_up(found):
                report.stall("ProgressDeadlineExceeded", progress.why_not)
        if resource.manifest is not None and resource.manifest.spec.hibernated and not report.waits:
            report.idle = Finding("Ready", "False", "Hibernated", "spec.hibernated is true: nothing runs.")

    def _build(self, realm: Realm, context: ClusterContext) -> Mapping[ResourceKey, tuple[Manifest, ...]]:
        """The objects of every member, computed once for what they are computed from."""
        # Of this very realm: one member may be looked at before its AccessPoint takes up what has changed.
        names = self._names_by_server_key(realm.access_point.metadata.namespace)
        context = replace(
            context,
            claim_sizes=observe_claim_sizes(self._world, realm),
            services=plan_departing(context.proxy_routing, realm, names),
        )
        inputs = (context, [_fingerprint(member) for member in members(realm)])
        access_point = key_of(realm.access_point)
        known = self._builds.get(access_point)
        if known is not None and known[0] == inputs:
            return known[1]
        built = {key_of(member): build_objects(realm, member, context) for member in members(realm)}
        self._builds[access_point] = (inputs, built)
        return built

    def _names_by_server_key(self, namespace: str) -> dict[str, str]:
        manifests = (one.manifest for one in self._world.plan(namespace).resources.values())
        clusters = [one for one in manifests if isinstance(one, MetadataCluster)]
        return {one.spec.server_key: one.metadata.name for one in clusters}

    def _judge_claim(self, resource: Resource, plan: NamespacePlan, report: Report) -> None:
        """`Accepted`, and whom the resource belongs to."""
        if resource.kind == "AccessPoint":
            refusals = [one for one in plan.claims.refusals if one.access_point == resource.key]
            if refusals:
                text = " ".join(one.message for one in refusals)
                report.findings.append(Finding("Accepted", "False", refusals[0].reason, text))
                report.stall(refusals[0].reason, text)
            else:
                report.findings.append(
                    Finding("Accepted", "True", "Accepted", "All that it names is its own.")
                )
            return
        owner = plan.claims.owner.get(resource.key)
        if owner is None:
            text = "No AccessPoint of this namespace names it, itself or by a cluster: nothing runs for it."
            report.findings.append(Finding("Accepted", "False", "NotReferenced", text))
            return
        text = f"It belongs to AccessPoint/{owner[2]}."
        report.findings.append(Finding("Accepted", "True", "Accepted", text))
        report.more["accessPoint"] = {"name": owner[2], "uid": plan.resources[owner].uid}

    async def _rest(self, resource: Resource, plan: NamespacePlan, report: Report) -> None:
        """It is in no realm: it waits for something, and what runs is left alone; or nobody wants it, and nothing of
        it runs.
        """
        report.more |= {**kept_fields(resource), **report.more}
        if resource.kind == "AccessPoint" or resource.key in plan.claims.owner:
            return
        if self._world.owned(resource.key) and self._clearing.is_routed(resource):
            report.waits.append("servers and proxy let go of its routes first")
            report.come_back(ROUTES_POLL_SECONDS)
            return
        report.more.pop("accessPoint", None)
        report.idle = Finding("Ready", "False", "NotReferenced", "Nobody names it: nothing runs for it.")
        await self._clearing.clear(resource)


def _is_stuck(resource: Resource | None) -> bool:
    """Whether nothing will come of it by itself: others do not wait for it."""
    if resource is None or resource.manifest is None or resource.manifest.spec.paused:
        return True
    conditions = resource.status.get("conditions", ())
    return any(
        (one["type"] == "Stalled" and one["status"] == "True") or one["reason"] == "PreflightFailed"
        for one in conditions
    )


def _fingerprint(member: Wish) -> tuple[object, ...]:
    """Which object it is, in which version of its spec, and with which of its references."""
    meta = member.metadata
    resolved = (
        (member.spec.block_pools, member.spec.notifier_ref) if isinstance(member, MetadataCluster) else None
    )
    return (key_of(member), meta.uid, meta.generation, resolved)
