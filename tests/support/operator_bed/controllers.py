"""What a cluster's own controllers would do, so far as the operator looks at it: statuses of workloads.

No kubelet runs in these tests; nothing becomes ready unless this says so. It writes statuses only, as an own user
agent with all rights; the audit log tells its requests from the operator's by the user.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from moorage_operator.kube.client import Kube
from moorage_operator.kube.errors import KubeError
from moorage_operator.kube.kinds import DEPLOYMENT, ENDPOINT_SLICE, JOB, SERVICE, STATEFUL_SET, Kind


def build_ready_status(live: dict[str, Any]) -> dict[str, Any]:
    """As the controller reports when all pods are of the newest template and ready."""
    number = live["spec"].get("replicas", 1)
    status = {
        "observedGeneration": live["metadata"]["generation"],
        "replicas": number,
        "readyReplicas": number,
        "availableReplicas": number,
        "updatedReplicas": number,
    }
    if live["kind"] == "StatefulSet":
        status |= {"currentRevision": "one", "updateRevision": "one", "currentReplicas": number}
    return status


async def make_ready(kube: Kube, namespace: str) -> bool:
    """One round over the workloads of a namespace; whether there was anything to do."""
    changed = False
    for kind in (DEPLOYMENT, STATEFUL_SET):
        for live in (await kube.list_all(kind, namespace)).items:
            wanted = build_ready_status({**live, "kind": kind.name})
            status = live.get("status") or {}
            if any(status.get(name, 0) != value for name, value in wanted.items()):
                await _write_status(kube, kind, namespace, live["metadata"]["name"], wanted)
                changed = True
    changed |= await _make_endpoints(kube, namespace)
    for live in (await kube.list_all(JOB, namespace)).items:
        if not (live.get("status") or {}).get("conditions"):
            times = {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:01Z"}
            met = [
                {"type": name, "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}
                for name in ("SuccessCriteriaMet", "Complete")
            ]
            status = {**times, "succeeded": 1, "conditions": met}
            await _write_status(kube, JOB, namespace, live["metadata"]["name"], status)
            changed = True
    return changed


async def _make_endpoints(kube: Kube, namespace: str) -> bool:
    """One ready address for each Service, in a slice with the Service's labels. Nobody can be reached there."""
    known = {one["metadata"]["name"] for one in (await kube.list_all(ENDPOINT_SLICE, namespace)).items}
    changed = False
    for service in (await kube.list_all(SERVICE, namespace)).items:
        name, meta = service["metadata"]["name"], service["metadata"]
        if name in known:
            continue
        body = {
            "apiVersion": ENDPOINT_SLICE.api_version,
            "kind": ENDPOINT_SLICE.name,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {**meta.get("labels", {}), "kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": True}}],
        }
        await kube.apply(body, manager="endpoint-controller")
        changed = True
    return changed


async def _write_status(kube: Kube, kind: Kind, namespace: str, name: str, status: dict[str, Any]) -> None:
    path = kind.path(namespace, name, "status")
    await kube._request("PATCH", path, {"status": status}, "application/merge-patch+json")


@contextlib.asynccontextmanager
async def controllers(kube: Kube, namespace: str, every: float = 0.1) -> AsyncIterator[None]:
    """All rounds, until the end of the block."""

    async def run() -> None:
        while True:
            with contextlib.suppress(KubeError):
                await make_ready(kube, namespace)
            await asyncio.sleep(every)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
