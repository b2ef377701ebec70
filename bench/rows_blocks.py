"""Rows of the block servers: raw chunks beside the same S3, base64 beside decoding alone, memory under streams."""

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import obstore
from cpu import Meter
from load import build_request, drain, drive, expect_status
from measure import Row, Sample, bound, side_by_side
from obstore.store import S3Store
from rows_http import META, User, stream_of, timed
from system import BLOCK, System, front, rss_mib

from moorage.core.wire import StoreChunk

CHUNK = 4 * 1024 * 1024
CONNECTIONS = 4
EACH = 6
BLOCKS = "/block/main"

_bytes = os.urandom(CHUNK)
_numbers = itertools.count()


def fresh_chunk() -> tuple[bytes, str]:
    """4 MiB that no store has seen yet, and their hash."""
    data = next(_numbers).to_bytes(8, "big") + _bytes[8:]
    return data, "sha256_" + hashlib.sha256(data).hexdigest()


def open_upload(system: System, user: User, file_id: str) -> str:
    answer = system.ask("POST", f"{META}/files/{file_id}/update", {"client_version": 0}, token=user.token)
    token: str = answer["upload_token"]
    return token


def direct_store(system: System) -> S3Store:
    s3 = system.settings[f"{BLOCK}-0"]["s3"]
    keys = json.loads(Path(s3["credentials_file"]).read_text())
    return S3Store(
        s3["bucket"],
        endpoint=s3["endpoint"],
        region=s3["region"],
        access_key_id=keys["access_key_id"],
        secret_access_key=keys["secret_access_key"],
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )


def presigned(store: S3Store, method: str, name: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The port of the S3 server, and a request that it accepts as it stands."""
    url = urlsplit(obstore.sign(store, method, name, timedelta(hours=1)))
    request = build_request(method, f"{url.path}?{url.query}", host=url.netloc, body=body)
    assert url.port is not None
    return url.port, request.replace(b"Content-Type: application/json\r\n", b"", 1)


def split(requests: list[bytes]) -> list[list[bytes]]:
    return [requests[n::CONNECTIONS] for n in range(CONNECTIONS)]


async def raw_rows(system: System, user: User) -> list[Row]:
    store = direct_store(system)
    token = open_upload(system, user, "raw")
    with front(system, {BLOCK: [system.public(f"{BLOCK}-0")]}) as port:
        ours_stored: list[str] = []
        theirs_stored: list[str] = []

        async def put_ours(_: int) -> Sample:
            requests = []
            for _ in range(CONNECTIONS * EACH):
                data, digest = fresh_chunk()
                ours_stored.append(digest)
                requests.append(
                    build_request(
                        "PUT", f"{BLOCKS}/chunks/{digest}", host="127.0.0.1", token=token, body=data
                    )
                )
            return await timed(port, [stream_of(own) for own in split(requests)])

        async def put_theirs(_: int) -> Sample:
            requests = []
            for _ in range(CONNECTIONS * EACH):
                data, digest = fresh_chunk()
                theirs_stored.append(f"direct/{digest}")
                s3_port, request = presigned(store, "PUT", theirs_stored[-1], data)
                requests.append(request)
            return await timed(s3_port, [stream_of(own) for own in split(requests)])

        put = await side_by_side(
            "PUT raw chunk of 4 MiB through NGINX and a block server",
            "the same S3 directly (presigned)",
            put_ours,
            put_theirs,
            reach=0.8,
        )
        chosen = slice(-CONNECTIONS * EACH, None)
        for digest in ours_stored[chosen]:
            assert digest
        await commit_chunks(system, user, token, "raw", ours_stored[chosen])

        async def get_ours(_: int) -> Sample:
            requests = [user.request("GET", f"{BLOCKS}/chunks/{digest}") for digest in ours_stored[chosen]]
            return await timed(port, [stream_of(own) for own in split(requests)])

        async def get_theirs(_: int) -> Sample:
            signed = [presigned(store, "GET", name) for name in theirs_stored[chosen]]
            requests = [request for _, request in signed]
            return await timed(signed[0][0], [stream_of(own) for own in split(requests)])

        get = await side_by_side(
            "GET raw chunk of 4 MiB through NGINX and a block server",
            "the same S3 directly (presigned)",
            get_ours,
            get_theirs,
            reach=0.8,
        )
    return [put, get]


async def commit_chunks(system: System, user: User, token: str, file_id: str, chunks: list[str]) -> None:
    body = {"upload_token": token, "new_version": 1, "chunks": chunks}
    await asyncio.to_thread(system.ask, "POST", f"{META}/files/{file_id}/commit", body, token=user.token)


async def base64_row(system: System, user: User) -> Row:
    token = open_upload(system, user, "base64")
    decoder = msgspec.json.Decoder(list[StoreChunk])

    def build_body() -> bytes:
        data, digest = fresh_chunk()
        text = base64.b64encode(data).decode()
        return json.dumps([{"chunk_id": digest, "metadata": {"hash": digest}, "data": text}]).encode()

    with front(system, {BLOCK: [system.public(f"{BLOCK}-0")]}) as port:

        async def ours(_: int) -> Sample:
            requests = [
                build_request(
                    "POST", f"{BLOCKS}/store_chunk", host="127.0.0.1", token=token, body=build_body()
                )
                for _ in range(CONNECTIONS * EACH)
            ]
            return await timed(port, [stream_of(own) for own in split(requests)])

        async def theirs(_: int) -> Sample:
            bodies = [build_body() for _ in range(CONNECTIONS * EACH)]
            with Meter(itself=True) as meter:
                for body in bodies:
                    for chunk in decoder.decode(body):
                        hashlib.sha256(chunk.data).hexdigest()
            return meter.sample(len(bodies))

        return await side_by_side(
            "store_chunk, base64 of 4 MiB",
            "msgspec decode + SHA-256 alone, one thread",
            ours,
            theirs,
            reach=0.6,
        )


@contextlib.asynccontextmanager
async def watching_rss(pids: list[int]) -> AsyncIterator[dict[int, float]]:
    """The highest RSS of each process meanwhile, in MiB, looked at ten times a second."""
    highest = {pid: rss_mib(pid) for pid in pids}

    async def watch() -> None:
        while True:
            for pid in pids:
                highest[pid] = max(highest[pid], rss_mib(pid))
            await asyncio.sleep(0.1)

    task = asyncio.create_task(watch())
    try:
        yield highest
    finally:
        task.cancel()


async def streaming_memory_row(system: System, user: User) -> Row:
    """16 files of 1 GiB (each 256 times one chunk of 4 MiB) streamed at once through one block server."""
    data, digest = fresh_chunk()
    entries = [{"hash": digest, "size": len(data)}] * 256
    token = ""
    with front(system, {BLOCK: [system.public(f"{BLOCK}-0")]}) as port:
        for n in range(16):
            body = {"client_version": 0, "chunks": entries}
            token = system.ask("POST", f"{META}/files/gib-{n}/update", body, token=user.token)["upload_token"]
            if n == 0:
                put = build_request(
                    "PUT", f"{BLOCKS}/chunks/{digest}", host="127.0.0.1", token=token, body=data
                )
                expect_status(await drive(port, [stream_of([put])]))
            commit = {"upload_token": token, "new_version": 1}
            system.ask("POST", f"{META}/files/gib-{n}/commit", commit, token=user.token)
        requests = [user.request("GET", f"{BLOCKS}/files/gib-{n}/content") for n in range(16)]
        pid = system.pid(f"{BLOCK}-0")
        started = time.perf_counter()
        async with watching_rss([pid]) as highest:
            received = await drain(port, requests)
        seconds = time.perf_counter() - started
        assert received >= 16 * 1024**3
    rate = received / seconds / 1024**2
    return bound(
        f"RSS of a block server streaming 16 × 1 GiB at once ({rate:.0f} MiB/s)", highest[pid], 200, "MiB"
    )


def idle_memory_rows(system: System) -> Iterator[Row]:
    """The largest process of each role, before it served anything."""
    roles: dict[str, float] = {}
    for replica, settings in system.settings.items():
        if "listen" not in settings:
            continue  # what runs now and then is not idle between
        role = settings["role"]
        roles[role] = max(roles.get(role, 0), rss_mib(system.pid(replica)))
    for role, size in sorted(roles.items()):
        yield bound(f"RSS of an idle {role} server", size, 80, "MiB")
