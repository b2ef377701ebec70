"""`moorage-nodes preflight` as a process, against real S3 servers and against what only looks like one."""

import asyncio
import datetime as dt
import ipaddress
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from real_servers.engines import S3, run_minio
from real_servers.hanging import hanging
from real_servers.server import free_ports

from moorage_nodes.preflight.checks import Preflight, UnsuitableStoreError
from moorage_nodes.stores.objects_memory import MemoryObjects
from moorage_nodes.stores.s3 import S3Store
from moorage_operator.resources.pki import Subject, found_pki

STEPS = ["put", "get", "conditional_put", "range", "multipart", "delete"]
SECRET = "a-secret-nobody-may-see"


@pytest.fixture(params=["s3_seaweedfs", "s3_minio"])
def s3(request: pytest.FixtureRequest) -> S3:
    found: S3 = request.getfixturevalue(request.param)
    return found


async def preflight(
    folder: Path,
    endpoint: str,
    bucket: str,
    key: str,
    secret: str,
    ca_file: str | None = None,
    **options: Any,
) -> tuple[int, dict[str, Any], str]:
    """Exit code, result, and everything that was said."""
    mounted = folder / "store"
    mounted.mkdir(exist_ok=True)
    (mounted / "access_key_id").write_text(key)
    (mounted / "secret_access_key").write_text(secret)
    settings = {
        "role": "preflight",
        "s3": {
            "endpoint": endpoint,
            "bucket": bucket,
            "prefix": "below/",
            "credentials_file": str(mounted),
            **({"ca_file": ca_file} if ca_file else {}),
        },
        "result_file": str(folder / "result"),
        **options,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "moorage_nodes.app",
        "preflight",
        "--settings",
        str(folder / "settings.json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    written = json.loads((folder / "result").read_text())
    assert written == json.loads(said.decode().splitlines()[-1])
    assert process.returncode is not None
    return process.returncode, written, said.decode()


async def test_a_good_store_passes_every_step_and_is_left_empty(tmp_path, s3):
    bucket = s3.new_bucket()
    code, result, _ = await preflight(tmp_path, s3.endpoint, bucket, s3.access_key_id, s3.secret_access_key)
    assert (code, result["ok"], list(result["steps"])) == (0, True, STEPS)
    store = S3Store.open(s3.endpoint, bucket=bucket, credentials=s3.credentials)
    assert [name async for page in store.list("") for name in page] == []
    await store.close()


async def test_a_bucket_is_made_where_that_is_wished_and_twice_is_as_good(tmp_path, s3):
    bucket = f"made-{time.time_ns()}"
    for _ in range(2):
        code, result, _ = await preflight(
            tmp_path, s3.endpoint, bucket, s3.access_key_id, s3.secret_access_key, make_bucket=True
        )
        assert (code, list(result["steps"])) == (0, ["bucket", *STEPS])


async def test_a_store_that_starts_beside_it_is_waited_for(tmp_path, s3):
    """Nobody there at first: then the port leads to the store."""
    (port,) = free_ports(1)
    host, _, real = s3.endpoint.removeprefix("http://").partition(":")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(real))
        await asyncio.gather(pour(reader, back), pour(there, writer), return_exceptions=True)

    async def pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(65_536):
            sink.write(piece)
            await sink.drain()
        sink.close()

    running = asyncio.create_task(
        preflight(
            tmp_path,
            f"http://127.0.0.1:{port}",
            f"late-{time.time_ns()}",
            s3.access_key_id,
            s3.secret_access_key,
            make_bucket=True,
        )
    )
    await asyncio.sleep(4)
    assert not running.done()
    server = await asyncio.start_server(forward, "127.0.0.1", port)
    code, result, _ = await running
    server.close()
    assert (code, list(result["steps"])) == (0, ["bucket", *STEPS]), result


@pytest.mark.parametrize("make_bucket", [False, True])
async def test_wrong_credentials_are_named_and_never_shown(tmp_path, s3, make_bucket):
    bucket = s3.new_bucket()
    code, result, said = await preflight(
        tmp_path, s3.endpoint, bucket, s3.access_key_id, SECRET, make_bucket=make_bucket
    )
    assert (code, result["reason"]) == (1, "CredentialsRefused")
    assert result["detail"] == "The object store does not let this server in."
    assert SECRET not in said
    assert s3.secret_access_key not in said


async def test_a_missing_bucket_is_named(tmp_path, s3):
    code, result, _ = await preflight(
        tmp_path, s3.endpoint, "nobody-made-this", s3.access_key_id, s3.secret_access_key
    )
    assert (code, result["step"], result["reason"]) == (1, "put", "BucketMissing")


async def test_nobody_there_is_named(tmp_path):
    (port,) = free_ports(1)
    code, result, _ = await preflight(tmp_path, f"http://127.0.0.1:{port}", "bucket", "key", SECRET)
    assert (code, result["step"], result["reason"]) == (1, "put", "Unreachable")


@pytest.mark.parametrize("make_bucket", [False, True])
async def test_an_endpoint_that_hangs_ends_within_its_bound(tmp_path, make_bucket):
    async with hanging() as endpoint:
        started = time.monotonic()
        code, result, said = await preflight(
            tmp_path, endpoint, "bucket", "key", SECRET, make_bucket=make_bucket, seconds=2
        )
        # A bucket that is to be made is waited for; then it is said what was wrong at last.
        assert (code, result["reason"]) in {(1, "TimedOut"), (1, "Unreachable")}
        assert SECRET not in said
        # The bound, cleaning up, and a slow machine's start of Python.
        assert time.monotonic() - started < 40


async def test_a_secret_without_its_keys_is_named(tmp_path):
    folder = tmp_path / "store"
    code, result, _ = await preflight(tmp_path, "http://127.0.0.1:1", "bucket", "key", SECRET)
    (folder / "access_key_id").unlink()
    (tmp_path / "settings.json").write_text(
        json.dumps(
            {
                "role": "preflight",
                "s3": {"endpoint": "http://127.0.0.1:1", "bucket": "b", "credentials_file": str(folder)},
                "result_file": str(tmp_path / "result"),
            }
        )
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "moorage_nodes.app",
        "preflight",
        "--settings",
        str(tmp_path / "settings.json"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    code = await process.wait()
    result = json.loads((tmp_path / "result").read_text())
    assert (code, result["reason"]) == (2, "BadSecret")
    assert "access_key_id" in result["detail"]


class Overwriting(MemoryObjects):
    """A store that does not know conditional writes."""

    async def put(self, name: str, data: Any) -> None:
        self._objects.pop(name, None)
        await super().put(name, data)


async def test_a_store_that_overwrites_is_unsuitable():
    checks = Preflight(Overwriting())
    await checks.put()
    with pytest.raises(UnsuitableStoreError, match="If-None-Match"):
        await checks.put_again()


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_store_behind_tls_is_known_by_the_authority_that_is_given(tmp_path, trusted):
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    ours, others = (
        found_pki(
            Subject("store", ("localhost",), (address,)),
            dt.datetime.now(dt.UTC),
            lambda: ec.generate_private_key(ec.SECP256R1()),
        )
        for _ in range(2)
    )
    (tmp_path / "public.crt").write_bytes(ours.leaves["server"].certificate)
    (tmp_path / "private.key").write_bytes(ours.leaves["server"].key)
    authority = tmp_path / "ca.crt"
    authority.write_bytes((ours if trusted else others).authorities["client"].bundle)
    with run_minio(tmp_path) as s3:
        code, result, _ = await preflight(
            tmp_path,
            s3.endpoint,
            "behind-tls",
            s3.access_key_id,
            s3.secret_access_key,
            make_bucket=trusted,
            ca_file=str(authority),
        )
    if trusted:
        assert (code, list(result["steps"])) == (0, ["bucket", *STEPS]), result
    else:
        assert (code, result["step"], result["reason"]) == (1, "put", "Unreachable")
