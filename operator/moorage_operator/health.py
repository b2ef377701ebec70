"""The operator's own port: alive, ready, metrics. One process, plain HTTP, no secrets."""

from collections.abc import Callable

from aiohttp import web

from moorage_operator.metrics import CONTENT_TYPE

Probe = Callable[[], tuple[bool, str]]


async def serve_health(
    port: int,
    is_alive: Probe,
    is_ready: Probe,
    render: Callable[[], bytes],
    host: str = "0.0.0.0",  # noqa: S104
) -> web.AppRunner:
    """Listening when it returns; `cleanup()` of what it returns ends it. OSError when the port is taken."""

    def probe(ask: Probe) -> Callable[[web.Request], "object"]:
        async def answer(_: web.Request) -> web.Response:
            good, text = ask()
            return web.Response(status=200 if good else 503, text=f"{text}\n")

        return answer

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render(), headers={"Content-Type": CONTENT_TYPE})

    application = web.Application()
    application.router.add_get("/healthz", probe(is_alive))  # type: ignore[arg-type]
    application.router.add_get("/readyz", probe(is_ready))  # type: ignore[arg-type]
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
