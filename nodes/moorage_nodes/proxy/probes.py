"""The proxy's internal port: is NGINX up, which revision does it serve, what was refused."""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping

import uvicorn
from starlette.types import Receive, Scope, Send

from moorage_nodes.metrics import CONTENT_TYPE
from moorage_nodes.proxy.follower import Follower

ASK_SECONDS = 1.5


class Plane(uvicorn.Server):
    """uvicorn without its signal handlers: SIGTERM drains."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Probes:
    """An ASGI application of three paths."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive  # no answer depends on a body
        if scope["type"] != "http":
            return
        answers = {"/healthz": self.healthz, "/readyz": self.readyz, "/metrics": self.metrics}
        answer = answers.get(scope["path"])
        status, kind, body = (404, "application/json", b"{}") if answer is None else await answer()
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def healthz(self) -> tuple[int, str, bytes]:
        """The loop comes round and NGINX, once started, runs. A bad configuration is no reason to be killed."""
        state = self._follower.state
        alive = state.serving is None or self._follower.nginx.running
        return _json(200 if alive else 503, {"alive": alive})

    async def readyz(self) -> tuple[int, str, bytes]:
        """NGINX answers, and with which revision, and has once reached the servers behind it. A newest configuration
        that was refused does not make it unready: the old one serves; `failure` says so.
        """
        served = await ask_revision(self._follower.settings.listen.status)
        reach = self._follower.reach
        ready = served is not None and reach.done and not self.draining
        body = {
            "ready": ready,
            "draining": self.draining,
            "routing_revision": served,
            "failure": self._follower.state.failure,
            "not_reached": reach.missing,
        }
        return _json(200 if ready else 503, body)

    async def metrics(self) -> tuple[int, str, bytes]:
        state = self._follower.state
        revision = state.serving.revision if state.serving else None
        values = (
            ("moorage_proxy_up", "gauge", "Whether NGINX runs.", int(self._follower.nginx.running)),
            (
                "moorage_proxy_routing_revision",
                "gauge",
                "Revision of the routes that are served.",
                revision or 0,
            ),
            (
                "moorage_proxy_configuration_refused",
                "gauge",
                "Whether the newest configuration is not what is served.",
                int(state.failure is not None),
            ),
            ("moorage_proxy_reloads_total", "counter", "Configurations that took over.", state.reloads),
            ("moorage_proxy_refusals_total", "counter", "Configurations that were refused.", state.refusals),
            (
                "moorage_proxy_loaded_timestamp_seconds",
                "gauge",
                "When the served one was loaded.",
                state.loaded_at,
            ),
        )
        lines = [f"# HELP {n} {h}\n# TYPE {n} {kind}\n{n} {value}\n" for n, kind, h, value in values]
        return 200, CONTENT_TYPE, "".join(lines).encode()


def open_plane(probes: Probes) -> Plane:
    config = uvicorn.Config(
        probes,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    return Plane(config)


async def ask_revision(port: int) -> int | None:
    """The revision that NGINX itself tells on its loopback port; None when it does not answer in time."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.read(4096)
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(body) if b" 200 " in head.partition(b"\r\n")[0] else None
    except (OSError, TimeoutError, ValueError):
        return None
    finally:
        if writer is not None:
            writer.close()


def _json(status: int, body: Mapping[str, object]) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(body).encode()
