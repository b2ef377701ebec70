"""What a pass found out, as the resource's status and Events."""

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moorage_operator.kube.client import FIELD_MANAGER, Kube
from moorage_operator.kube.errors import KubeNotFoundError
from moorage_operator.kube.kinds import EVENT
from moorage_operator.reconcile.resource import Resource
from moorage_operator.reconcile.rollout import Progress
from moorage_operator.reconcile.world import World
from moorage_operator.resources.manifest import build_selector
from moorage_operator.resources.names import block_part, notify_part
from moorage_operator.spec.base import API_VERSION
from moorage_operator.status import Finding, build_status, list_news, summarize

STATUS_MANAGER = f"{FIELD_MANAGER}-status"


@dataclass(slots=True)
class Report:
    """What a pass found out; becomes the status."""

    findings: list[Finding] = field(default_factory=list)
    problem: Finding | None = None
    waits: list[str] = field(default_factory=list)
    idle: Finding | None = None
    parts: list[Progress] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    again: float | None = None

    def stall(self, reason: str, message: str, again: float | None = None) -> None:
        """The first problem is the one that is told."""
        self.problem = self.problem or Finding("Stalled", "True", reason, message)
        self.come_back(again)

    def come_back(self, seconds: float | None) -> None:
        if seconds is not None:
            self.again = seconds if self.again is None else min(self.again, seconds)


class Teller:
    """`identity` names this process in Events."""

    def __init__(self, kube: Kube, world: World, identity: str, now: Callable[[], dt.datetime]) -> None:
        self._kube = kube
        self._world = world
        self._identity = identity
        self._now = now

    async def tell(self, resource: Resource, report: Report) -> None:
        """Write the status when it says something new, then Events for what became different."""
        summary = summarize(problem=report.problem, waits=report.waits, idle=report.idle)
        more = {**report.more, **_part_fields(resource, report)}
        status = build_status(
            resource.status, resource.generation, [*report.findings, *summary], self._now(), more
        )
        if status == resource.status:
            return
        manifest = {
            "apiVersion": API_VERSION,
            "kind": resource.kind,
            "metadata": {"name": resource.name, "namespace": resource.namespace, "uid": resource.uid},
            "status": status,
        }
        try:
            applied = await self._kube.apply(manifest, STATUS_MANAGER, "status")
        except KubeNotFoundError:
            return  # deleted in this moment; its event comes
        self._world.resources[resource.kind].put(applied)
        for condition in list_news(resource.status, status):
            await self._kube.post_event(self._build_event(resource, condition))

    def _build_event(self, resource: Resource, condition: Mapping[str, Any]) -> dict[str, Any]:
        moment = self._now()
        bad = condition["type"] == "Stalled" and condition["status"] == "True"
        mark = hashlib.sha256(
            f"{resource.uid}{condition['type']}{condition['reason']}{moment.timestamp()}".encode()
        ).hexdigest()[:12]
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {"name": f"{resource.name}.{mark}", "namespace": resource.namespace},
            "eventTime": moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": "Warning" if bad else "Normal",
            "reason": condition["reason"],
            "action": f"{condition['type']}{condition['status']}",
            "note": (condition["message"] or condition["reason"])[:1000],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": resource.kind,
                "name": resource.name,
                "namespace": resource.namespace,
                "uid": resource.uid,
            },
            "reportingController": "moorage.dev/operator",
            "reportingInstance": self._identity[:128],
        }


def kept_fields(resource: Resource) -> dict[str, Any]:
    """What was reported before and is not looked at in this pass: said again rather than dropped."""
    named = ("accessPoint", "urls", "adminSecretRef", "routingRevision", "trustRevision", "keys")
    more = (*named, "parts", "replicas", "selector")
    return {name: resource.status[name] for name in more if name in resource.status}


def _part_fields(resource: Resource, report: Report) -> dict[str, Any]:
    if not report.parts:
        return {}
    fields: dict[str, Any] = {
        "parts": [{"name": one.name, "ready": one.ready, "desired": one.desired} for one in report.parts]
    }
    served: Mapping[str, Callable[[str], str]] = {"BlockPool": block_part, "Notifier": notify_part}
    if resource.kind in served:
        part = served[resource.kind](resource.name)
        fields["selector"] = ",".join(f"{name}={value}" for name, value in build_selector(part).items())
        fields["replicas"] = next((one.ready for one in report.parts if one.name == part), 0)
    return fields
