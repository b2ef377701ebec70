"""`moorage-nodes proxy --settings FILE`: NGINX with a configuration that changes while it serves.

SIGTERM drains: not ready at once, still serving for `drain_seconds`, then NGINX finishes what is in flight. Exit codes:
0 drained, 1 NGINX ended by itself, 2 wrong settings or a port in use.
"""

import asyncio
import logging
import signal
import socket
from pathlib import Path

from moorage_nodes.observe import configure_logging
from moorage_nodes.proxy.follower import Follower
from moorage_nodes.proxy.nginx import Nginx
from moorage_nodes.proxy.probes import Probes, open_plane
from moorage_nodes.proxy.settings import ProxySettings, load_proxy_settings

log = logging.getLogger("moorage.proxy")


def run(settings_file: Path) -> int:
    """OSError and InvalidFieldError for wrong settings."""
    settings = load_proxy_settings(settings_file)
    configure_logging(settings.log_level)
    return asyncio.run(serve(settings))


async def serve(settings: ProxySettings) -> int:
    follower = Follower(settings, _open_nginx(settings))
    probes = Probes(follower)
    plane = open_plane(probes)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listen = settings.listen
    with _bind(listen.host, listen.internal) as internal:
        serving = asyncio.create_task(plane.serve([internal]))
        following = asyncio.create_task(follower.run())
        stopped = asyncio.create_task(stop.wait())
        ended = asyncio.create_task(follower.nginx.wait())
        await asyncio.wait([stopped, following, ended, serving], return_when=asyncio.FIRST_COMPLETED)
        asked = stopped.done()
        if asked:
            probes.draining = True
            log.info("draining", extra={"seconds": settings.drain_seconds})
            await asyncio.wait([ended], timeout=settings.drain_seconds)
        else:
            log.error("NGINX or what follows its configuration ended by itself")
        following.cancel()
        await follower.nginx.stop(settings.finish_seconds)
        plane.should_exit = True
        for task in (stopped, ended):
            task.cancel()
        results = await asyncio.gather(serving, following, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    log.info("stopped")
    return 0 if asked else 1


def _open_nginx(settings: ProxySettings) -> Nginx:
    directory = Path(settings.directory)
    directory.mkdir(parents=True, exist_ok=True)
    if settings.tls is None:
        return Nginx(settings.nginx, directory, None)
    folder = Path(settings.tls.folder)
    folder.mkdir(parents=True, exist_ok=True)
    return Nginx(settings.nginx, directory, folder)


def _bind(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
