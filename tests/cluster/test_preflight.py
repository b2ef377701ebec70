"""What a person hears of a store that does not work: the real preflight against a real S3, run as a kubelet would."""

import asyncio
import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from operator_bed.bed import Bed
from operator_bed.manifests import build_access_point, build_cluster, build_pool
from real_servers.engines import S3
from real_servers.hanging import hanging

from moorage_operator.kube.kinds import CONFIG_MAP, JOB, POD, Kind
from moorage_operator.reconcile import reconciler

SECRET = "a-secret-nobody-may-see"


class Kubelet:
    """Makes a pod of the newest Job of the pool's preflight, mounts its files, and runs its command."""

    def __init__(self, bed: Bed, folder: Path) -> None:
        self._bed = bed
        self._folder = folder
        self._pods = 0

    async def job(self) -> dict[str, Any]:
        async def there() -> bool:
            return bool((await self._bed.kube.list_all(JOB, self._bed.namespace)).items)

        await self._bed.until(there)
        (found,) = (await self._bed.kube.list_all(JOB, self._bed.namespace)).items
        return dict(found)

    async def make_pod(self, state: dict[str, Any], last: dict[str, Any] | None = None) -> None:
        """The pod of the Job, or one more, with a container that is in this state."""
        job = await self.job()
        self._pods += 1
        template = job["spec"]["template"]
        # The last one by name is the oldest.
        name = f"{job['metadata']['name']}-{9 - self._pods}"
        meta = {"name": name, "labels": template["metadata"]["labels"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
        status, answer = self._bed.api.request("POST", POD.path(self._bed.namespace), pod)
        assert status == 201, answer
        container = {
            "name": template["spec"]["containers"][0]["name"],
            "image": "moorage:test",
            "imageID": "",
            "ready": False,
            "restartCount": self._pods,
            "state": state,
            **({"lastState": last} if last else {}),
        }
        await self._set_status(POD, name, {"phase": "Pending", "containerStatuses": [container]})

    async def run(self, key: str, secret: str) -> str:
        """Once; everything that was said."""
        mounted = self._folder / "store"
        mounted.mkdir(exist_ok=True)
        (mounted / "access_key_id").write_text(key)
        (mounted / "secret_access_key").write_text(secret)
        job = await self.job()
        (container,) = job["spec"]["template"]["spec"]["containers"]
        command = [*container["command"], *container.get("args", ())]
        assert command[:3] == ["moorage-nodes", "preflight", "--settings"]
        found = await self._bed.kube.get(CONFIG_MAP, self._bed.namespace, "pool-preflight-settings")
        assert found is not None
        settings = json.loads(found["data"][Path(command[3]).name])
        settings["s3"]["credentials_file"] = str(mounted)
        settings |= {"result_file": str(self._folder / "termination-log"), "seconds": 4}
        path = self._folder / "settings.json"
        path.write_text(json.dumps(settings))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "moorage_nodes.app", "preflight", "--settings", str(path)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        if process.returncode:
            ended = {
                "exitCode": process.returncode,
                "message": (self._folder / "termination-log").read_text(),
                "finishedAt": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            await self.make_pod({"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": ended})
        else:
            time = "2026-01-01T00:00:01Z"
            met = [
                {"type": name, "status": "True", "lastTransitionTime": time}
                for name in ("SuccessCriteriaMet", "Complete")
            ]
            status = {"startTime": time, "completionTime": time, "succeeded": 1, "conditions": met}
            await self._set_status(JOB, job["metadata"]["name"], status)
        return said.decode()

    async def _set_status(self, kind: Kind, name: str, status: dict[str, Any]) -> None:
        path = kind.path(self._bed.namespace, name, "status")
        await self._bed.kube._request("PATCH", path, {"status": status}, "application/merge-patch+json")


@pytest.fixture
def kubelet(bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubelet:
    monkeypatch.setattr(reconciler, "PREFLIGHT_POLL_SECONDS", 0.2)
    return Kubelet(bed, tmp_path)


async def put_all(bed: Bed, endpoint: str, bucket: str) -> dict[str, Any]:
    external = {
        "endpoint": endpoint,
        "bucket": bucket,
        "credentialsSecretRef": {"name": "s3-credentials"},
    }
    pool = build_pool(store={"type": "External", "external": external})
    for manifest in (pool, build_cluster(), build_access_point()):
        await bed.put(manifest)
    return pool


async def says(bed: Bed, pool: dict[str, Any], reason: str, *texts: str) -> bool:
    if (await bed.conditions(pool)).get("StoreReady") != ("False", reason):
        return False
    message = await bed.message(pool, "StoreReady")
    assert SECRET not in message
    return all(text in message for text in texts)


async def is_ready(bed: Bed, pool: dict[str, Any]) -> bool:
    return (await bed.conditions(pool)).get("StoreReady") == ("True", "PreflightPassed")


async def test_wrong_credentials_are_named_once_and_tried_again_until_the_store_works(
    bed: Bed, kubelet: Kubelet, s3_minio: S3
) -> None:
    bucket = s3_minio.new_bucket()
    pool = await put_all(bed, s3_minio.endpoint, bucket)
    async with bed.running():
        said = await kubelet.run(s3_minio.access_key_id, SECRET)
        assert SECRET not in said
        refused = "The object store does not let this server in. (CredentialsRefused, at the step put)"
        await bed.until(lambda: says(bed, pool, "PreflightFailed", refused))
        # It is tried again by itself, and what failed last is what is said, and said once.
        await kubelet.run("nobody", SECRET)
        await bed.settled()
        since = bed.api.audit_position()
        await asyncio.sleep(0.5)
        assert bed.writes(since) == []
        await kubelet.run(s3_minio.access_key_id, s3_minio.secret_access_key)
        await bed.until(lambda: is_ready(bed, pool))


async def test_a_missing_bucket_is_named(bed: Bed, kubelet: Kubelet, s3_minio: S3) -> None:
    pool = await put_all(bed, s3_minio.endpoint, "nobody-made-this")
    async with bed.running():
        await kubelet.run(s3_minio.access_key_id, SECRET)
        await bed.until(lambda: says(bed, pool, "PreflightFailed", "CredentialsRefused"))
        await asyncio.sleep(1)  # the kubelet's times are whole seconds
        await kubelet.run(s3_minio.access_key_id, s3_minio.secret_access_key)
        await bed.until(lambda: says(bed, pool, "PreflightFailed", "BucketMissing, at the step put"))
        assert "CredentialsRefused" not in await bed.message(pool, "StoreReady")


async def test_an_endpoint_that_hangs_is_named_and_so_is_a_secret_that_is_not_there(
    bed: Bed, kubelet: Kubelet
) -> None:
    async with hanging() as endpoint, bed.running():
        pool = await put_all(bed, endpoint, "bucket")
        await bed.until(lambda: says(bed, pool, "PreflightRuns", "has not ended yet."))
        await kubelet.make_pod({"waiting": {"reason": "ContainerCreating"}})
        waits = "Its pod waits: ContainerCreating. What it mounts has to be there: Secret s3-credentials."
        await bed.until(lambda: says(bed, pool, "PreflightRuns", waits))
        await kubelet.run("key", SECRET)
        await bed.until(lambda: says(bed, pool, "PreflightFailed", "at the step put"))
        # Servers that need the store are not started, all others are.
        assert (await bed.conditions(pool))["Ready"] == ("False", "Waiting")
