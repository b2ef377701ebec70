"""The outcome of a notification, told to L1 (PROTOCOL.md, Deletion 5).

What is to be told stands under `t/`: at once when all have acknowledged, else from the deadline on. The server that saw
it come about tells it; every server looks now and then and takes up what it finds twice, so that it is told whoever
dies. L1 is told at least once and answers the same each time; only then is the notification settled.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage_nodes.notify.elapsed import ElapsedClock
from moorage_nodes.notify.keys import Notification
from moorage_nodes.notify.queue import Queue
from moorage_nodes.pursuit import Pursuit

log = logging.getLogger("moorage.settling")
SCAN_SECONDS = 10.0
SCANNED = 10_000  # of what is due, in one scan
AT_ONCE = 8
RESTING_SECONDS = (
    10.0  # a cluster whose L1 could not be told is not asked for so long: others are not to wait for it
)

Tell = Callable[[str, str, Notification], Awaitable[None]]
"""Tells L1 the outcome of (namespace, notification id). Raises a MoorageError when that is to be tried again."""


class Settling:
    """One per process. Call `run` in a task of its own."""

    def __init__(
        self,
        queue: Queue,
        elapsed: ElapsedClock,
        tell: Tell,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._elapsed = elapsed
        self._tell = tell
        self._monotonic = monotonic
        self._pursuit = Pursuit(self.settle, "an outcome", at_once=AT_ONCE, most=SCANNED)
        self._seen: set[tuple[str, str]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._resting: dict[str, float] = {}
        self.settled = 0

    def kick(self, namespace: str, notification_id: str) -> None:
        """Settle this one now, in the background, if it is due. What fails is tried again, and left to a later scan."""
        self._pursuit.kick(namespace, notification_id)

    @property
    def under_way(self) -> int:
        return self._pursuit.under_way + (self._looking is not None and not self._looking.done())

    def on_advance(self, mine: bool) -> None:
        """More has elapsed. Who wrote that looks at once what is due."""
        if mine and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look())

    async def run(self) -> None:
        """Scan for ever."""
        while True:
            try:
                await self.scan()
            except MoorageError as error:
                log.warning("cannot look for what is due", extra={"reason": error.detail})
            await asyncio.sleep(SCAN_SECONDS)

    async def scan(self) -> None:
        """Kick what the last scan found too: what is younger is in the hands of whoever saw it come about."""
        found = {(ns, each) for _, ns, each in await self._queue.due(self._elapsed.elapsed, SCANNED)}
        for name in found & self._seen:
            self.kick(*name)
        self._seen = found

    async def _look(self) -> None:
        try:
            for _, namespace, notification_id in await self._queue.due(self._elapsed.elapsed, SCANNED):
                self.kick(namespace, notification_id)
        except MoorageError as error:
            log.warning("cannot look for what is due", extra={"reason": error.detail})

    async def settle(self, namespace: str, notification_id: str) -> bool:
        """Tell L1 and settle, if it is due; whether it was. The same again does the same again, and no harm."""
        notification = await self._queue.get(namespace, notification_id)
        if notification is None or notification.settled or notification.due > self._elapsed.elapsed:
            return False
        server_key = notification.server_key
        if self._resting.get(server_key, 0.0) > self._monotonic():
            raise StoreUnavailableError("This cluster's L1 could not be reached a moment ago.")
        try:
            await self._tell(namespace, notification_id, notification)
        except StoreUnavailableError:
            self._resting[server_key] = self._monotonic() + RESTING_SECONDS
            raise
        await self._queue.settle(namespace, notification_id)
        self.settled += 1
        return True

    async def close(self) -> None:
        """Stop; what is under way is taken up by a scan of any server."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._pursuit.close()
