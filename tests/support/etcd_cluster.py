"""A managed etcd as pods would run it: `moorage-nodes etcd-member`, then etcd on what it wrote, TLS everywhere.

Members have addresses of their own on loopback, so that their ports are equal as in a cluster.
"""

import asyncio
import base64
import contextlib
import datetime as dt
import ipaddress
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from real_servers.server import free_ports, scratch_folder

from moorage_nodes.settings import Etcd
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.observer import NullObserver
from moorage_nodes.stores.opening import open_etcd
from moorage_operator.local.tools import ensure_etcd
from moorage_operator.resources.pki import Pki, Subject, found_pki
from moorage_operator.resources.pki_secrets import build_pki_secrets

PATIENCE = 90.0


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class EtcdCluster:
    """Members are `1`, `2`, `3`. `put_pki` changes the mounted files as the kubelet does."""

    def __init__(self, folder: Path, members: int, quota: int) -> None:
        self.folder = folder
        self.quota = quota
        self.members = [str(number + 1) for number in range(members)]
        self.client_port, self.peer_port, self.metrics_port = free_ports(3)
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        addresses = [x509.IPAddress(ipaddress.ip_address(self.host(member))) for member in self.members]
        self.subject = Subject("test etcd", ("localhost",), tuple(addresses))
        self.pki: Pki = found_pki(self.subject, dt.datetime.now(dt.UTC), new_key)
        self._swaps = 0
        self.put_pki(self.pki)
        self.put_founded(founded=False)
        for member in self.members:
            self._write_settings(member)

    def host(self, member: str) -> str:
        return f"127.0.37.{member}"

    def put_pki(self, pki: Pki) -> None:
        self.pki = pki
        self._swaps += 1
        for name, data in build_pki_secrets("x", pki).items():
            folder = self.folder / "tls" / name.removeprefix("x-etcd-").removesuffix("-tls")
            fresh = folder / f"..{self._swaps}"
            fresh.mkdir(parents=True)
            for file, text in data.items():
                (fresh / file).write_bytes(base64.b64decode(text))
                if not (folder / file).is_symlink():
                    (folder / file).symlink_to(f"..data/{file}")
            link = folder / "..link"
            link.symlink_to(fresh.name)
            link.replace(folder / "..data")

    def put_founded(self, *, founded: bool) -> None:
        (self.folder / "founded").write_text("true" if founded else "false")

    def data(self, member: str) -> Path:
        return self.folder / f"data-{member}"

    def _conf(self, member: str) -> Path:
        return self.folder / f"etcd-{member}.json"

    def _write_settings(self, member: str) -> None:
        settings = {
            "role": "etcd-member",
            "token": "test",
            "members": self.members,
            "host": "127.0.37.{member}",
            "client_port": self.client_port,
            "peer_port": self.peer_port,
            "metrics_url": f"http://{self.host(member)}:{self.metrics_port}",
            "listen_host": self.host(member),
            "data_dir": str(self.data(member)),
            "conf_file": str(self._conf(member)),
            "state_file": str(self.folder / "founded"),
            "tls": {name: str(self.folder / "tls" / name) for name in ("server", "peer", "client")},
            "quota_bytes": self.quota,
        }
        (self.folder / f"settings-{member}.json").write_text(json.dumps(settings))

    async def prepare(self, member: str) -> asyncio.subprocess.Process:
        """The init container, started."""
        self._conf(member).unlink(missing_ok=True)
        command = (sys.executable, "-m", "moorage_nodes.app", "etcd-member", "--settings")
        with (self.folder / f"log-{member}").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                str(self.folder / f"settings-{member}.json"),
                env={**os.environ, "POD_NAME": member},
                stdout=log,
                stderr=log,
            )

    async def start(self, member: str) -> None:
        """The pod: the init container to its end, then etcd. Does not wait until etcd is ready."""
        prepared = await self.prepare(member)
        assert await prepared.wait() == 0, self.log(member)
        with (self.folder / f"log-{member}").open("ab") as log:
            self.processes[member] = await asyncio.create_subprocess_exec(
                str(await asyncio.to_thread(ensure_etcd, print)),
                f"--config-file={self._conf(member)}",
                stdout=log,
                stderr=log,
            )

    def log(self, member: str) -> str:
        return (self.folder / f"log-{member}").read_text()[-3000:]

    async def ready(self, member: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not await self._is_ready(member):
            ended = self.processes[member].returncode
            assert ended is None, (ended, self.log(member))
            assert time.monotonic() < deadline, self.log(member)
            await asyncio.sleep(0.1)

    async def _is_ready(self, member: str) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(self.host(member), self.metrics_port)
                writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
                return b" 200 " in answer.partition(b"\r\n")[0]
        return False

    async def start_all(self) -> None:
        await asyncio.gather(*(self.start(member) for member in self.members))
        await asyncio.gather(*(self.ready(member) for member in self.members))

    async def stop(self, member: str) -> None:
        """As the kubelet does: SIGTERM, then wait."""
        process = self.processes.pop(member)
        process.terminate()
        await process.wait()

    async def kill(self, member: str) -> None:
        process = self.processes.pop(member)
        process.kill()
        await process.wait()

    def lose(self, member: str) -> None:
        """The volume is gone."""
        shutil.rmtree(self.data(member))

    def settings(self) -> Etcd:
        client = self.folder / "tls" / "client"
        return Etcd(
            endpoints=tuple(f"https://{self.host(member)}:{self.client_port}" for member in self.members),
            prefix="/test/",
            ca_file=str(client / "ca.crt"),
            cert_file=str(client / "tls.crt"),
            key_file=str(client / "tls.key"),
        )

    def open_store(self) -> EtcdStore:
        return open_etcd(self.settings(), NullObserver())


@contextlib.asynccontextmanager
async def etcd_cluster(members: int = 3, quota: int = 1024**3) -> AsyncIterator[EtcdCluster]:
    with scratch_folder("etcd-cluster") as folder:
        cluster = EtcdCluster(folder, members, quota)
        try:
            yield cluster
        finally:
            for member in list(cluster.processes):
                await cluster.kill(member)
