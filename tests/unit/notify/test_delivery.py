"""What a poll tells, beside the servers that the other tests of this folder run."""

import asyncio

from moorage_nodes.notify.delivery import Delivery
from moorage_nodes.notify.messages import RESYNC
from moorage_nodes.notify.queue import Look


class SlowQueue:
    """Its pages come when `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def waiting(self, _namespace: str, _client_id: str) -> Look:
        async def pages():
            await self.gate.wait()
            for none in ():
                yield none

        return Look(1, resync=False, pages=pages())


class OneListener:
    """A hub whose news the test tells."""

    def add(self, listener) -> None:
        self.listener = listener

    def remove(self, listener) -> None:
        pass

    def recent_change(self, _namespace: str) -> None:
        return None


async def test_what_is_lost_while_a_poll_looks_is_told_by_it_or_the_next():
    queue, hub = SlowQueue(), OneListener()
    delivery = Delivery(queue, hub)
    poll = asyncio.create_task(delivery.poll("ns", "c", 5, 10))
    await asyncio.sleep(0.01)
    hub.listener.on_resync()  # the watch was compacted away
    queue.gate.set()
    assert await poll == [RESYNC]
    assert await delivery.poll("ns", "c", 0, 10) == []
