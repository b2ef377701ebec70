"""A device that waits for messages over a WebSocket, as an outsider writes it."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

from websockets.sync.client import ClientConnection, connect

from black_box.http_client import Server

PATIENCE = 30.0


class Listener:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def next(self, kind: str | None = None, seconds: float = PATIENCE) -> dict[str, Any]:
        """The next message; of `kind`, passing over the others. TimeoutError; ConnectionClosed."""
        deadline = time.monotonic() + seconds
        while True:
            text = self.socket.recv(timeout=max(0.0, deadline - time.monotonic()))
            message: dict[str, Any] = json.loads(text)
            if kind is None or message["type"] == kind:
                return message


@contextlib.contextmanager
def listening(server: Server, client_id: str, path: str = "/ws", **options: Any) -> Iterator[Listener]:
    """`server`: the notification server (or the host's root) with the token of the user who listens."""
    headers = {} if server.token is None else {"Authorization": f"Bearer {server.token}"}
    url = f"{server.base.replace('http', 'ws', 1)}{path}?client_id={client_id}"
    with connect(url, additional_headers=headers, proxy=None, open_timeout=PATIENCE, **options) as socket:
        yield Listener(socket)
