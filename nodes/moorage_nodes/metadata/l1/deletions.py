"""Deletions on their way from the mark to the trash (PROTOCOL.md, Deletion 2 to 7), in every L1 server.

A deletion is kicked by the request that began it, and found again by a scan of the cluster's work (`w/`) when a
server died on the way. While it waits for its clients it is parked (`p/`): the notifier has it and says when to go on.
What is parked is handed to the notifier again now and then, should that have lost it. Every step is idempotent and
reads anew where things stand, so a server may stop after any of them and two servers may do the same one: that costs
work and harms nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from moorage.core.errors import MoorageError
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.deletion import plan_finalize, plan_observe, plan_park, plan_walk
from moorage_nodes.metadata.l1.let_go import scan_chunks
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata.records import PROCEED, Deletion
from moorage_nodes.pursuit import Pursuit
from moorage_nodes.stores.contracts import MetadataStore

log = logging.getLogger("moorage.deletions")
SCAN_SECONDS = 10.0
SCANS_TO_PARKED = 2160  # what is parked is looked at by two of so many scans: after the start, and each 6 h
WITHDRAWALS = 6  # that are tried, one with every scan
AT_ONCE = 4  # deletions that a process works on
MAX_KICKED = 1000  # that wait in a process; the scan finds the others

Mark = Callable[[str, list[str]], Awaitable[object]]
"""Marks chunks of a namespace, given by hash, as let go. Raises a MoorageError when that is to be tried again."""


class Notifier(Protocol):
    """What a deletion needs of the notification servers. Idempotent; raises as `Mark` does."""

    async def tell(self, namespace: str, notification_id: str, deletion: Deletion) -> None:
        """Have the clients told, and be called back at `/deletion_status`."""

    async def withdraw(self, namespace: str, notification_id: str) -> None:
        """What was being deleted has been brought back: tell nobody else."""


class Deletions:
    """One instance per process. Call `run` in a task of its own. Without a notifier nobody is told or waited for."""

    def __init__(
        self, store: MetadataStore, namespaces: Namespaces, mark: Mark, notifier: Notifier | None = None
    ) -> None:
        self._store = store
        self._namespaces = namespaces
        self._mark = mark
        self._notifier = notifier
        self._pursuit = Pursuit(self.advance, "a deletion", at_once=AT_ONCE, most=MAX_KICKED)
        self._withdrawing: set[asyncio.Task[None]] = set()
        self._seen: set[tuple[str, str]] = set()
        self._parked_seen: set[tuple[str, str]] = set()
        self._scans = 0

    def kick(self, namespace: str, notification_id: str) -> None:
        """Work on a deletion now, in the background. What fails is tried again, and left to a later scan."""
        self._pursuit.kick(namespace, notification_id)

    @property
    def under_way(self) -> int:
        """How many this process has taken up."""
        return self._pursuit.under_way

    async def run(self) -> None:
        """Scan for ever."""
        while True:
            try:
                await self.scan()
            except MoorageError as error:
                log.warning("cannot look for deletions under way", extra={"reason": error.detail})
            except Exception:
                log.exception("looking for deletions under way failed; it goes on")
            await asyncio.sleep(SCAN_SECONDS)

    async def scan(self) -> None:
        """Kick the deletions that the last scan saw too: younger ones are in the hands of whoever began them."""
        found = await self._find(keys.work_range())
        for name in found & self._seen:
            self.kick(*name)
        self._seen = found
        if self._notifier is None or self._scans % SCANS_TO_PARKED < 2:
            parked = await self._find(keys.parked_range())
            for name in parked & self._parked_seen:
                self.kick(*name)
            self._parked_seen = parked
        self._scans += 1

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
        notifier = self._notifier if _waits_for_clients(deletion) else None
        if notifier is not None:
            await notifier.tell(namespace, notification_id, deletion)
        if deletion.walk:
            while await self._namespaces.change(namespace, plan_walk(notification_id)):
                pass
        if notifier is not None:
            step = await self._namespaces.change(namespace, plan_park(notification_id))
            if step is None:
                await notifier.withdraw(namespace, notification_id)
            if step != PROCEED:
                return
        async for hashes in scan_chunks(self._store, namespace, deletion):
            await self._mark(namespace, hashes)
        await self._namespaces.change(namespace, plan_finalize(notification_id))

    async def tell(self, namespace: str, notification_id: str) -> bool:
        """Have the clients told now, without waiting for who is to do that; whether the deletion waits for them.

        Raises what the notifier does.
        """
        deletion = await self._namespaces.read(namespace, plan_observe(notification_id))
        if self._notifier is None or deletion is None or not _waits_for_clients(deletion):
            return False
        await self._notifier.tell(namespace, notification_id, deletion)
        if await self._namespaces.read(namespace, plan_observe(notification_id)) is None:
            # It was cancelled, maybe before the notifier heard of it.
            await self._notifier.withdraw(namespace, notification_id)
            return False
        return True

    def withdraw(self, namespace: str, notification_id: str) -> None:
        """A deletion was cancelled: have the notifier tell nobody else. Best effort, in the background: who is told
        all the same finds in the feed what is there.
        """
        if self._notifier is not None:
            task = asyncio.create_task(self._withdraw(self._notifier, namespace, notification_id))
            self._withdrawing.add(task)
            task.add_done_callback(self._withdrawing.discard)

    async def _withdraw(self, notifier: Notifier, namespace: str, notification_id: str) -> None:
        for _ in range(WITHDRAWALS):
            try:
                await notifier.withdraw(namespace, notification_id)
            except MoorageError as error:
                log.warning("a cancelled deletion is still told", extra={"reason": error.detail})
                await asyncio.sleep(SCAN_SECONDS)
            else:
                return

    async def close(self) -> None:
        """Stop; what is under way is taken up by the next scan of any server."""
        withdrawing = [*self._withdrawing]
        for task in withdrawing:
            task.cancel()
        await asyncio.gather(*withdrawing, return_exceptions=True)
        await self._pursuit.close()


def _waits_for_clients(deletion: Deletion) -> bool:
    return bool(deletion.clients) and deletion.step != PROCEED
