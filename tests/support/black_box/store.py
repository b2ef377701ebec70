"""The store under test: one that is given by its address, or one that is started here as a person starts it."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from black_box.http_client import Http, PatientHttp, Server
from black_box.processes import Process, descendants, matching, wait_until

REPOSITORY = Path(__file__).resolve().parents[3]
QUICKSTART = REPOSITORY / "examples" / "quickstart.yaml"
START_SECONDS = 240
"""Warm it is ready in a few seconds; the first start on a machine may build etcd."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def build_environment(minio: Path | None) -> dict[str, str]:
    """What a person's shell would have; `minio` decides the S3 engine by being on PATH or not."""
    folders = [
        folder
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)
        if shutil.which("minio", path=folder) is None
    ]
    if minio is not None:
        folders.insert(0, str(minio.parent))
    kept = {
        name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "XDG_CACHE_HOME") if name in os.environ
    }
    return {**kept, "PATH": os.pathsep.join(folders)}


class Store:
    """What clients and the admin see of a store: its address."""

    def __init__(self, url: str, http: Http | None = None) -> None:
        self.url = url
        self.http = http or Http()

    @property
    def admin_token(self) -> str:
        raise NotImplementedError

    def front(self, token: str | None = None) -> Server:
        """The host's root, through NGINX."""
        return Server(self.http, self.url, token)

    def admin(self) -> Server:
        return self.front(self.admin_token)


class GivenStore(Store):
    """One that runs somewhere, say in a cluster, where 503 may come at any time: its clients are patient.

    The file is read for each use: the token may be replaced.
    """

    def __init__(self, url: str, admin_token_file: Path) -> None:
        super().__init__(url, PatientHttp())
        self._admin_token_file = admin_token_file

    @property
    def admin_token(self) -> str:
        return self._admin_token_file.read_text().strip()


class RunningStore(Store):
    """`moorage up` with real NGINX, etcd and S3 in a folder of its own.

    `start`, `stop` and `kill` act on the `moorage up` process; data, port and URL stay the same. `up`: another
    command in its place.
    """

    def __init__(
        self,
        data: Path,
        *,
        minio: Path | None = None,
        manifest: Path = QUICKSTART,
        port: int | None = None,
        up: Sequence[str | Path] = (),
    ) -> None:
        self.data = data
        self.manifest = manifest
        self.port = port or free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.said = data.with_name(data.name + ".out")
        self._command = up or (Path(sys.executable).with_name("moorage"), "up")
        self._environment = build_environment(minio)
        self._up: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command: list[str | Path] = [
            *self._command,
            "-f",
            self.manifest,
            "--data",
            self.data,
        ]
        already_said = self.said.stat().st_size if self.said.exists() else 0
        with self.said.open("ab") as out:
            self._up = subprocess.Popen(
                [*command, "--port", str(self.port), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        ready = re.compile(rf"ready.*{re.escape(self.url)}|{re.escape(self.url)}.*ready")
        while not ready.search(self.said.read_bytes()[already_said:].decode(errors="replace")):
            if self._up.poll() is not None or time.monotonic() > deadline:
                said = self.said.read_text(errors="replace")[-3000:]
                self.end()
                raise AssertionError(f"`moorage up` did not get ready; it said:\n{said}")
            time.sleep(0.05)

    def processes(self, pattern: str = "") -> list[Process]:
        """The tree below `moorage up`, itself included, whose command line matches."""
        assert self._up is not None, "the store was not started"
        return matching(descendants(self._up.pid), pattern)

    def servers(self, role: str) -> list[Process]:
        """The replicas of one of our servers; the leaf processes that serve."""
        return self.processes(rf"moorage-nodes {role}\b")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Ask it to end; the seconds until every process was gone. AssertionError if one stays."""
        tree = self.processes()
        began = time.monotonic()
        assert self._up is not None
        self._up.send_signal(how)
        self._up.wait(20)
        took = time.monotonic() - began
        self._up = None
        left = [process for process in tree if process.is_alive()]
        for process in left:
            process.signal(signal.SIGKILL)
        assert not left, f"left behind: {left}"
        return took

    def kill(self, *, children: bool) -> list[Process]:
        """`kill -9` of `up`, alone or with all it started; returns what it had started."""
        tree = self.processes()
        assert self._up is not None
        for process in tree if children else tree[:1]:
            process.signal(signal.SIGKILL)
        self._up.wait(20)
        self._up = None
        return tree[1:]

    def end(self) -> None:
        """Stop it if it runs, whatever its state."""
        self.http.close()
        if self._up is None:
            return
        tree = self.processes()
        for process in tree:
            process.signal(signal.SIGCONT)
        if self._up.poll() is None:
            self._up.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._up.wait(20)
        for process in tree:
            process.signal(signal.SIGKILL)
        self._up.wait(20)
        self._up = None

    @property
    def admin_token(self) -> str:
        token: str = self.connection()["admin_token"]
        return token

    def connection(self) -> dict[str, Any]:
        connection: dict[str, Any] = json.loads((self.data / "connection.json").read_text())
        return connection

    def settings(self, role: str) -> list[dict[str, Any]]:
        """The settings files of a role's replicas: `listen` says on which ports they can be asked directly."""
        found = [value for value in self._json_files() if value.get("role") == role and "listen" in value]
        assert found, f"no settings file of role {role} below {self.data}"
        return found

    def _json_files(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self.data.rglob("*.json")):
            with contextlib.suppress(OSError, ValueError):
                value = json.loads(path.read_bytes())
                if isinstance(value, dict):
                    yield value

    def direct(self, role: str, plane: str, replica: int = 0) -> Server:
        """One replica's `public` or `internal` port, past NGINX."""
        listen = self.settings(role)[replica]["listen"]
        return Server(self.http, f"http://{listen['host']}:{listen[plane]}")

    def wait_ready(self, seconds: float = 30) -> None:
        """Until every replica of every server says that it is ready."""
        roles = ("auth", "l1", "l2", "l3", "block", "notify")
        ports = [(role, number) for role in roles for number in range(len(self.settings(role)))]

        def all_ready() -> bool:
            with contextlib.suppress(OSError, self.http.Failure):
                return all(
                    self.direct(role, "internal", number).get("/readyz").status_code == 200
                    for role, number in ports
                )
            return False

        wait_until(all_ready, seconds, "every replica is ready", step=0.2)
