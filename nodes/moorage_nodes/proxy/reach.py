"""Whether the servers behind NGINX can be reached from here, asked once after the start.

A Service's address is known some seconds before this node's packets find a way to its pods. A proxy that counted as
ready by then would answer its first requests with 503; so it waits for the way, and not for ever: a server that is away
is no reason to serve nothing of the others.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

log = logging.getLogger("moorage.proxy")
PATIENCE_SECONDS = 15.0
CONNECT_SECONDS = 1.0
AGAIN_SECONDS = 0.25


@dataclass(slots=True)
class Reach:
    """`done`: every server has taken a connection, or the time is up; `missing`: those that had not by then."""

    done: bool = False
    missing: list[str] = field(default_factory=list)

    async def wait_for(self, servers: Sequence[str]) -> None:
        """`servers`: `host:port`, each looked up anew with every try."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        missing = list(dict.fromkeys(servers))
        while missing and time.monotonic() < deadline:
            found = await asyncio.gather(*map(_takes_connections, missing))
            missing = [server for server, takes in zip(missing, found, strict=True) if not takes]
            if missing:
                await asyncio.sleep(AGAIN_SECONDS)
        if missing:
            log.warning("servers cannot be reached; serving the others", extra={"servers": missing})
        self.done, self.missing = True, missing


async def _takes_connections(server: str) -> bool:
    host, _, port = server.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
