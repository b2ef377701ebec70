"""A server of ours on real sockets inside the test's event loop."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from moorage_nodes.app import Process, bind
from moorage_nodes.observe import AccessLog
from moorage_nodes.server import Server, Shared


@dataclass
class Serving:
    """`access_log` holds the lines once they are flushed: `lines()`."""

    public: str
    internal: str
    process: Process
    stream: io.BytesIO
    access: AccessLog

    def lines(self) -> str:
        self.access.flush()
        return self.stream.getvalue().decode()


@contextlib.asynccontextmanager
async def serving(shared: Shared, server: Server[Any]) -> AsyncIterator[Serving]:
    """Serve on free ports of loopback; drained at the end."""
    stream = io.BytesIO()
    access = AccessLog(stream)
    process = Process(shared, server, access)
    with bind("127.0.0.1", 0) as public, bind("127.0.0.1", 0) as internal:
        urls = [f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in (public, internal)]
        running = asyncio.create_task(process.run(public, internal))
        try:
            for url in urls:
                await _listening(url, running)
            yield Serving(urls[0], urls[1], process, stream, access)
        finally:
            process.stop()
            process.stop()
            await running


async def _listening(url: str, running: asyncio.Task[None]) -> None:
    host, port = url.removeprefix("http://").split(":")
    while True:
        if running.done():
            running.result()
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            await writer.wait_closed()
            return
