"""The internal port's own routes: is this process alive, ready, and what does it say of itself."""

import asyncio
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from moorage.core.errors import MoorageError
from moorage_nodes.description import build_description
from moorage_nodes.metrics import CONTENT_TYPE
from moorage_nodes.server import Check, Server, Shared
from moorage_nodes.tokens import PUBLIC, Allow, Audience
from moorage_nodes.web import Call, Mount, Routes, json_response

CHECK_SECONDS = 1.5
BEAT_SECONDS = 0.5
STALLED_SECONDS = 5.0
PROBE_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})


class UntrustedKeyError(MoorageError):
    word = "signing_key_untrusted"


class Heartbeat:
    """Whether the event loop makes progress: when did it last come round?"""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last = monotonic()

    def silence(self) -> float:
        """Seconds since the last beat."""
        return self._monotonic() - self._last

    async def beat(self) -> None:
        while True:
            self._last = self._monotonic()
            await asyncio.sleep(BEAT_SECONDS)


@dataclass(slots=True)
class Probes:
    """What the probes look at. `public` is described by `/openapi.json`."""

    shared: Shared
    server: Server[Any]
    public: Sequence[Mount[Any]]
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    draining: bool = False
    started: float = field(default_factory=time.monotonic)

    async def check_signing_key(self) -> None:
        """What this server signs must be trusted: better not ready than refused everywhere."""
        signer = self.shared.signer
        key = self.shared.trust.value.keys.get(signer.kid)
        if key is None or key.issuer != signer.issuer:
            raise UntrustedKeyError("The trust file does not name this server's signing key.")


async def run_check(check: Check) -> dict[str, Any]:
    """`{"ok", "ms"}` and, when it failed, the error's word; never raises, never takes over `CHECK_SECONDS`."""
    started = time.monotonic()
    failure: str | None = None
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except TimeoutError:
        failure = "timeout"
    except MoorageError as error:
        failure = error.word
    except Exception as error:  # noqa: BLE001 a probe answers whatever its check met
        failure = type(error).__name__
    result: dict[str, Any] = {"ok": failure is None, "ms": round((time.monotonic() - started) * 1000, 1)}
    if failure is not None:
        result["error"] = failure
    return result


async def run_checks(checks: dict[str, Check]) -> dict[str, dict[str, Any]]:
    """All at once: the answer takes as long as the slowest."""
    results = await asyncio.gather(*(run_check(check) for check in checks.values()))
    return dict(zip(checks, results, strict=True))


async def healthz(call: Call[Probes]) -> Response:
    """Alive and making progress: the event loop came round within the last seconds."""
    silence = call.server.heartbeat.silence()
    alive = silence < STALLED_SECONDS
    return json_response({"alive": alive, "silence_seconds": round(silence, 3)}, 200 if alive else 503)


async def readyz(call: Call[Probes]) -> Response:
    """Ready for requests: not draining, and every store answers. Tells the revisions of the live files."""
    probes = call.server
    checks = await run_checks({**probes.server.checks, "signing_key": probes.check_signing_key})
    ready = not probes.draining and all(result["ok"] for result in checks.values())
    body = {
        "ready": ready,
        "draining": probes.draining,
        "checks": checks,
        "routing_revision": probes.shared.routing.revision,
        "trust_revision": probes.shared.trust.revision,
    }
    return json_response(body, 200 if ready else 503)


async def metrics(call: Call[Probes]) -> Response:
    """Prometheus text."""
    return Response(call.server.shared.metrics.render(), media_type=CONTENT_TYPE)


async def status(call: Call[Probes]) -> Response:
    """What the operator asks: version, loaded files, and what the role adds."""
    probes = call.server
    settings = probes.shared.settings
    body = {
        "role": settings.role,
        "name": settings.name,
        "version": importlib.metadata.version("moorage"),
        "uptime_seconds": round(time.monotonic() - probes.started, 1),
        "files": [
            {"file": live.path.name, "revision": live.revision, "failure": live.failure}
            for live in probes.shared.live_files
        ],
        **await probes.server.status(),
    }
    return json_response(body)


async def openapi(call: Call[Probes]) -> Response:
    """The public port's routes as an OpenAPI document."""
    probes = call.server
    title = f"Moorage {probes.shared.settings.role}"
    return json_response(await asyncio.to_thread(build_description, probes.public, title))


def build_probe_routes() -> Routes[Probes]:
    routes: Routes[Probes] = Routes()
    routes.get("/healthz", allow=PUBLIC)(healthz)
    routes.get("/readyz", allow=PUBLIC)(readyz)
    routes.get("/metrics", allow=PUBLIC)(metrics)
    routes.get("/openapi.json", allow=PUBLIC)(openapi)
    routes.get("/status", allow=Allow(frozenset({Audience.OPERATOR})))(status)
    return routes
