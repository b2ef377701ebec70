"""Work with a name, done in the background: at once when somebody asks for it, again when it fails.

What a process could not do is in the store all the same, and a scan of any process finds it there. The tries here
only make that rare: a peer that was away for a moment holds a deletion up for a second, not for two scans.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from moorage.core.errors import MoorageError

log = logging.getLogger("moorage.pursuit")
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try; after the last one the scan has it."""
Name = tuple[str, str]
"""(namespace, notification id)"""


class Pursuit:
    """One per kind of work and process. `work` is idempotent and raises a MoorageError when it is to be tried again;
    `at_once` of it go on at a time, and no more than `most` names are kept: the scan finds the others.
    """

    def __init__(
        self,
        work: Callable[[str, str], Awaitable[object]],
        what: str,
        *,
        at_once: int,
        most: int,
    ) -> None:
        self._work = work
        self._what = what
        self._most = most
        self._places = asyncio.Semaphore(at_once)
        self._tasks: dict[Name, asyncio.Task[None]] = {}
        self._again: dict[Name, asyncio.Event] = {}

    def kick(self, namespace: str, notification_id: str) -> None:
        """Begin now. What is under way begins once more behind itself: it may have looked before that came for which
        this was called; what waits to be tried again does not wait any longer.
        """
        name = namespace, notification_id
        if name in self._tasks:
            self._again[name].set()
        elif len(self._tasks) < self._most:
            self._again[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._pursue(name))

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """Stop; a scan of any process takes up what is left."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pursue(self, name: Name) -> None:
        try:
            for pause in (*PAUSES, None):
                if await self._attempt(name):
                    return
                if pause is not None:
                    await self._wait(name, pause)
        finally:
            # Nothing is awaited between the last look at what was asked for and here, so no kick is lost.
            del self._tasks[name], self._again[name]

    async def _attempt(self, name: Name) -> bool:
        """Whether it is done, and nobody has asked for it since."""
        again = self._again[name]
        async with self._places:
            try:
                while True:
                    again.clear()
                    await self._work(*name)
                    if not again.is_set():
                        return True
            except MoorageError as error:
                log.warning(
                    "%s waits", self._what, extra={"notification_id": name[1], "reason": error.detail}
                )
            except Exception:
                log.exception("%s failed", self._what, extra={"notification_id": name[1]})
        return False

    async def _wait(self, name: Name, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._again[name].wait()
        except TimeoutError:
            pass
