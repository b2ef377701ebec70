"""How far a workload is, from its own status. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WORKLOADS = frozenset({"Deployment", "StatefulSet"})


@dataclass(frozen=True, slots=True)
class Progress:
    """`settled`: every pod is of the newest template and ready. `why_not` says for a person what is missing."""

    name: str
    ready: int
    desired: int
    settled: bool
    why_not: str


def observe_progress(live: Mapping[str, Any]) -> Progress:
    """Of a Deployment or StatefulSet as the API server has it."""
    meta, status = live["metadata"], live.get("status") or {}
    wished = live["spec"].get("replicas", 1)
    ready = status.get("readyReplicas", 0)
    name = f"{live['kind']}/{meta['name']}"
    why_not = ""
    if status.get("observedGeneration", 0) < meta.get("generation", 0):
        why_not = f"{name} has not been looked at by its controller yet"
    elif wished == 0:
        why_not = f"{name} still has {status['replicas']} pods" if status.get("replicas") else ""
    elif _updated(live, status) < wished:
        why_not = f"{name}: {_updated(live, status)} of {wished} pods are of the newest template"
    elif live["kind"] == "Deployment" and status.get("replicas", 0) > wished:
        why_not = f"{name}: {status['replicas'] - wished} old pods still run"
    elif ready < wished:
        why_not = f"{name}: {ready} of {wished} pods are ready"
    if why_not and (stuck := _stuck(status)):
        why_not = f"{why_not} ({stuck})"
    return Progress(meta["name"], ready, wished, not why_not, why_not)


def gave_up(live: Mapping[str, Any]) -> bool:
    """Whether a Deployment has not moved for its progress deadline: a person has to look."""
    conditions = (live.get("status") or {}).get("conditions", ())
    return any(one.get("reason") == "ProgressDeadlineExceeded" for one in conditions)


def is_rolling(live: Mapping[str, Any]) -> bool:
    """Whether the pods of a StatefulSet are on their way to a newer template, the last of them not ready yet."""
    status = live.get("status") or {}
    unseen = status.get("observedGeneration", 0) < live["metadata"].get("generation", 0)
    return bool(unseen or status.get("currentRevision") != status.get("updateRevision"))


def is_complete(job: Mapping[str, Any]) -> bool:
    """Whether a Job has succeeded."""
    conditions = (job.get("status") or {}).get("conditions", ())
    return any(one.get("type") == "Complete" and one.get("status") == "True" for one in conditions)


def _updated(live: Mapping[str, Any], status: Mapping[str, Any]) -> int:
    # A StatefulSet drops the number of updated pods when all are of one revision.
    if live["kind"] == "StatefulSet" and status.get("currentRevision") == status.get("updateRevision"):
        return int(status.get("replicas", 0))
    return int(status.get("updatedReplicas", 0))


def _stuck(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions", ()):
        late = condition.get("reason") == "ProgressDeadlineExceeded"
        if late or (condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"):
            return str(condition.get("message", condition.get("reason", "")))
    return ""
