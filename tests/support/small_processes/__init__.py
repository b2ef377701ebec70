"""Small real processes to supervise: an HTTP server of a few lines in place of etcd, S3, a server or NGINX."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from moorage.core.routing import RoutingTable
from moorage_operator.local.datadir import DataDir
from moorage_operator.local.processes import LocalPlan, Probe, ProcessSpec, Stage
from moorage_operator.local.report import JsonReport
from moorage_operator.local.supervisor import Supervisor

# Modes: "plain"; "stubborn" ignores SIGTERM; "parent" starts a child that holds a port of its own; "late:N" is
# ready from its Nth start on; "broken" says why and ends.
SERVER = """
import http.server, os, pathlib, signal, subprocess, sys
port, mode, log = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
with log.open("a") as file: file.write(f"{os.getpid()}\\n")
starts = len(log.read_text().splitlines())
if mode == "broken": sys.exit("this cannot work")
if mode.startswith("late:") and starts < int(mode[5:]): sys.exit(3)
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else lambda *_: os._exit(0))
if mode == "parent":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class Small(msgspec.Struct):
    """One process of a small plan. `stop_seconds` before it is killed."""

    name: str
    stage: Stage
    port: int
    mode: str = "plain"
    stop_seconds: float = 5.0
    sockets: tuple[str, ...] = ()


def build_plan(root: Path, parts: list[Small]) -> LocalPlan:
    specs = [
        ProcessSpec(
            name=part.name,
            stage=part.stage,
            argv=(sys.executable, "-c", SERVER, str(part.port), part.mode, str(root / f"{part.name}.starts")),
            environment={"PATH": os.environ["PATH"]},
            ports=(part.port,),
            ready=Probe(f"http://127.0.0.1:{part.port}/"),
            stop_seconds=part.stop_seconds,
            sockets=part.sockets,
        )
        for part in parts
    ]
    table = RoutingTable(revision=1, hosts=("h",), clusters=())
    return LocalPlan("http://h", table, tuple(specs), {}, "http://s3", ())


def make_data(root: Path) -> DataDir:
    data = DataDir(root / "data")
    for folder in (data.root, data.logs, data.run, data.children):
        folder.mkdir(exist_ok=True)
    return data


def starts_of(root: Path, name: str) -> list[int]:
    """The pids of every start of a part, in order."""
    path = root / f"{name}.starts"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


async def _run(root: Path, parts: list[Small]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    report = JsonReport(sys.stdout)

    async def prepare() -> None:
        return

    supervisor = Supervisor(build_plan(root, parts), make_data(root), report, prepare)
    await supervisor.run(stop, lambda: report.ready("http://h", ""))


def main(arguments: Mapping[int, str]) -> None:
    """`python -m small_processes ROOT PARTS`: supervise the parts (JSON) as `up` does, in a process of its own."""
    parts = msgspec.json.decode(arguments[2], type=list[Small])
    asyncio.run(_run(Path(arguments[1]), parts))
