"""Does the live object already say what we wish, in the fields that are ours? Pure.

The wish is known by its hash, kept as an annotation of the object itself: another hash (a field was dropped, or an
older operator wrote it) means that it must be applied. With the same hash every field of the wish must stand in the
live object; what others have added beside them is theirs.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from moorage_operator.resources.manifest import Body, hash_content
from moorage_operator.spec.scalars import parse_quantity

WISH = "moorage.dev/wish"
OWNS_REPLICAS = "moorage.dev/owns-replicas"

_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "ownerReferences": "uid",
}
"""Lists that Kubernetes merges by a key: others may add entries. All other lists are ours as a whole."""
_AMOUNTS = frozenset({"requests", "limits", "sizeLimit", "capacity"})


def seal_wish(body: Body) -> Body:
    """The object as it is applied: with the hash of what it says."""
    meta = body["metadata"]
    annotations = {**meta.get("annotations", {}), WISH: hash_content(body)}
    return {**body, "metadata": {**meta, "annotations": annotations}}


def says_what_we_wish(sealed: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether applying `sealed` would change nothing that is ours."""
    return _holds(sealed, live, "")


def _holds(wish: Any, live: Any, field: str) -> bool:
    if wish is None or wish in ({}, []):
        return live is None or isinstance(live, type(wish)) or not live
    if isinstance(wish, Mapping):
        amounts = field in _AMOUNTS
        return isinstance(live, Mapping) and all(
            _holds(value, live.get(name), field if amounts else name) for name, value in wish.items()
        )
    if isinstance(wish, Sequence) and not isinstance(wish, str):
        return isinstance(live, Sequence) and not isinstance(live, str) and _holds_list(wish, live, field)
    return bool(wish == live) or (field in _AMOUNTS and _same_amount(wish, live))


def _holds_list(wish: Sequence[Any], live: Sequence[Any], field: str) -> bool:
    key = _KEYS.get(field)
    if key is None or not all(isinstance(entry, Mapping) and key in entry for entry in wish):
        return len(wish) == len(live) and all(
            _holds(ours, theirs, "") for ours, theirs in zip(wish, live, strict=True)
        )
    found = {entry.get(key): entry for entry in live if isinstance(entry, Mapping)}
    return all(entry[key] in found and _holds(entry, found[entry[key]], "") for entry in wish)


def _same_amount(wish: Any, live: Any) -> bool:
    """The API server spells quantities its own way: `1000m` comes back as `1`."""
    first, second = _amount(wish), _amount(live)
    return first is not None and first == second


def _amount(value: Any) -> Decimal | None:
    try:
        return parse_quantity(str(value))
    except ValueError:
        return None
