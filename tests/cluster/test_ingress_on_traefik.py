"""The Ingress before a real controller: Traefik, from TRAEFIK or PATH, reads it from a real API server.

No kubelet runs here, so the servers are stand-ins of the test's own that say who they are, and the EndpointSlices that
a cluster would write are written by the test.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from built_objects import build_all, build_realm
from real_servers.server import free_ports, scratch_folder

from moorage_operator.kube.kinds import ENDPOINT_SLICE, kind_of
from moorage_operator.resources.manifest import Manifest

PATIENCE = 60.0
TRAEFIK = os.environ.get("TRAEFIK") or shutil.which("traefik")

pytestmark = pytest.mark.skipif(TRAEFIK is None, reason="no Traefik: name its binary in TRAEFIK")


def own_address() -> str:
    """An address of this machine that is not loopback: an EndpointSlice may hold no other."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])


@contextlib.asynccontextmanager
async def stand_in(name: str, address: str) -> AsyncIterator[int]:
    """Answers every request with its own name and the path as it arrived."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = json.dumps([name, head.split()[1].decode()]).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(answer, address, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def endpoints_of(service: Manifest, namespace: str, address: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service.name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service.name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "public", "port": port, "protocol": "TCP"}],
    }


@contextlib.asynccontextmanager
async def traefik(api: Any, namespace: str) -> AsyncIterator[int]:
    (port,) = free_ports(1)
    provider = {
        "endpoint": api.url,
        "token": api.tokens["admin"],
        "certAuthFilePath": str(api.ca_file),
        "namespaces": [namespace],
        "strictPrefixMatching": True,
    }
    settings = {
        "entryPoints": {"web": {"address": f"127.0.0.1:{port}"}},
        "providers": {"kubernetesIngress": provider},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "ERROR"},
    }
    with scratch_folder("traefik") as folder:
        assert TRAEFIK is not None
        Path(folder, "traefik.yaml").write_text(yaml.safe_dump(settings))
        with Path(folder, "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                TRAEFIK, f"--configfile={folder}/traefik.yaml", cwd=folder, stdout=log, stderr=log
            )
        try:
            yield port
        finally:
            print(Path(folder, "log").read_text()[-3000:])
            process.kill()
            await process.wait()


async def ask(port: int, path: str, host: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body.decode()


async def test_every_path_reaches_its_server_and_nothing_else_reaches_any(api_server, namespace):
    realm = build_realm("ingress-default", namespace)
    address = own_address()
    async with contextlib.AsyncExitStack() as stack:
        for manifest in build_all(realm):
            if manifest.kind not in {"Service", "Ingress"}:
                continue
            path = kind_of(manifest.body).path(namespace, manifest.name)
            status, answer = api_server.request(
                "PATCH", f"{path}?fieldManager=moorage", manifest.body, "application/apply-patch+yaml"
            )
            assert status == 201, answer
            if manifest.kind == "Service" and manifest.body["spec"].get("clusterIP") != "None":
                port = await stack.enter_async_context(stand_in(manifest.name, address))
                body = endpoints_of(manifest, namespace, address, port)
                status, answer = api_server.request("POST", ENDPOINT_SLICE.path(namespace), body)
                assert status == 201, answer
        front = await stack.enter_async_context(traefik(api_server, namespace))
        host = "files.example.com"
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError, ValueError, IndexError):
                if (await ask(front, "/auth", host))[0] == 200:
                    break
            assert time.monotonic() < deadline, "Traefik does not serve the Ingress"
            await asyncio.sleep(0.2)
        for path, server in (
            ("/auth", "main-auth"),
            ("/auth/jwks.json", "main-auth"),
            ("/get_servers", "main-l1"),
            ("/meta/main/files/a/metadata", "main-l1"),
            ("/meta/main/l2/files/a/chunks?cursor=1", "main-l2"),
            ("/meta/main/l3/chunks/a/metadata", "main-l3"),
            ("/meta/main/list_directory/a%2Fb", "main-l1"),
            ("/block/main/chunks/sha256_ab", "main-block"),
            ("/notify/main/poll", "main-notify"),
            ("/ws", "main-notify"),
        ):
            status, body = await ask(front, path, host)
            assert (status, body) == (200, json.dumps([server, path])), path
        # What is no route of ours, and what is internal, is answered by nobody behind.
        for path in (
            "/",
            "/metrics",
            "/internal/locate",
            "/notify_deletion",
            "/meta/mainly/x",
            "/get_servers/x",
            "/block/other/x",
        ):
            assert (await ask(front, path, host))[0] == 404, path
        assert (await ask(front, "/auth", "elsewhere.example.com"))[0] == 404
