"""The rights of the operator, as data: the chart's roles are made from it, and tests give it exactly these.

No wildcards. Secrets only through a binding in single namespaces, by name, never listed or watched.
"""

from collections.abc import Sequence
from typing import Any

from moorage_operator.kube.kinds import (
    BUILT,
    ENDPOINT_SLICE,
    EVENT,
    HTTP_ROUTE,
    LEASE,
    POD,
    RESOURCES,
    SECRET,
    Kind,
)

Rule = dict[str, Any]

_READ = ("get", "list", "watch")
_OWN = (*_READ, "create", "patch", "delete")


def build_rules() -> dict[str, list[Rule]]:
    """`resources`: wherever it works. `secrets`: in single namespaces. `own`: where the operator itself runs."""
    names = [kind.plural for kind in RESOURCES]
    group = RESOURCES[0].group
    return {
        "resources": [
            _rule(group, names, (*_READ, "patch")),
            _rule(group, [f"{name}/status" for name in names], ("patch",)),
            # For clusters that check who may block a deletion by an owner reference.
            _rule(group, [f"{name}/finalizers" for name in names], ("update",)),
            *_rules_of((*BUILT, HTTP_ROUTE), _OWN),
            *_rules_of((ENDPOINT_SLICE,), _READ),
            *_rules_of((POD,), ("list",)),
            *_rules_of((EVENT,), ("create",)),
        ],
        "secrets": _rules_of((SECRET,), ("get", "create", "update", "delete")),
        "own": _rules_of((LEASE,), (*_READ, "create", "update")),
    }


def _rules_of(kinds: Sequence[Kind], verbs: Sequence[str]) -> list[Rule]:
    """One rule for each API group."""
    by_group: dict[str, list[str]] = {}
    for kind in kinds:
        by_group.setdefault(kind.group, []).append(kind.plural)
    return [_rule(group, names, verbs) for group, names in by_group.items()]


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> Rule:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
