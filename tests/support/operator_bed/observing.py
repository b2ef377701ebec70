"""All that an operator has made in a namespace, in a form that can be compared with another namespace's."""

import re
from typing import Any

from moorage_operator.kube.client import Kube
from moorage_operator.kube.kinds import BUILT, RESOURCES

REVISIONS = re.compile(r"""(?<="revision": )[0-9]+|(?<=routing revision )[0-9]+|(?<=return 200 ')[0-9]+""")
"""Of live files: they count the changes on the way."""
VOLATILE = {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "namespace"}


async def observe(kube: Kube, namespace: str) -> dict[str, Any]:
    """All objects of a namespace without what differs from one to the next."""
    found: dict[str, Any] = {}
    for kind in (*BUILT, *RESOURCES):
        for one in (await kube.list_all(kind, namespace)).items:
            meta = {name: value for name, value in one["metadata"].items() if name not in VOLATILE}
            meta.pop("ownerReferences", None)
            meta.get("annotations", {}).pop("moorage.dev/wish", None)
            text = {"metadata": meta, "spec": one.get("spec"), "data": one.get("data")}
            found[f"{kind.name}/{meta['name']}"] = _without_own(text, namespace)
    return found


def _without_own(value: Any, namespace: str) -> Any:
    """Names of the namespace, addresses that the API server gave out, and keys made at random."""
    if isinstance(value, dict):
        own = {
            "clusterIP",
            "clusterIPs",
            "trust.json",
            "moorage.dev/settings-hash",
            "batch.kubernetes.io/controller-uid",
            "controller-uid",
        }
        return {name: _without_own(one, namespace) for name, one in value.items() if name not in own}
    if isinstance(value, list):
        return [_without_own(one, namespace) for one in value]
    if isinstance(value, str):
        return REVISIONS.sub("REVISION", value.replace(namespace, "NAMESPACE"))
    return value
