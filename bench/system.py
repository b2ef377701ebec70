"""What is measured: a whole `moorage up`, extra NGINX fronts made by the same builder, and plain servers beside it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.core.routing import parse_routing_table
from moorage_operator.local.tools import ensure_nginx
from moorage_operator.naming import AUTH, block_service, notify_service, tier_service
from moorage_operator.proxy import ProxySettings, build_nginx_conf

REPOSITORY = Path(__file__).resolve().parents[1]
KEY = POOL = "main"
L1, L2, BLOCK = tier_service("l1", KEY), tier_service("l2", KEY), block_service(POOL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one: these machines' disks are slower and noisier than what we measure."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="moorage-bench-", dir=shm if shm.is_dir() else None) as folder:
        yield Path(folder)


@contextlib.contextmanager
def child(argv: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, **options)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{url} did not come up:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


@dataclass(frozen=True)
class System:
    """A running `moorage up` with its data in `folder`."""

    folder: Path
    port: int
    settings: Mapping[str, dict[str, Any]]

    def public(self, replica: str) -> str:
        return f"127.0.0.1:{self.settings[replica]['listen']['public']}"

    def pid(self, replica: str) -> int:
        """The process that was started with the replica's settings file."""
        file = str(self.folder / "run" / f"{replica}.json").encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and file in (entry / "cmdline").read_bytes().split(b"\0"):
                    return int(entry.name)
        raise RuntimeError(f"no process of {replica}")

    def ask(
        self, method: str, path: str, body: object = None, *, token: str | None = None, admin: bool = False
    ) -> Any:
        headers = {"Content-Type": "application/json"}
        if admin:
            line = (self.folder / "admin.header").read_text().strip()
            headers["Authorization"] = line.partition(": ")[2]
        elif token is not None:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, headers=headers, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def user(self, name: str) -> str:
        """A new user's access token."""
        self.ask("PUT", f"/auth/users/{name}", {"password": "correct horse"}, admin=True)
        token: str = self.ask("POST", "/auth", {"username": name, "password": "correct horse"})["token"]
        return token


@contextlib.contextmanager
def moorage() -> Iterator[System]:
    """`moorage up` on a free port, on the engine that PATH decides."""
    with scratch() as folder:
        data, log, port = folder / "data", folder / "up.log", free_port()
        argv = [sys.executable, "-m", "moorage.cli.main"]
        command = REPOSITORY / ".venv/bin/moorage"
        if command.exists():
            argv = [str(command)]
        argv += ["up", "-f", str(REPOSITORY / "examples/quickstart.yaml"), "--data", str(data)]
        argv += ["--port", str(port), "--json"]
        with child(argv, log) as process:
            deadline = time.monotonic() + 300
            while not (data / "connection.json").exists() or b'"ready"' not in log.read_bytes():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"`moorage up` did not get ready:\n{log.read_text()[-3000:]}")
                time.sleep(0.05)
            settings = {
                path.stem: json.loads(path.read_text())
                for path in (data / "run").glob("*.json")
                if "role" in json.loads(path.read_text())
            }
            yield System(data, port, settings)


@contextlib.contextmanager
def front(system: System, replaced: Mapping[str, Sequence[str]]) -> Iterator[int]:
    """Another NGINX with the same configuration but for the servers of some services; its port."""
    upstreams: dict[str, list[str]] = {}
    for service in (AUTH, L1, L2, tier_service("l3", KEY), BLOCK, notify_service("main")):
        upstreams[service] = [system.public(f"{service}-{n}") for n in range(2)]
    upstreams |= {service: list(servers) for service, servers in replaced.items()}
    with scratch() as folder:
        folder.chmod(0o755)
        port = free_port()
        user = "root" if os.geteuid() == 0 else None
        settings = ProxySettings((f"127.0.0.1:{port}",), str(folder), workers=1, user=user)
        table = parse_routing_table((system.folder / "run/routing.json").read_bytes())
        conf = folder / "nginx.conf"
        conf.write_text(build_nginx_conf(table, upstreams, settings))
        log = folder / "nginx.log"
        argv = [str(ensure_nginx(print)), "-e", "stderr", "-p", str(folder), "-c", str(conf)]
        with child(argv, log) as process:
            wait_for(f"http://127.0.0.1:{port}/get_servers", process, log)
            yield port


@contextlib.contextmanager
def plain_server(*arguments: str) -> Iterator[int]:
    """bench/plain.py: FastAPI routes that do nothing; its port."""
    with scratch() as folder:
        port, log = free_port(), folder / "plain.log"
        argv = [sys.executable, str(REPOSITORY / "bench/plain.py"), str(port), *arguments]
        with child(argv, log) as process:
            wait_for(f"http://127.0.0.1:{port}/nothing", process, log)
            yield port


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no RSS of {pid}")


def have(command: str) -> bool:
    return shutil.which(command) is not None
