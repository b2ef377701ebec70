"""Deletions on their way from the mark to the trash (PROTOCOL.md, Deletion 2 to 7), in every L1 server.

A deletion is kicked by the request that began it, and found again by a scan of the cluster's work (`w/`) when a
server died on the way. While it waits for its clients it is parked (`p/`): the notifier has it and says when to go on.
What is parked is handed to the notifier again now and then, should that have lost it. Every step is idempotent and reads anew where things stand, so a server may stop after any of
them and two servers may do the same one: that costs work and harms nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from moorage.core.errors import MoorageError
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.deletion import plan_finalize, plan_observe, plan_park, plan_walk
from moorage_nodes.metadata.l1.let_go import scan_chunks
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata.records import PROCEED, Deletion
from moorage_nodes.stores.contracts import MetadataStore

log = logging.getLogger("moorage.deletions")
SCAN_SECONDS = 10.0
SCANS_TO_PARKED = 2160  # what is parked is looked at with every so many scans: each 6 h
AT_ONCE = 4  # deletions that a process works on
MAX_KICKED = 1000  # that wait in a process; the scan finds the others

Mark = Callable[[str, list[str]], Awaitable[object]]
"""Marks chunks of a namespace, given by hash, as let go. Raises a MoorageError when that is to be tried again."""


Tell = Callable[[str, str, Deletion], Awaitable[None]]
"""Hands (namespace, notification id, deletion) to the notifier. Idempotent; raises as `Mark` does."""


class Deletions:
    """One instance per process. Call `run` in a task of its own. Without `tell` nobody is told or waited for."""

    def __init__(
        self, store: MetadataStore, namespaces: Namespaces, mark: Mark, tell: Tell | None = None
    ) -> None:
        self._store = store
        self._namespaces = namespaces
        self._mark = mark
        self._tell = tell
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._again: set[tuple[str, str]] = set()
        self._seen: set[tuple[str, str]] = set()
        self._parked_seen: set[tuple[str, str]] = set()
        self._scans = 0

    def kick(self, namespace: str, notification_id: str) -> None:
        """Work on a deletion now, in the background. Failures are logged, and left to a later scan."""
        name = namespace, notification_id
        if name in self._tasks:
            self._again.add(
                name
            )  # what is under way may have looked before that came for which this was called
            return
        if len(self._tasks) >= MAX_KICKED:
            return
        task = asyncio.create_task(self._attempt(namespace, notification_id))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def run(self) -> None:
        """Scan for ever."""
        while True:
            try:
                await self.scan()
            except MoorageError as error:
                log.warning("cannot look for deletions under way", extra={"reason": error.detail})
            await asyncio.sleep(SCAN_SECONDS)

    async def scan(self) -> None:
        """Kick the deletions that the last scan saw too: younger ones are in the hands of whoever began them."""
        found = await self._find(keys.work_range())
        for name in found & self._seen:
            self.kick(*name)
        self._seen = found
        self._scans += 1
        if self._tell is None or self._scans % SCANS_TO_PARKED == 0:
            parked = await self._find(keys.parked_range())
            for name in parked & self._parked_seen:
                self.kick(*name)
            self._parked_seen = parked

    async def _find(self, span: tuple[bytes, bytes]) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        async for part in self._store.scan(*span, keys_only=True):
            found.update(keys.parse_work(kv.key) for kv in part)
        return found

    async def advance(self, namespace: str, notification_id: str) -> None:
        """Take a deletion through all its steps, or up to where it waits for its clients.

        Raises what a step could not do; the same call again goes on from there.
        """
        deletion = await self._namespaces.read(namespace, plan_observe(notification_id))
        if deletion is None:
            return
        waits = self._tell is not None and bool(deletion.clients) and deletion.step != PROCEED
        if self._tell is not None and waits:
            await self._tell(namespace, notification_id, deletion)
        if deletion.walk:
            while await self._namespaces.change(namespace, plan_walk(notification_id)):
                pass
        if waits and not await self._namespaces.change(namespace, plan_park(notification_id)):
            return
        async for hashes in scan_chunks(self._store, namespace, deletion):
            await self._mark(namespace, hashes)
        await self._namespaces.change(namespace, plan_finalize(notification_id))

    async def close(self) -> None:
        """Stop; what is under way is taken up by the next scan of any server."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _attempt(self, namespace: str, notification_id: str) -> None:
        async with self._places:
            try:
                self._again.add((namespace, notification_id))
                while (namespace, notification_id) in self._again:
                    self._again.discard((namespace, notification_id))
                    await self.advance(namespace, notification_id)
            except MoorageError as error:
                log.warning(
                    "a deletion waits",
                    extra={"notification_id": notification_id, "reason": error.detail},
                )
            except Exception:
                log.exception("a deletion failed", extra={"notification_id": notification_id})
