"""The one watch of a process, and who listens to it (DESIGN.md, Metadata in etcd: watches are multiplexed).

Everything that is told lies in etcd; the watch tells each process what came, and the hub hands it to those of its
listeners that it is for. What a listener missed before it came is read by itself (`Queue.waiting`); it drops what the
watch tells of revisions that it has read. Hints are not kept for anybody; those of the last minute are known here, for
a client whose last poll was answered by another process.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage_nodes.lru import Lru
from moorage_nodes.notify import keys
from moorage_nodes.notify.elapsed import ElapsedClock
from moorage_nodes.notify.keys import Hint, Notification, Queues
from moorage_nodes.notify.messages import encode_change, encode_delete
from moorage_nodes.stores.contracts import Event, KeyValue, MetadataStore, WatchBatch

log = logging.getLogger("moorage.hub")
SILENT_SECONDS = 15.0  # a watch tells at least every few seconds how far it is
RECENT_SECONDS = 60.0
MAX_RECENT = 20_000  # namespaces, about 6 MB


class Listener(Protocol):
    """Who is told. The calls come from the watch and must not wait."""

    @property
    def namespace(self) -> str: ...

    @property
    def client_id(self) -> str: ...

    def on_delete(self, revision: int, text: str) -> None:
        """A deletion waits for this client, since `revision`."""

    def on_change(self, text: str) -> None:
        """The namespace has changed."""

    def on_resync(self) -> None:
        """Start over: something that was to be told is lost."""


class Hub:
    """One per process: `open`, then `run` in a task of its own."""

    def __init__(
        self, store: MetadataStore, elapsed: ElapsedClock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._elapsed = elapsed
        self._monotonic = monotonic
        self._listeners: dict[str, dict[Listener, None]] = {}
        self._recent: Lru[str, tuple[float, bytes]] = Lru(MAX_RECENT)
        self._heard = monotonic()
        self._revision = 0

    async def open(self) -> None:
        """Fix where the watch begins. Listeners come afterwards, so that nothing lies between what one reads and
        what the watch tells.
        """
        _, self._revision = await self._store.range(keys.CLOCK, keys.CLOCK + b"\0", keys_only=True)

    def add(self, listener: Listener) -> None:
        self._listeners.setdefault(listener.namespace, {})[listener] = None

    def remove(self, listener: Listener) -> None:
        """Idempotent."""
        listeners = self._listeners.get(listener.namespace)
        if listeners is not None:
            listeners.pop(listener, None)
            if not listeners:
                del self._listeners[listener.namespace]

    def listeners(self) -> Iterator[Listener]:
        return (each for listeners in list(self._listeners.values()) for each in list(listeners))

    def count(self, namespace: str) -> int:
        return len(self._listeners.get(namespace, ()))

    def recent_change(self, namespace: str) -> str | None:
        """The newest hint, if it came within the last minute."""
        known = self._recent.get(namespace)
        if known is None or self._monotonic() - known[0] > RECENT_SECONDS:
            return None
        return encode_change(keys.decode(Hint, known[1]))

    async def run(self) -> None:
        """Follow the watch for ever; called again, it goes on where it was."""
        async with self._store.watch(*keys.WATCHED, from_revision=self._revision + 1) as batches:
            async for batch in batches:
                self._heard = self._monotonic()
                self.handle(batch)
                self._revision = max(self._revision, batch.revision)

    async def check(self) -> None:
        """StoreUnavailableError when the watch has been silent for too long."""
        if self._monotonic() - self._heard > SILENT_SECONDS:
            raise StoreUnavailableError("The watch on the queues is silent.")

    def handle(self, batch: WatchBatch) -> None:
        if batch.resync:
            log.warning("the watch lost events to compaction: all clients start over")
            for listener in self.listeners():
                listener.on_resync()
        for event in batch.events:
            try:
                self._tell(event)
            except MoorageError as error:  # a record of a newer server's; the next one is told all the same
                log.error("cannot tell", extra={"reason": error.detail})  # noqa: TRY400 the reason says it all

    def _tell(self, event: Event) -> None:
        kv = event.kv
        if event.deleted:
            return
        if kv.key == keys.CLOCK:
            self._elapsed.observe(kv)
            return
        prefix, rest = kv.key[:4], kv.key[4:]
        namespace = rest.split(b"/", 1)[0].decode()
        if prefix == keys.HINTS:
            self._recent.put(namespace, (self._monotonic(), kv.value))
        listeners = self._listeners.get(namespace)
        if not listeners:
            return
        if prefix == keys.NOTIFICATIONS:
            self._tell_notification(kv, listeners)
        elif prefix == keys.HINTS:
            text = encode_change(keys.decode(Hint, kv.value))
            for listener in list(listeners):
                listener.on_change(text)
        elif prefix == keys.QUEUES:
            waiting = keys.decode(Queues, kv.value).clients
            for listener in list(listeners):
                mine = waiting.get(listener.client_id)
                if mine is not None and mine.resync:
                    listener.on_resync()

    def _tell_notification(self, kv: KeyValue, listeners: dict[Listener, None]) -> None:
        if kv.version != 1:
            return  # an acknowledgement or the outcome: nobody is told
        notification = keys.decode(Notification, kv.value)
        text = encode_delete(keys.parse_notification(kv.key)[1], notification)
        for listener in list(listeners):
            if listener.client_id in notification.waiting:
                listener.on_delete(kv.mod_revision, text)
