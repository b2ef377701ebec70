"""The life of a component's signing key: publish → sign → retire. Pure.

Settled on one key until it is old; Publishing the next one until every ready server trusts it; Signing with it while
its Secret reaches the pods; Retiring the one before until nothing that it signed is valid; Settled again. The Secrets
are the truth about keys and the status about times, so a crash between any two writes is found out and gone on from.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

SYNC = dt.timedelta(minutes=5)
"""In which a changed Secret reaches every pod that mounts it: the kubelet looks every minute or two."""

Phase = Literal["Settled", "Publishing", "Signing", "Retiring"]
Action = Literal["none", "make next", "promote next", "drop next"]


@dataclass(frozen=True, slots=True)
class KeyState:
    """`other` comes while Publishing and goes while Signing and Retiring."""

    phase: Phase
    since: dt.datetime
    current: str
    other: str | None = None


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """`current` is the key id in the component's Secret, `next` in the Secret beside it.

    `trusted`: every ready server reports a trust file that holds `next`. `lifetime`: of the longest token.
    """

    current: str
    next: str | None
    trusted: bool
    period: dt.timedelta
    lifetime: dt.timedelta


def plan_rotation(state: KeyState | None, facts: KeyFacts, now: dt.datetime) -> tuple[KeyState, Action]:
    """The state to report, and the one write that is due first. Called again after it, until that is `none`."""
    if state is None:
        return KeyState("Settled", now, facts.current), "drop next" if facts.next else "none"
    if facts.next == facts.current and state.phase in {"Settled", "Publishing"}:
        return state, "drop next"
    if facts.current != state.current:
        # Promoted, or somebody changed the Secret: either way what the old key signed stays valid for its time.
        return KeyState("Signing", now, facts.current, state.current), "none"
    match state.phase:
        case "Settled":
            if now - state.since < facts.period:
                return state, "drop next" if facts.next else "none"
            if facts.next is None:
                return state, "make next"
            return KeyState("Publishing", now, state.current, facts.next), "none"
        case "Publishing":
            if facts.next is None:
                return KeyState("Settled", state.since - facts.period, state.current), "none"
            if facts.next != state.other:
                return KeyState("Publishing", now, state.current, facts.next), "none"
            return state, "promote next" if facts.trusted else "none"
        case "Signing":
            if now - state.since < SYNC:
                return state, "none"
            return KeyState("Retiring", now, state.current, state.other), "none"
        case "Retiring":
            if now - state.since < facts.lifetime:
                return state, "none"
            return KeyState("Settled", now, state.current), "none"


def next_change(state: KeyState, facts: KeyFacts, now: dt.datetime) -> float | None:
    """Seconds until time alone changes the state; None when it waits for something else."""
    waits = {"Settled": facts.period, "Signing": SYNC, "Retiring": facts.lifetime}
    if state.phase not in waits:
        return None
    return max(0.0, (state.since + waits[state.phase] - now).total_seconds())
