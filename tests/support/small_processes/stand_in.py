"""A server in place of ours: reads its settings, answers 200 with its name to everything, on both ports."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any


async def serve(settings: dict[str, Any]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                body = settings["name"].encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listen = settings["listen"]
    for plane in ("public", "internal"):
        await asyncio.start_server(answer, listen["host"], listen[plane])
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


asyncio.run(serve(json.loads(Path(sys.argv[-1]).read_text())))
