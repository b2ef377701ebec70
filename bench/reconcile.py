"""The operator with 300 resources on a real API server: memory, silence, latency. `make bench-operator`.

No kubelet and no controllers run: a stand-in reports every workload as ready. The operator is the real command, with
kopf, as a process of its own. Figures are of one run; the machine is shared by all of it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from operator_bed.bed import connect
from operator_bed.cluster import install_definitions
from operator_bed.controllers import build_ready_status, make_ready
from operator_bed.manifests import build_realm
from real_servers.kubernetes import ADMIN, OPERATOR, ApiServer, run_api_server
from real_servers.server import free_ports

from moorage_operator.kube.client import Kube
from moorage_operator.kube.kinds import ACCESS_POINT, BLOCK_POOL, DEPLOYMENT, METADATA_CLUSTER

KINDS = (ACCESS_POINT, METADATA_CLUSTER, BLOCK_POOL)
CHANGES = 100


def quiet_writes(api: ApiServer, since: int) -> list[str]:
    return [
        f"{event['verb']} {event['requestURI']}"
        for event in api.audit_events(since)
        if event["user"]["username"] == OPERATOR
        and event["verb"] not in {"get", "list", "watch"}
        and event.get("objectRef", {}).get("resource") != "leases"
    ]


def all_requests(api: ApiServer, since: int) -> list[str]:
    return [
        f"{event['verb']} {event['requestURI']}"
        for event in api.audit_events(since)
        if event["user"]["username"] == OPERATOR
        and event["verb"] != "watch"
        and event.get("objectRef", {}).get("resource") != "leases"
    ]


def memory_mib(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def build_arguments() -> list[str]:
    port = str(free_ports(1)[0])
    return ["--image=moorage:bench", "--namespace=default", f"--port={port}", "--log-level=warning"]


async def make_all(kube: Kube, api: ApiServer, realms: int) -> list[str]:
    namespaces = [f"realm-{number}" for number in range(realms)]
    for namespace in namespaces:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        api.request("POST", "/api/v1/namespaces", body)
        for manifest in build_realm():
            meta = {**manifest["metadata"], "namespace": namespace}
            await kube.apply({**manifest, "metadata": meta}, manager="person")
    return namespaces


async def are_ready(kube: Kube) -> int:
    """How many resources are ready."""
    ready = 0
    for kind in KINDS:
        for one in (await kube.list_all(kind, None)).items:
            conditions = (one.get("status") or {}).get("conditions", ())
            ready += any(met["type"] == "Ready" and met["status"] == "True" for met in conditions)
    return ready


async def measure_change(kube: Kube, namespace: str, number: int) -> float:
    """Seconds from the answer to a changed spec until the Deployment made of it has changed."""
    page = await kube.list_all(DEPLOYMENT, namespace)
    changed = asyncio.create_task(_changed(kube, namespace, page.resource_version, str(number)))
    await asyncio.sleep(0.05)
    patch = {"spec": {"tiers": {"l3": {"template": {"annotations": {"round": str(number)}}}}}}
    began = time.monotonic()
    await kube.merge(METADATA_CLUSTER, namespace, "main", patch)
    await asyncio.wait_for(changed, 60)
    return time.monotonic() - began


async def _changed(kube: Kube, namespace: str, version: str, mark: str) -> None:
    async for event in kube.watch(DEPLOYMENT, namespace, version):
        template = event.object.get("spec", {}).get("template", {})
        if template.get("metadata", {}).get("annotations", {}).get("round") == mark:
            return


async def run(resources: int, quiet_seconds: int) -> dict[str, Any]:
    realms = resources // len(KINDS)
    with run_api_server() as api, tempfile.TemporaryDirectory() as folder:
        install_definitions(api)
        group = "rbac.authorization.k8s.io"
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "operator"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "User", "name": OPERATOR, "apiGroup": group}],
        }
        api.request("POST", f"/apis/{group}/v1/clusterrolebindings", binding)
        kube = Kube(connect(api, ADMIN))
        namespaces = await make_all(kube, api, realms)
        log = Path(folder) / "operator.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "moorage_operator.main", *build_arguments()],
                env={**os.environ, "KUBECONFIG": str(api.kubeconfig(OPERATOR))},
                stdout=output,
                stderr=output,
            )
        try:
            began = time.monotonic()
            while await are_ready(kube) < realms * len(KINDS):
                for namespace in namespaces:
                    await make_ready(kube, namespace)
                if time.monotonic() - began > 1500 or process.poll() is not None:
                    raise SystemExit(f"not ready: {await are_ready(kube)}\n{log.read_text()[-2000:]}")
            ready_seconds = time.monotonic() - began
            await asyncio.sleep(10)
            since = api.audit_position()
            await asyncio.sleep(quiet_seconds)
            writes, requests = quiet_writes(api, since), all_requests(api, since)
            memory = memory_mib(process)
            latencies = []
            for number in range(CHANGES):
                namespace = namespaces[number % realms]
                latencies.append(await measure_change(kube, namespace, number))
                live = await kube.get(DEPLOYMENT, namespace, "main-l3")
                if live is not None:
                    status = {"status": build_ready_status({**live, "kind": "Deployment"})}
                    path = DEPLOYMENT.path(namespace, "main-l3", "status")
                    with contextlib.suppress(Exception):
                        await kube._request("PATCH", path, status, "application/merge-patch+json")
            latencies.sort()
            return {
                "resources": realms * len(KINDS),
                "ready_seconds": round(ready_seconds, 1),
                "rss_mib": round(memory, 1),
                "rss_mib_after_changes": round(memory_mib(process), 1),
                "quiet_seconds": quiet_seconds,
                "writes_in_quiet": len(writes),
                "requests_in_quiet": len(requests),
                "first_requests_in_quiet": requests[:5],
                "apply_p50_ms": round(statistics.median(latencies) * 1000, 1),
                "apply_p99_ms": round(latencies[int(len(latencies) * 0.99) - 1] * 1000, 1),
            }
        finally:
            process.kill()
            process.wait()
            await kube.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resources", type=int, default=300)
    parser.add_argument("--quiet-seconds", type=int, default=660)  # over a resync
    options = parser.parse_args()
    print(json.dumps(asyncio.run(run(options.resources, options.quiet_seconds)), indent=2))
