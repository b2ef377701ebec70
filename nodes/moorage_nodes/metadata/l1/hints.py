"""Change hints to the notifier: best effort, as many as come together in one call (PROTOCOL.md, Clients and changes).

The first change of a quiet moment is told at once; what comes while that is told, or shortly after, goes together. A
hint that is lost harms nobody: clients ask `/changes` when they connect, and now and then.
"""

import asyncio
import logging

from moorage.core.errors import MoorageError
from moorage_nodes.metadata.l1.changes import Cursor, build_cursor
from moorage_nodes.peer_api import MAX_HINTS, Change, HintsAnswer, HintsRequest
from moorage_nodes.peers import PeerClient

log = logging.getLogger("moorage.hints")
PAUSE_SECONDS = 0.05
PAUSE_AFTER_FAILURE_SECONDS = 2.0


class Hints:
    """One per process. `notifier`: the cluster's notification servers."""

    def __init__(self, notifier: PeerClient, incarnation: str) -> None:
        self._notifier = notifier
        self._incarnation = incarnation
        self._newest: dict[str, int] = {}
        self._telling: asyncio.Task[None] | None = None

    def tell(self, namespace: str, sequence: int) -> None:
        """The namespace's journal goes up to `sequence`. Returns at once."""
        self._newest[namespace] = sequence
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell_all())

    async def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def _tell_all(self) -> None:
        try:
            while self._newest:
                newest, self._newest = self._newest, {}
                await asyncio.sleep(
                    PAUSE_SECONDS if await self._send(newest) else PAUSE_AFTER_FAILURE_SECONDS
                )
        finally:
            self._telling = None

    async def _send(self, newest: dict[str, int]) -> bool:
        changes = [
            Change(namespace=namespace, cursor=build_cursor(namespace, Cursor(self._incarnation, sequence)))
            for namespace, sequence in newest.items()
        ]
        try:
            for start in range(0, len(changes), MAX_HINTS):
                request = HintsRequest(changes=changes[start : start + MAX_HINTS])
                await self._notifier.post("/internal/changes", request, HintsAnswer)
        except MoorageError as error:
            log.warning("clients are not told of changes", extra={"reason": error.detail})
            return False
        return True
