"""`moorage-nodes proxy` as a process over a real NGINX: reloads under load, bad input, certificates, the drain."""

import asyncio
import contextlib
import datetime as dt
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from real_servers.server import free_ports, scratch_folder

from moorage.core.routing import ClusterRoute, RoutingTable
from moorage_operator.local.tools import ensure_nginx
from moorage_operator.proxy import ProxySettings, build_nginx_conf, build_routes

PATIENCE = 60.0
PIECES, PIECE = 40, b"x" * 1024


@dataclass
class Proxy:
    """The process and what it is told. `put` writes the configuration as a mounted volume changes: by a rename."""

    folder: Path
    upstream: int
    public: int
    internal: int
    status: int
    tls: bool = False
    process: asyncio.subprocess.Process | None = None
    settings: Path = field(init=False)

    def __post_init__(self) -> None:
        self.settings = self.folder / "settings.json"
        tls = {
            "cert_file": str(self.folder / "mounted" / "tls.crt"),
            "key_file": str(self.folder / "mounted" / "tls.key"),
            "folder": str(self.folder / "tls"),
        }
        settings = {
            "role": "proxy",
            "listen": {"host": "127.0.0.1", "internal": self.internal, "status": self.status},
            "conf_file": str(self.folder / "mounted.conf"),
            "directory": str(self.folder / "run"),
            "nginx": str(ensure_nginx(print)),
            "drain_seconds": 0.5,
            "finish_seconds": 20,
        }
        self.settings.write_text(json.dumps({**settings, **({"tls": tls} if self.tls else {})}))

    def conf(self, revision: int, host: str = "127.0.0.1") -> str:
        table = RoutingTable(
            revision=revision,
            hosts=("127.0.0.1",),
            clusters=(ClusterRoute(server_key="main", pools=("main",), write_pools=("main",)),),
        )
        upstreams = {
            s: [f"{host}:{self.upstream}"] * 2 for route in build_routes(table) for s in route.services
        }
        settings = ProxySettings(
            (f"127.0.0.1:{self.public}",),
            str(self.folder / "run"),
            user="root" if os.geteuid() == 0 else None,
            tls_folder=str(self.folder / "tls") if self.tls else None,
            status=f"127.0.0.1:{self.status}",
            shutdown_seconds=60,
        )
        return build_nginx_conf(table, upstreams, settings)

    def put(self, text: str) -> None:
        beside = self.folder / "beside.conf"
        beside.write_text(text)
        beside.replace(self.folder / "mounted.conf")

    async def start(self) -> None:
        command = (sys.executable, "-m", "moorage_nodes.app", "proxy", "--settings", str(self.settings))
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

    async def probe(self, path: str = "/readyz") -> tuple[int, str]:
        try:
            return await ask(self.internal, path)
        except OSError:
            return 0, ""

    async def serves(self, revision: int) -> dict:
        deadline = time.monotonic() + PATIENCE
        while True:
            status, body = await self.probe()
            if status == 200 and json.loads(body)["routing_revision"] == revision:
                return json.loads(body)
            assert time.monotonic() < deadline, (status, body, (self.folder / "log").read_text()[-2000:])
            await asyncio.sleep(0.05)

    async def fails(self, word: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            status, body = await self.probe()
            if status and word in (json.loads(body)["failure"] or ""):
                return
            assert time.monotonic() < deadline, (status, body)
            await asyncio.sleep(0.05)


async def ask(port: int, path: str, tls: ssl.SSLContext | None = None) -> tuple[int, str]:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head, "the connection was closed without an answer"
        return int(head.split()[1]), body.decode()
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An upstream: `/block/…/slow` gives its bytes over 4 s, everything else answers at once."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"/slow" in head:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (PIECES * len(PIECE)))
                for _ in range(PIECES):
                    writer.write(PIECE)
                    await writer.drain()
                    await asyncio.sleep(0.1)
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    writer.close()


@contextlib.asynccontextmanager
async def running(*, tls: bool = False, ready: bool = True) -> AsyncIterator[Proxy]:
    upstream, public, internal, status = free_ports(4)
    server = await asyncio.start_server(answer, "127.0.0.1", upstream)
    with scratch_folder("proxy") as folder:
        proxy = Proxy(folder, upstream, public, internal, status, tls)
        if tls:
            put_certificate(folder, "one")
        proxy.put(proxy.conf(1))
        await proxy.start()
        try:
            if ready:
                await proxy.serves(1)
            yield proxy
        finally:
            if proxy.process is not None and proxy.process.returncode is None:
                proxy.process.kill()
                await proxy.process.wait()
            server.close()
            server.close_clients() if hasattr(server, "close_clients") else None


def put_certificate(folder: Path, name: str, *, broken: bool = False) -> None:
    """A self-signed certificate as a mounted Secret has it: `..data` is a link that is swapped."""
    key = ec.generate_private_key(ec.SECP256R1())
    other = ec.generate_private_key(ec.SECP256R1()) if broken else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    fresh = folder / "mounted" / f"..{name}"
    fresh.mkdir(parents=True)
    (fresh / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (fresh / "tls.key").write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    link = folder / "mounted" / "..link"
    link.symlink_to(fresh.name)
    link.replace(folder / "mounted" / "..data")
    for file in ("tls.crt", "tls.key"):
        place = folder / "mounted" / file
        if not place.is_symlink():
            place.symlink_to(f"..data/{file}")


async def shown_name(port: int) -> str:
    """Whom the certificate that is shown names."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    (name,) = x509.load_der_x509_certificate(shown).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


async def test_reloads_under_load_drop_no_request():
    async with running() as proxy:
        stop = asyncio.Event()
        answers: list[int] = []

        async def load(path: str) -> None:
            while not stop.is_set():
                status, body = await ask(proxy.public, path)
                assert (status, body) == (200, "ok")
                answers.append(status)

        clients = [
            asyncio.create_task(load(path)) for path in ("/auth/x", "/meta/main/x", "/block/main/x") * 3
        ]
        slow = asyncio.create_task(ask(proxy.public, "/block/main/slow"))
        for revision in range(2, 8):
            proxy.put(proxy.conf(revision))
            await proxy.serves(revision)
        stop.set()
        await asyncio.gather(*clients)
        status, body = await slow
        assert (status, len(body)) == (200, PIECES * len(PIECE))
        assert len(answers) > 100
        _, metrics = await proxy.probe("/metrics")
        assert "moorage_proxy_reloads_total 6" in metrics
        assert "moorage_proxy_routing_revision 7" in metrics


async def test_a_bad_configuration_is_refused_and_the_old_one_serves_on():
    async with running() as proxy:
        proxy.put(proxy.conf(2).replace("server_name _;", "server_nome _;"))
        await proxy.fails("server_nome")
        assert (await proxy.serves(1))["ready"]
        assert await ask(proxy.public, "/auth/x") == (200, "ok")
        assert "moorage_proxy_configuration_refused 1" in (await proxy.probe("/metrics"))[1]
        proxy.put(proxy.conf(3))
        assert (await proxy.serves(3))["failure"] is None


async def test_a_name_that_is_not_found_is_tried_again_until_it_is():
    async with running(ready=False) as proxy:
        proxy.put(proxy.conf(1, host="nothing-here.invalid"))
        await proxy.fails("host not found")
        assert (await proxy.probe("/healthz"))[0] == 200
        assert (await proxy.probe())[0] == 503
        proxy.put(proxy.conf(2, host="localhost"))
        await proxy.serves(2)
        assert await ask(proxy.public, "/auth/x") == (200, "ok")


async def test_a_certificate_is_replaced_while_serving_and_a_bad_one_is_not_taken():
    async with running(tls=True) as proxy:
        assert await shown_name(proxy.public) == "one"
        put_certificate(proxy.folder, "two")
        deadline = time.monotonic() + PATIENCE
        while await shown_name(proxy.public) != "two":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        put_certificate(proxy.folder, "three", broken=True)
        await proxy.fails("tls.key")
        # Routes go on changing while the certificate is bad.
        proxy.put(proxy.conf(2))
        assert (await proxy.serves(2))["failure"] is not None
        assert await shown_name(proxy.public) == "two"
        log = (proxy.folder / "log").read_text()
        assert "PRIVATE KEY" not in log


async def test_sigterm_drains_what_is_in_flight():
    async with running() as proxy:
        slow = asyncio.create_task(ask(proxy.public, "/block/main/slow"))
        await asyncio.sleep(0.5)
        assert proxy.process is not None
        proxy.process.send_signal(signal.SIGTERM)
        status, body = await slow
        assert (status, len(body)) == (200, PIECES * len(PIECE))
        assert await proxy.process.wait() == 0
        with pytest.raises(OSError):
            await ask(proxy.public, "/auth/x")


async def test_nginx_that_dies_ends_the_process():
    async with running() as proxy:
        master = int((proxy.folder / "run" / "nginx.pid").read_text())
        workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        os.kill(master, signal.SIGKILL)
        try:
            assert proxy.process is not None
            assert await asyncio.wait_for(proxy.process.wait(), PATIENCE) == 1
        finally:
            # Nobody's children now: a container's end would take them along.
            for worker in workers:
                os.kill(int(worker), signal.SIGKILL)


async def test_it_starts_over_on_what_a_killed_one_left():
    async with running() as proxy:
        assert proxy.process is not None
        proxy.process.kill()
        await proxy.process.wait()
        deadline = time.monotonic() + PATIENCE
        while await reachable(proxy.public):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        await proxy.start()
        await proxy.serves(1)


async def reachable(port: int) -> bool:
    try:
        await ask(port, "/auth/x")
    except (OSError, AssertionError):
        return False
    return True
