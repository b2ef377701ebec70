"""What is reported of a resource: conditions as Kubernetes' own tools understand them. Pure.

`Ready`, `Reconciling` and `Stalled` are kstatus': Ready holds when all runs as wished, Reconciling while something is
under way by itself, Stalled when a person has to do something. The named ones say which part it is about.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["True", "False", "Unknown"]
LONGEST_MESSAGE = 4096


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition without its times."""

    type: str
    status: State
    reason: str
    message: str = ""


def summarize(
    *, problem: Finding | None, waits: Sequence[str], idle: Finding | None = None
) -> tuple[Finding, Finding, Finding]:
    """Ready, Reconciling and Stalled. `problem`: what a person has to do, if anything; `waits`: what comes by itself;
    `idle`: a Ready of its own, for what is paused, hibernated or not wanted by anybody.
    """
    waiting = "; ".join(waits)
    stalled = Finding("Stalled", "False", "Progressing", "Nobody needs to do anything.")
    if problem is not None:
        stalled = Finding("Stalled", "True", problem.reason, problem.message)
    reconciling = Finding("Reconciling", "False", "Settled", "Everything is as wished.")
    if waits:
        reconciling = Finding("Reconciling", "True", "Waiting", waiting)
    elif problem is not None:
        reconciling = Finding("Reconciling", "False", problem.reason, problem.message)
    ready = Finding("Ready", "True", "Ready", "All parts are ready.")
    if problem is not None:
        ready = Finding("Ready", "False", problem.reason, problem.message)
    elif waits:
        ready = Finding("Ready", "False", "Waiting", waiting)
    elif idle is not None:
        ready = idle
    return ready, reconciling, stalled


def build_status(
    old: Mapping[str, Any],
    generation: int,
    findings: Iterable[Finding],
    now: dt.datetime,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole status; `more` are the fields of the kind. A condition keeps its time while its status stays.

    Equal to `old` when there is nothing new to say.
    """
    before = {condition["type"]: condition for condition in old.get("conditions", ())}
    conditions = []
    for finding in sorted(findings, key=lambda one: one.type):
        known = before.get(finding.type)
        kept = known["lastTransitionTime"] if known and known["status"] == finding.status else None
        conditions.append(
            {
                "type": finding.type,
                "status": finding.status,
                "observedGeneration": generation,
                "lastTransitionTime": kept or render_time(now),
                "reason": finding.reason,
                "message": finding.message[:LONGEST_MESSAGE],
            }
        )
    filled = {name: value for name, value in more.items() if value is not None}
    return {"observedGeneration": generation, "conditions": conditions, **filled}


def list_news(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Conditions whose status or reason is another than before: what people are told by Events."""
    before = {one["type"]: (one["status"], one["reason"]) for one in old.get("conditions", ())}
    return [one for one in new["conditions"] if before.get(one["type"]) != (one["status"], one["reason"])]


def render_time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> dt.datetime:
    """ValueError when it is no time of ours."""
    return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)
