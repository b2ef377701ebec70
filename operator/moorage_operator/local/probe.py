"""Whether a part answers: one HTTP request on a connection of its own."""

import asyncio
from urllib.parse import urlsplit

from moorage_operator.local.processes import Probe


async def answers(probe: Probe, *, seconds: float = 2.0) -> bool:
    """Whether the probe's URL answers with its status within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await _status_of(probe.url) == probe.status
    except (OSError, TimeoutError, ValueError):
        return False


async def _status_of(url: str) -> int:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        status_line = (await reader.readline()).split()
        return int(status_line[1]) if len(status_line) > 1 else 0
    finally:
        writer.close()
