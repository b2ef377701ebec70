"""`moorage-nodes <role> --settings FILE`: one server process (the collector with `--scheduled`; without, it runs once).

Two ports in one event loop: the public plane below the server's prefix, the internal plane with probes, metrics
and peers' calls. SIGTERM drains: not ready at once, still serving for `drain_seconds`, then what is in flight is
finished and the stores are closed. Exit codes: 0 drained, 1 failed, 2 wrong arguments, settings
or files, or a port in use.
"""

import argparse
import asyncio
import contextlib
import gc
import importlib
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import uvicorn
import uvloop

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage_nodes.http_protocol import HttpProtocol
from moorage_nodes.livefile import LiveFile
from moorage_nodes.observe import AccessLog, Observed, configure_logging
from moorage_nodes.probes import PROBE_ROUTES, Probes, build_probe_routes
from moorage_nodes.server import Server, Shared, open_shared
from moorage_nodes.settings import Role, Settings, load_settings
from moorage_nodes.web import Mount, build_app

log = logging.getLogger("moorage.app")

# Imported by name when its role runs: a process holds no other role's code.
ROLE_MODULES: dict[str, str] = {
    "auth": "moorage_nodes.auth.server",
    "l1": "moorage_nodes.metadata.l1.server",
    "l2": "moorage_nodes.metadata.l2.server",
    "l3": "moorage_nodes.metadata.l3.server",
    "block": "moorage_nodes.blocks.server",
    "notify": "moorage_nodes.notify.server",
    "gc": "moorage_nodes.gc.server",
}
# What is no server of ours; each module has `run(settings_file) -> exit code`.
TOOL_MODULES: dict[str, str] = {
    "etcd-member": "moorage_nodes.etcd_member.main",
    "preflight": "moorage_nodes.preflight.main",
    "proxy": "moorage_nodes.proxy.main",
}
# What runs once and ends; each module has `main(arguments) -> exit code`.
JOB_MODULES: dict[str, str] = {
    "fsck": "moorage_nodes.fsck.command",
    "gc": "moorage_nodes.gc.command",
    "scrub": "moorage_nodes.scrub.command",
}
KEEP_ALIVE_SECONDS = 90  # longer than the proxy keeps idle connections, so that it is the proxy that closes
FINISH_SECONDS = 7  # for what is in flight when the drain ends
FILE_POLL_SECONDS = 1.0
STORE_WAIT_SECONDS = 30.0  # how long a store may be away when a server starts
STORE_RETRY_SECONDS = 0.5
# Of a WebSocket: how often it is pinged and how long a pong may take; what a client may say, which means nothing here.
PING_SECONDS = 20.0
SOCKET_MESSAGE_BYTES = 4096
# Of Python's collector (gc.set_threshold). By default it looks at what is new after 700 allocations, a few requests:
# up to a seventh of the CPU of a commit. A block server keeps to that, since what it holds is large.
FEW_COLLECTIONS = (10_000, 20, 50)
RARE_COLLECTIONS = (50_000, 20, 50)
UNREAD_SECONDS = 60.0  # of a role with WebSockets: who reads nothing is not waited for at the end either
BREATH_SECONDS = 0.05  # a closing object store client needs the loop to come round a few times


class _Plane(uvicorn.Server):
    """uvicorn without its signal handlers: the process drains both planes in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _open_plane(app: Any, *, sockets: bool = False) -> _Plane:
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="websockets-sansio" if sockets else "none",
        ws_max_size=SOCKET_MESSAGE_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=FINISH_SECONDS,
    )
    return _Plane(config)


def bind(host: str, port: int, *, unread_seconds: float | None = None) -> socket.socket:
    """A bound socket that refuses connections until a plane listens on it. OSError when the port is in use.

    `unread_seconds`: how long a peer may leave what it was sent unread before the kernel drops its connection.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if unread_seconds is not None:
            # Connections inherit it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(unread_seconds * 1000))
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def raise_open_files() -> None:
    """As many open files as this process may have: each connection is one, and the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def open_role(settings: Settings, shared: Shared) -> Server[Any]:
    """Open the role's server, waiting a while for stores that are not there yet."""
    module = importlib.import_module(ROLE_MODULES[settings.role])
    deadline = time.monotonic() + STORE_WAIT_SECONDS
    while True:
        try:
            server: Server[Any] = await module.open_server(settings, shared)
        except StoreUnavailableError as error:
            if time.monotonic() >= deadline:
                raise
            log.warning("waiting for a store", extra={"reason": error.detail})
            await asyncio.sleep(STORE_RETRY_SECONDS)
        else:
            return server


class Process:
    """One server: both planes, from their sockets to the drain."""

    def __init__(self, shared: Shared, server: Server[Any], access: AccessLog) -> None:
        self._shared = shared
        self._server = server
        self._access = access
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        mounts = [
            Mount(server.prefix, server.public, server.context),
            Mount("", server.unprefixed, server.context),
        ]
        public = build_app(mounts, verifier=shared.verifier, revocation=shared.generations)
        self.probes = Probes(shared, server, mounts)
        internal = build_app(
            [
                Mount("", server.internal, server.context),
                Mount("", build_probe_routes(), self.probes),
            ],
            verifier=shared.verifier,
        )
        self._public = _open_plane(
            Observed(public, shared.metrics, access), sockets=bool(server.public.sockets)
        )
        self._internal = _open_plane(Observed(internal, shared.metrics, access, quiet=PROBE_ROUTES))

    def stop(self) -> None:
        """Begin to drain; a second call skips the wait."""
        if self._stop.is_set():
            self._hurry.set()
        self.probes.draining = True
        self._stop.set()

    async def run(self, public: socket.socket, internal: socket.socket) -> None:
        """Serve on the two sockets until `stop`, then drain and close everything. Raises what broke a plane."""
        background = [
            asyncio.create_task(self.probes.heartbeat.beat()),
            asyncio.create_task(_follow(self._shared.live_files)),
        ]
        planes = [
            asyncio.create_task(self._internal.serve([internal])),
            asyncio.create_task(self._public.serve([public])),
        ]
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([stopped, *planes, *background], return_when=asyncio.FIRST_COMPLETED)
            if not stopped.done():
                log.error("a part of the server ended by itself")
            else:
                log.info("draining", extra={"seconds": self._shared.settings.drain_seconds})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._shared.settings.drain_seconds):
                        await self._hurry.wait()
            self._server.drain()
            self._public.should_exit = True
            await asyncio.wait([planes[1]])
            self._internal.should_exit = True
            await asyncio.wait([planes[0]])
        finally:
            for task in (*background, stopped):
                task.cancel()
            await asyncio.gather(*background, stopped, return_exceptions=True)
            await self._server.close()
            self._shared.peers.close()
            await asyncio.sleep(BREATH_SECONDS)
            self._access.flush()
        for plane in planes:
            plane.result()
        if not self.probes.draining:
            raise RuntimeError("A part of the server ended by itself.")


async def _follow(files: list[LiveFile[Any]]) -> None:
    """Poll for ever. A poll is a `stat` of a small local file: not worth a thread."""
    while True:
        await asyncio.sleep(FILE_POLL_SECONDS)
        for live in files:
            live.refresh()


async def serve(settings: Settings) -> None:
    shared = open_shared(settings)
    listen = settings.listen
    unread = UNREAD_SECONDS if settings.role == "notify" else None
    public_socket = bind(listen.host, listen.public, unread_seconds=unread)
    with public_socket as public, bind(listen.host, listen.internal) as internal:
        server = await open_role(settings, shared)
        process = Process(shared, server, AccessLog(sys.stderr.buffer))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, process.stop)
        # What is loaded now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        if server.public.sockets:
            # A look at all objects of thousands of connections takes 0.2 s, in which nobody is told anything.
            gc.set_threshold(*RARE_COLLECTIONS)
        elif settings.role != "block":
            gc.set_threshold(*FEW_COLLECTIONS)
        log.info(
            "serving",
            extra={
                "role": settings.role,
                "public": public.getsockname()[1],
                "internal": internal.getsockname()[1],
            },
        )
        await process.run(public, internal)
    log.info("stopped")


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in JOB_MODULES and "--scheduled" not in argv:
        run_once: Callable[[list[str]], int] = importlib.import_module(JOB_MODULES[argv[0]]).main
        return run_once(argv[1:])
    parser = argparse.ArgumentParser(prog="moorage-nodes", description="Run one Moorage server.")
    parser.add_argument("role", choices=sorted({*get_args(Role), *TOOL_MODULES, *JOB_MODULES}))
    parser.add_argument("--settings", required=True, type=Path, metavar="FILE")
    parser.add_argument(
        "--scheduled", action="store_true", help="gc: keep running, by the settings' schedule"
    )
    arguments = parser.parse_args(argv)
    configure_logging("info")
    try:
        if arguments.role in TOOL_MODULES:
            code: int = importlib.import_module(TOOL_MODULES[arguments.role]).run(arguments.settings)
            return code
        settings = load_settings(arguments.settings)
        if settings.role != arguments.role:
            parser.error(f"{arguments.settings} is for the role {settings.role}, not {arguments.role}")
        configure_logging(settings.log_level)
        raise_open_files()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except (MoorageError, OSError) as error:
        detail = error.detail if isinstance(error, MoorageError) else str(error)
        log.error("cannot serve", extra={"reason": detail})  # noqa: TRY400 the reason says it all
        return 1 if isinstance(error, StoreUnavailableError) else 2
    except Exception:
        log.exception("failed")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
