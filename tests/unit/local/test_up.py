"""`moorage up` with real etcd, S3 and NGINX: what it leaves behind, and what the next one finds."""

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from black_box.processes import Process, all_processes, descendants, matching
from black_box.store import build_environment
from real_servers.server import free_ports, scratch_folder

from minio import Minio
from moorage_operator.local import run
from moorage_operator.local.datadir import DataDir
from moorage_operator.local.failure import UpError
from moorage_operator.local.ports import is_free_on_loopback
from moorage_operator.local.processes import Tools
from moorage_operator.local.report import LineReport
from moorage_operator.local.tools import ensure_minio

SUPPORT = Path(__file__).parents[2] / "support"


class Up:
    """`moorage up` on a data directory, with stand-ins in place of our servers."""

    def __init__(self, root: Path, engine: str) -> None:
        self.data = DataDir(root / "a data directory")
        self.port = free_ports(1)[0]
        minio = ensure_minio(print) if engine == "minio" else None
        self.environment = build_environment(minio) | {"PYTHONPATH": str(SUPPORT)}
        self.events: list[dict] = []
        self.process: subprocess.Popen[str] | None = None

    def command(self, *more: str) -> list[str]:
        arguments = ["--data", str(self.data.root), "--port", str(self.port), "--json", *more]
        return [sys.executable, "-m", "small_processes.up", *arguments]

    def start(self) -> "Up":
        self.process = subprocess.Popen(
            self.command(), env=self.environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        self.events = []
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] in {"ready", "error"}:
                break
        assert self.events[-1]["event"] == "ready", self.events[-3:]
        return self

    def again(self, *more: str) -> "subprocess.CompletedProcess[str]":
        """Another `up` while this one runs."""
        return subprocess.run(
            self.command(*more), env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )

    def tree(self) -> list[Process]:
        assert self.process is not None
        return descendants(self.process.pid)

    def signal(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGTERM)

    @property
    def ports(self) -> dict[str, int]:
        return json.loads(self.data.ports.read_text())

    def s3(self) -> Minio:
        keys = json.loads(self.data.s3_credentials.read_text())
        return Minio(
            f"127.0.0.1:{self.ports['s3']}",
            access_key=keys["access_key_id"],
            secret_key=keys["secret_access_key"],
            secure=False,
            region="us-east-1",
        )

    def put(self, name: str, data: bytes) -> None:
        self.s3().put_object("moorage-main", name, io.BytesIO(data), len(data))

    def get(self, name: str) -> bytes:
        answer = self.s3().get_object("moorage-main", name)
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()


@pytest.fixture(params=["seaweedfs", "minio"])
def up(request: pytest.FixtureRequest) -> Iterator[Up]:
    with scratch_folder("up") as root:
        running = Up(root, request.param)
        try:
            yield running
        finally:
            running.end()


def until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_on(up: Up) -> list[Process]:
    """Whatever runs on the data directory, whoever started it."""
    return matching(all_processes(), re.escape(str(up.data.root)))


def take(ports: Iterable[int]) -> Iterator[socket.socket]:
    """Listen on these, but for those that somebody else has taken meanwhile. A process that was killed is gone from the
    list a moment before its sockets are closed.
    """
    patience = time.monotonic() + 5
    for port in ports:
        while True:
            try:
                yield socket.create_server(("127.0.0.1", port))
            except OSError:
                if time.monotonic() < patience:
                    time.sleep(0.05)
                    continue
            break


def assert_nothing_is_left(up: Up, tree: list[Process]) -> None:
    assert [process for process in tree if process.is_alive()] == []
    # The ports are free too, but another `up` of this machine may have taken some of them already.
    assert processes_on(up) == []
    assert is_free_on_loopback(up.port)
    numbers = "|".join(str(port) for port in up.ports.values() if is_free_on_loopback(port))
    left = [
        path.name
        for path in Path("/tmp").glob("*.sock")
        if path.stem.rpartition("-")[2] in numbers.split("|")
    ]
    assert left == []
    assert list(up.data.children.iterdir()) == []


def test_ctrl_c_leaves_no_process_no_port_and_no_socket_within_ten_seconds(up):
    tree = up.start().tree()
    assert len(tree) > 13
    began = time.monotonic()
    assert up.signal(signal.SIGINT) == 0
    assert time.monotonic() - began < 10
    assert_nothing_is_left(up, tree)


def test_after_kill_9_the_next_up_finds_the_data_even_on_other_ports(up):
    tree = up.start().tree()
    body = random.Random(1).randbytes(3 << 20)
    up.put("a/large", body)
    up.put("a/small", b"small")
    before = up.ports
    up.signal(signal.SIGKILL)
    until(lambda: not processes_on(up))
    taken = list(take(before.values()))
    try:
        up.start()
    finally:
        for server in taken:
            server.close()
    assert not set(before.values()) & set(up.ports.values())
    assert up.get("a/large") == body
    assert up.get("a/small") == b"small"
    up.put("a/after", b"x")
    up.end()
    assert_nothing_is_left(up, tree)


@pytest.mark.parametrize("up", ["seaweedfs"], indirect=True)
class TestOnOneEngine:
    def test_a_second_up_is_refused_and_disturbs_nobody(self, up):
        up.start()
        second = up.again()
        assert second.returncode == 1
        assert f"Another `moorage up` (pid {up.process.pid}) is using" in second.stdout
        assert up.process.poll() is None

    def test_a_crashed_store_is_started_again_with_its_data(self, up):
        up.start().put("x", b"kept")
        (store,) = [process for process in up.tree() if " mini " in process.command]
        store.signal(signal.SIGKILL)
        until(lambda: not store.is_alive())
        with contextlib.suppress(StopIteration):
            until(lambda: json.loads(next(up.process.stdout))["state"] == "ready")
        assert up.get("x") == b"kept"

    def test_the_ports_of_the_last_run_are_used_again(self, up):
        first = up.start().ports
        up.signal(signal.SIGTERM)
        assert up.start().ports == first

    def test_data_of_one_s3_server_is_not_offered_to_another(self, up):
        up.start().put("x", b"kept")
        up.signal(signal.SIGTERM)
        minio = up.data.root.with_name("minio")
        minio.write_text("#!/bin/sh\nexit 9\n")
        minio.chmod(0o755)
        assert shutil.which("minio", path=str(minio.parent)) == str(minio)
        up.environment["PATH"] = f"{minio.parent}{os.pathsep}{up.environment['PATH']}"
        assert up.start().get("x") == b"kept"

    def test_connection_json_and_the_header_file_belong_together(self, up):
        up.start()
        connection = json.loads(up.data.connection.read_text())
        assert connection["url"] == f"http://127.0.0.1:{up.port}" == up.events[-1]["url"]
        assert up.data.admin_header.read_text() == f"Authorization: Bearer {connection['admin_token']}\n"
        assert connection["admin_token"] not in json.dumps(up.events)
        command = up.events[-1]["first_user"]
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
        assert done.stdout in {"auth-0", "auth-1"}


def test_a_port_that_somebody_takes_while_starting_is_replaced(monkeypatch, tmp_path):
    tried: list[dict[str, int]] = []
    with contextlib.ExitStack() as stack:

        def lose_a_port(_realm, machine, _report):
            tried.append(dict(machine.ports))
            if len(tried) == 1:
                stack.enter_context(socket.create_server(("127.0.0.1", machine.ports["etcd"])))
                raise UpError("etcd ended 3 times at its start")

        tools = Tools("etcd", "weed", "seaweedfs", "nginx", ("nodes",))
        monkeypatch.setattr(run, "_run_once", lose_a_port)
        monkeypatch.setattr(run, "_ensure_tools", lambda _data, _report: tools)
        out = io.StringIO()
        (port,) = free_ports(1)
        run.run_up(
            [Path(run.__file__).with_name("quickstart.yaml")],
            tmp_path / "d",
            "127.0.0.1",
            port,
            LineReport(out, out),
        )
    assert tried[0]["etcd"] != tried[1]["etcd"]
    assert "Somebody else took a port" in out.getvalue()


def test_a_failure_with_all_ports_free_is_not_tried_again(monkeypatch, tmp_path):
    def fail(*_):
        raise UpError("broken")

    tools = Tools("etcd", "weed", "seaweedfs", "nginx", ("nodes",))
    monkeypatch.setattr(run, "_run_once", fail)
    monkeypatch.setattr(run, "_ensure_tools", lambda _data, _report: tools)
    out = io.StringIO()
    (port,) = free_ports(1)
    with pytest.raises(UpError, match="broken"):
        run.run_up(
            [Path(run.__file__).with_name("quickstart.yaml")],
            tmp_path / "d",
            "127.0.0.1",
            port,
            LineReport(out, out),
        )
    assert out.getvalue() == ""
