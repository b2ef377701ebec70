"""A real NGINX in front of servers that tell what reached them."""

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from real_servers.server import free_ports

from moorage.core.routing import ClusterRoute, RoutingTable
from moorage_operator.local.tools import ensure_nginx
from moorage_operator.proxy import ProxySettings, build_nginx_conf, build_routes

TABLE = RoutingTable(
    revision=1,
    hosts=("127.0.0.1",),
    clusters=(ClusterRoute(server_key="main", pools=("main",), write_pools=("main",)),),
)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Upstream:
    """One server of a service: `seen` are request heads as they arrived; `bytes_seen` counts body bytes."""

    service: str
    number: int
    port: int
    seen: list[bytes] = field(default_factory=list)
    bytes_seen: int = 0
    answer: bytes = b"ok"
    server: asyncio.Server | None = None
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            for writer in self.writers:
                writer.transport.abort()
            await self.server.wait_closed()
            self.server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.seen.append(head)
                lengths = [
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ]
                left = lengths[0] if lengths else 0
                while left:
                    data = await reader.read(min(left, 65536))
                    if not data:
                        return
                    left -= len(data)
                    self.bytes_seen += len(data)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nX-Server: %d\r\nContent-Length: %d\r\n\r\n"
                    % (self.number, len(self.answer))
                    + self.answer
                )
                await writer.drain()
        self.writers.discard(writer)
        writer.close()


@dataclass
class Proxy:
    port: int
    directory: Path
    upstreams: dict[str, list[Upstream]]

    def all(self) -> list[Upstream]:
        return [upstream for servers in self.upstreams.values() for upstream in servers]

    def heads(self) -> list[bytes]:
        """Request heads that reached any server."""
        return [head for upstream in self.all() for head in upstream.seen]

    async def send(self, data: bytes) -> Answer:
        """Raw bytes in, one answer out; the connection is closed afterwards."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            return await read_answer(reader)
        finally:
            writer.close()

    async def get(self, target: str, *headers: str) -> Answer:
        lines = [f"GET {target} HTTP/1.1", "Host: files.example.com:1234", *headers, "Connection: close"]
        return await self.send("\r\n".join([*lines, "", ""]).encode())

    async def post(self, target: str, body: bytes, *headers: str) -> Answer:
        lines = [f"POST {target} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers]
        return await self.send("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        length = headers.get("content-length")
        body = await (reader.readexactly(int(length)) if length else reader.read())
    return Answer(int(head[0].split()[1]), headers, body)


def services() -> list[str]:
    return sorted({service for route in build_routes(TABLE) for service in route.services})


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    names = services()
    port, *ports = free_ports(1 + 2 * len(names))
    upstreams = {
        name: [Upstream(name, n, ports[2 * place + n]) for n in (0, 1)] for place, name in enumerate(names)
    }
    settings = ProxySettings(
        (f"127.0.0.1:{port}",), str(tmp_path), user="root" if os.geteuid() == 0 else None
    )
    addresses = {name: [f"127.0.0.1:{u.port}" for u in servers] for name, servers in upstreams.items()}
    conf = tmp_path / "nginx.conf"
    conf.write_text(build_nginx_conf(TABLE, addresses, settings))
    running = Proxy(port, tmp_path, upstreams)
    for upstream in running.all():
        await upstream.start()
    with (tmp_path / "nginx.log").open("wb") as log:
        nginx = subprocess.Popen(
            [ensure_nginx(print), "-e", "stderr", "-p", tmp_path, "-c", conf], stderr=log, stdout=log
        )
    try:
        await until(lambda: accepts(port))
        yield running
    finally:
        nginx.terminate()
        nginx.wait(10)
        for upstream in running.all():
            await upstream.stop()


async def accepts(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.02)
