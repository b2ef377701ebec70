"""What has to be written for one resource: ordered steps, each with its reason. Pure.

A change of what runs goes through the phases one after the other: what is in a later one waits until the workloads
before it are rolled out, across the whole realm. What is missing waits for stores alone: servers of a new realm wait
for one another as they start (L3 asks auth which realm this is). What is no longer wished is deleted last.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from moorage_operator.kube.cache import Cached
from moorage_operator.reconcile.compare import OWNS_REPLICAS, says_what_we_wish, seal_wish
from moorage_operator.reconcile.rollout import WORKLOADS, gave_up, is_complete, is_rolling, observe_progress
from moorage_operator.resources.manifest import KEEP, Body, Manifest, Phase

Live = Callable[[Mapping[str, Any]], dict[str, Any] | None]
"""The live object of a wished one, or None."""


@dataclass(frozen=True, slots=True)
class Step:
    """`apply` writes `body`, which is not there yet when it is `new`; `number` hands `spec.replicas` of it to whoever scales; `delete` takes `target` away."""

    verb: Literal["apply", "number", "delete"]
    reason: str
    body: Body | None = None
    new: bool = False
    target: Cached | None = None


@dataclass(frozen=True, slots=True)
class StepPlan:
    """`waits`: why something is not done yet."""

    steps: tuple[Step, ...]
    waits: tuple[str, ...]


def plan_steps(
    wanted: Sequence[Manifest],
    live: Live,
    owned: Sequence[Cached],
    blocked: Callable[[Phase, bool], str | None],
) -> StepPlan:
    """`owned`: all live objects that carry the resource's labels. `blocked` says why a phase is not open yet, for
    what is missing (True) and for what differs.
    """
    steps: list[Step] = []
    waits: list[str] = []
    closed: dict[tuple[Phase, bool], str | None] = {}
    for manifest in wanted:
        found = live(manifest.body)
        planned = _plan_object(manifest, found)
        gate = (manifest.phase, found is None)
        if planned and gate not in closed:
            closed[gate] = blocked(*gate)
        reason = closed.get(gate)
        if planned and reason is not None:
            if reason not in waits:
                waits.append(reason)
        else:
            steps += planned
    if not waits:
        named = {(manifest.kind, manifest.name) for manifest in wanted}
        steps += [
            Step("delete", f"{one.kind.name}/{one.name} is no longer wished", target=one)
            for one in owned
            if (one.kind.name, one.name) not in named and not is_kept(one)
        ]
    return StepPlan(tuple(steps), tuple(waits))


def is_kept(one: Cached) -> bool:
    return KEEP in one.decode()["metadata"].get("annotations", {})


def _plan_object(manifest: Manifest, live: dict[str, Any] | None) -> list[Step]:
    title = f"{manifest.kind}/{manifest.name}"
    wish = seal_wish(manifest.body)
    if manifest.initial_replicas is None:
        if "replicas" in manifest.body.get("spec", {}) and manifest.kind == "Deployment":
            wish = seal_wish(_owning_replicas(manifest.body))
        if live is None:
            return [Step("apply", f"{title} is missing", wish, new=True)]
        return [] if says_what_we_wish(wish, live) else [Step("apply", f"{title} differs", wish)]
    # The number is somebody else's: ours to begin with, then handed over, so that letting go does not reset it to 1.
    ours = live is not None and OWNS_REPLICAS in live["metadata"].get("annotations", {})
    if live is not None and not ours:
        return [] if says_what_we_wish(wish, live) else [Step("apply", f"{title} differs", wish)]
    number = live["spec"].get("replicas") if live is not None else None
    start = number or manifest.initial_replicas
    steps = []
    if number != start:
        reason = f"{title} is missing" if live is None else f"{title} comes back from hibernation"
        steps.append(
            Step("apply", reason, seal_wish(_owning_replicas(manifest.body, start)), new=live is None)
        )
    steps.append(
        Step("number", f"the number of {title} is left to whoever scales it", _number(manifest, start))
    )
    return [*steps, Step("apply", f"the number of {title} is not ours any more", wish)]


def _owning_replicas(body: Body, number: int | None = None) -> Body:
    meta = body["metadata"]
    spec = body["spec"] if number is None else {**body["spec"], "replicas": number}
    noted = {**meta.get("annotations", {}), OWNS_REPLICAS: "true"}
    return {**body, "metadata": {**meta, "annotations": noted}, "spec": spec}


def _number(manifest: Manifest, number: int) -> Body:
    meta = manifest.body["metadata"]
    return {
        "apiVersion": manifest.body["apiVersion"],
        "kind": manifest.kind,
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "spec": {"replicas": number},
    }


def why_blocked(
    phase: Phase, missing: bool, mine: Sequence[Manifest], others: Iterable[Sequence[Manifest]], live: Live
) -> str | None:
    """Why `phase` is not open: a workload of an earlier phase that is not ready. What is `missing` waits for the
    resource's own stores alone.

    Of the resource itself everything counts, stores and preflight included. Of the realm's other resources only what
    can be waited for: one that is held up by its own store, or gave up, does not stop the others. One whose store is
    on its way to a newer template is waited for: its servers come after that, and the others' after them.
    """
    before = min(phase, Phase.STORES + 1) if missing else phase
    for manifest in mine:
        if manifest.phase < before and manifest.kind in (*WORKLOADS, "Job"):
            reason = _why_not_ready(manifest, live(manifest.body))
            if reason is not None:
                return reason
    if missing or phase <= Phase.STORES:
        return None
    for manifests in others:
        earlier = [one for one in manifests if one.kind == "Deployment" and one.phase < phase]
        stores = [one for one in manifests if one.phase == Phase.STORES and one.kind in (*WORKLOADS, "Job")]
        if any(_why_not_ready(one, live(one.body)) for one in stores):
            runs = any(live(one.body) is not None for one in earlier)
            rolls = (reason for one in stores if (reason := _why_rolling(one, live(one.body))))
            if runs and (reason := next(rolls, None)):
                return reason
            continue
        for manifest in earlier:
            found = live(manifest.body)
            reason = None if found is not None and gave_up(found) else _why_not_ready(manifest, found)
            if reason is not None:
                return reason
    return None


def _why_rolling(manifest: Manifest, found: dict[str, Any] | None) -> str | None:
    """Why a store that served is not what it will be in a moment; None for one that is new, or down."""
    reason = _why_not_ready(manifest, found)
    if manifest.kind == "Job":  # a changed store is tried anew, by a Job of another name
        return reason
    if found is None or reason is None:
        return None
    return reason if _plan_object(manifest, found) or is_rolling(found) else None


def _why_not_ready(manifest: Manifest, found: dict[str, Any] | None) -> str | None:
    title = f"{manifest.kind}/{manifest.name}"
    if found is None:
        return f"{title} comes first and is not there yet"
    if manifest.kind == "Job":
        return None if is_complete(found) else f"{title} has to succeed first"
    if _plan_object(manifest, found):
        return f"{title} comes first and is not up to date yet"
    progress = observe_progress(found)
    return None if progress.settled else progress.why_not
