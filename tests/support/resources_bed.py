"""Valid manifests of the four kinds as plain data, and the calls that put them before a real API server."""

import copy
import time
from typing import Any

from moorage_operator.crds import DEFINITIONS, build_crds
from moorage_operator.spec.base import API_VERSION

_SPECS: dict[str, Any] = {
    "AccessPoint": {
        "publicURL": "https://files.example.com",
        "clusters": [{"name": "main"}],
        "auth": {"etcd": {"type": "Cluster", "cluster": {"name": "main"}}},
    },
    "MetadataCluster": {
        "serverKey": "main",
        "etcd": {"type": "Managed"},
        "blockPools": [{"name": "main"}],
    },
    "BlockPool": {
        "store": {
            "type": "External",
            "external": {
                "endpoint": "https://s3.example.com",
                "bucket": "chunks",
                "credentialsSecretRef": {"name": "s3"},
            },
        },
    },
    "Notifier": {"etcd": {"type": "External", "external": {"endpoints": ["http://etcd:2379"]}}},
}


def build_resource(kind: str, name: str = "main", spec: Any = None) -> dict[str, Any]:
    """The smallest valid manifest of a kind, or one with this spec."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": copy.deepcopy(_SPECS[kind] if spec is None else spec),
    }


def changed(value: Any, path: str, new: Any) -> Any:
    """A copy with `new` at a dotted path; objects on the way are made. `...` takes the field away."""
    value = copy.deepcopy(value)
    *way, last = path.split(".")
    place = value
    for step in way:
        place = place[int(step)] if step.isdigit() else place.setdefault(step, {})
    if new is ...:
        place.pop(last, None)
    else:
        place[int(last) if last.isdigit() else last] = new
    return value


def collection(kind: str, namespace: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/{namespace}/{DEFINITIONS[kind].plural}"


def apply_crds(api: Any) -> None:
    """Put the CRDs as the models say them, and wait until they are served. Idempotent."""
    for crd in build_crds().values():
        put_definition(api, crd)
    for kind, definition in DEFINITIONS.items():
        wait_until_served(api, collection(kind, "default"))
        _, crd = api.request("GET", f"{_DEFINITIONS}/{definition.plural}.moorage.dev")
        conditions = {condition["type"] for condition in crd["status"]["conditions"]}
        assert "NonStructuralSchema" not in conditions, crd["status"]


_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def put_definition(api: Any, crd: Any) -> None:
    path = f"{_DEFINITIONS}/{crd['metadata']['name']}?fieldManager=test&force=true"
    status, answer = api.request("PATCH", path, crd, "application/apply-patch+yaml")
    assert status in {200, 201}, answer


def wait_until_served(api: Any, path: str) -> None:
    deadline = time.monotonic() + 60
    while api.request("GET", path)[0] != 200:
        assert time.monotonic() < deadline, f"{path} is not served"
        time.sleep(0.1)
