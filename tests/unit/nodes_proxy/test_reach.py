"""A proxy waits for the way to its servers, and not for ever."""

import asyncio
import socket
import time

from moorage_nodes.proxy import reach as module
from moorage_nodes.proxy.reach import Reach


def bound() -> socket.socket:
    """A port that refuses connections until it listens."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def named(sock: socket.socket) -> str:
    return f"127.0.0.1:{sock.getsockname()[1]}"


async def test_it_is_done_when_every_server_has_taken_a_connection():
    with bound() as early, bound() as late:
        early.listen()
        reach = Reach()
        waiting = asyncio.create_task(reach.wait_for([named(early), named(late), named(early)]))
        await asyncio.sleep(0.3)
        assert not reach.done
        late.listen()
        async with asyncio.timeout(5):
            await waiting
        assert (reach.done, reach.missing) == (True, [])


async def test_a_server_that_stays_away_is_waited_for_so_long_and_named(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.5)
    with bound() as here, bound() as away:
        here.listen()
        reach = Reach()
        began = time.monotonic()
        await reach.wait_for([named(here), named(away), "no-such-host.invalid:80"])
        assert 0.5 <= time.monotonic() - began < 5
        assert (reach.done, reach.missing) == (True, [named(away), "no-such-host.invalid:80"])
