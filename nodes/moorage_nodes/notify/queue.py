"""What waits for whom: notifications, acknowledgements and their outcome, each one transaction in etcd.

Decisions are pure (`plan_*`: what stands → what is to be written); `Queue` reads, writes with compares of all that was
read, and decides anew when somebody else was first. Every call is idempotent: the same again finds its own result. A
process killed before or after any write leaves a whole state behind, in which `t/` names all that is still to be done.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from moorage.core.errors import RequestRefusedError, StoreUnavailableError
from moorage_nodes.notify import keys
from moorage_nodes.notify.elapsed import Reading, parse_reading
from moorage_nodes.notify.keys import Notification, Queues, Waiting
from moorage_nodes.stores.contracts import (
    Compare,
    Delete,
    KeyValue,
    MetadataStore,
    Op,
    Put,
    Range,
    Txn,
    unchanged,
)

MAX_ATTEMPTS = 60
REMEMBERED_SECONDS = 2 * 24 * 3600  # a settled notification, at least half of it: for what is repeated late
PAGE = 200


@dataclass(frozen=True, slots=True)
class Ask:
    """A deletion that `clients` of `namespace` are to be told of; `kind`: "file" or "directory"."""

    namespace: str
    notification_id: str
    server_key: str
    node: str
    kind: str
    clients: Sequence[str]


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands of one notification. None: nothing."""

    notification: Notification | None
    queues: Queues


@dataclass(frozen=True, slots=True)
class Written:
    """What a plan writes: None leaves the notification as it is. `due`: the key under `t/`, before and after."""

    notification: Notification
    queues: Queues
    due_before: int | None = None
    due: int | None = None


def plan_enqueue(ask: Ask, standing: Standing, *, due: int, deadline: int, limit: int) -> Written | None:
    """None when it stands already. A client whose queue is full is told to start over instead, and nothing more is
    kept for it until then: so what a user's clients leave behind is bounded.

    When it was settled L1 has forgotten so (its store was restored, say), or asks late: it is open again, and L1 is
    told the outcome once more when that is due, which it is unless the deletion was cancelled.
    """
    if standing.notification is not None:
        return _open_again(standing.notification, standing.queues)
    queues = standing.queues
    sequence = queues.sequence + 1
    clients = dict(queues.clients)
    asked = sorted(set(ask.clients))
    told: list[str] = []
    for client_id in asked:
        mine = clients.get(client_id, Waiting())
        if mine.full:
            continue
        if mine.count >= limit:
            clients[client_id] = Waiting(0, sequence, resync=True, full=True)
            continue
        clients[client_id] = replace(mine, count=mine.count + 1)
        told.append(client_id)
    notification = Notification(
        1,
        ask.server_key,
        ask.node,
        ask.kind,
        deadline,
        due if asked else 0,
        sequence,
        told,
        skipped=len(asked) - len(told),
    )
    after = Queues(1, sequence, queues.open + 1, clients)
    return Written(notification, after, due=notification.due)


def _open_again(notification: Notification, queues: Queues) -> Written | None:
    """The inverse of `plan_settle`."""
    if not notification.settled:
        return None
    clients = _count(queues, notification.sequence, notification.waiting, 1)
    after = Queues(1, queues.sequence, queues.open + 1, clients)
    return Written(replace(notification, settled=False), after, due=notification.due)


def plan_acknowledge(client_id: str, standing: Standing) -> Written | None:
    """None when there is nothing to write: acknowledged already, settled, or not this client's."""
    notification, queues = standing.notification, standing.queues
    if notification is None or notification.settled or client_id not in notification.waiting:
        return None
    left = [each for each in notification.waiting if each != client_id]
    after = replace(
        notification,
        waiting=left,
        acknowledged=[*notification.acknowledged, client_id],
        due=notification.due if left or notification.skipped else 0,
    )
    clients = _without(queues, notification.sequence, [client_id])
    return Written(after, replace(queues, clients=clients), due_before=notification.due, due=after.due)


def plan_settle(standing: Standing) -> Written | None:
    """The outcome is told: what is left is a memory. None when that is so already."""
    notification, queues = standing.notification, standing.queues
    if notification is None or notification.settled:
        return None
    after = Queues(
        1,
        queues.sequence,
        max(0, queues.open - 1),
        _without(queues, notification.sequence, notification.waiting),
    )
    return Written(replace(notification, settled=True), after, due_before=notification.due)


def _without(queues: Queues, sequence: int, client_ids: Sequence[str]) -> dict[str, Waiting]:
    """The clients' queues when this notification waits no more for `client_ids`."""
    return _count(queues, sequence, client_ids, -1)


def _count(queues: Queues, sequence: int, client_ids: Sequence[str], more: int) -> dict[str, Waiting]:
    clients = dict(queues.clients)
    for client_id in client_ids:
        mine = clients.get(client_id, Waiting())
        if sequence > mine.behind:
            clients[client_id] = replace(mine, count=max(0, mine.count + more))
    return clients


def plan_queues(queues: Queues) -> Queues | None:
    """What is kept of a namespace's queues: None, nothing. A place that nothing open lies before is forgotten."""
    clients = {
        client_id: mine
        for client_id, mine in queues.clients.items()
        if mine.count or mine.resync or (queues.open and mine.behind)
    }
    return replace(queues, clients=clients) if queues.open or clients else None


@dataclass(frozen=True, slots=True)
class Look:
    """What waits for a client as of `revision`: pages of (notification id, notification), oldest first within each.
    `resync`: it is to be told to start over first. The pages raise CompactedError when reading takes too long.
    """

    revision: int
    resync: bool
    pages: AsyncIterator[list[tuple[str, Notification]]]


@dataclass(frozen=True, slots=True)
class _Found:
    namespace: str
    notification_id: str
    standing: Standing
    compares: tuple[Compare, ...]
    others: Mapping[bytes, KeyValue]


def is_told(notification: Notification, client_id: str, behind: int) -> bool:
    """Whether a notification still waits for a client whose queue begins behind `behind`."""
    return not notification.settled and notification.sequence > behind and client_id in notification.waiting


class _Memory:
    """The lease that settled notifications stand under: shared, so that there are few."""

    def __init__(self, store: MetadataStore, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._lease = 0
        self._until = 0.0

    async def lease(self) -> int:
        """One that lives on for at least half of `REMEMBERED_SECONDS`."""
        if not self._lease or self._monotonic() >= self._until:
            until = self._monotonic() + REMEMBERED_SECONDS / 2
            self._lease, self._until = await self._store.grant_lease(REMEMBERED_SECONDS), until
        return self._lease

    def lease_lost(self) -> None:
        self._lease = 0


class Queue:
    """One per process. `limit`: notifications that wait for one client; `ack_deadline`: seconds."""

    def __init__(
        self,
        store: MetadataStore,
        *,
        limit: int,
        ack_deadline: int,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._store = store
        self._limit = limit
        self._ack_deadline = ack_deadline
        self._clock = clock
        self._rng = rng
        self._memory = _Memory(store, monotonic)

    async def enqueue(self, ask: Ask) -> None:
        """Have the clients told. Durable when it returns; the same again changes nothing, and when it is over has L1
        told the outcome once more.
        """
        clock_key = keys.CLOCK
        deadline = int((self._clock() + self._ack_deadline) * 1000)

        async def attempt() -> bool:
            found = await self._read(ask.namespace, ask.notification_id, clock_key)
            if clock_key not in found.others:
                raise StoreUnavailableError("The notifier's clock is gone from its store.")
            reading: Reading = parse_reading(found.others[clock_key])
            written = plan_enqueue(
                ask,
                found.standing,
                due=reading.due_after(self._ack_deadline),
                deadline=deadline,
                limit=self._limit,
            )
            return written is None or await self._write(found, written, reading.stands())

        await self._until(attempt)

    async def acknowledge(self, namespace: str, notification_id: str, client_id: str) -> Notification | None:
        """Note a client's acknowledgement; the notification as it stands then, None when there is none.

        It holds `client_id` in `acknowledged`, unless it was settled before or is not for this client.
        """
        outcome: list[Notification | None] = []

        async def attempt() -> bool:
            found = await self._read(namespace, notification_id)
            written = plan_acknowledge(client_id, found.standing)
            if written is not None and not await self._write(found, written):
                return False
            outcome.append(found.standing.notification if written is None else written.notification)
            return True

        await self._until(attempt)
        return outcome[-1]

    async def settle(self, namespace: str, notification_id: str) -> None:
        """Nobody is told any more, and nothing is due. Idempotent."""

        async def attempt() -> bool:
            found = await self._read(namespace, notification_id)
            written = plan_settle(found.standing)
            return written is None or await self._write(found, written, lease=await self._memory.lease())

        await self._until(attempt)

    async def withdraw(self, namespace: str, notification_id: str) -> bool:
        """Nobody else is told, and L1 neither: what was to be deleted is back. Whether it stood. Idempotent."""
        notification = await self.get(namespace, notification_id)
        if notification is None or notification.settled:
            return False
        await self.settle(namespace, notification_id)
        return True

    async def forget_resync(self, namespace: str, client_id: str) -> None:
        """The client has been told to start over."""
        await self._change_queue(namespace, client_id, resync=False)

    async def ask_resync(self, namespace: str, client_id: str) -> None:
        """Tell the client to start over, when it comes next."""
        await self._change_queue(namespace, client_id, resync=True)

    async def _change_queue(self, namespace: str, client_id: str, *, resync: bool) -> None:
        key = keys.queues(namespace)

        async def attempt() -> bool:
            kv = await self._store.get(key)
            queues = _parse_queues(kv)
            mine = queues.clients.get(client_id, Waiting())
            if mine.resync == resync:
                return True
            changed = replace(mine, resync=resync, full=mine.full and resync)
            clients = {**queues.clients, client_id: changed}
            write = _put_queues(namespace, replace(queues, clients=clients))
            txn = Txn((unchanged(key, kv.mod_revision if kv else 0),), (write,))
            return (await self._store.transact(txn)).succeeded

        await self._until(attempt)

    # --- reading --------------------------------------------------------------------------------------------------

    async def get(self, namespace: str, notification_id: str) -> Notification | None:
        kv = await self._store.get(keys.notification(namespace, notification_id))
        return None if kv is None else keys.decode(Notification, kv.value)

    async def waiting(self, namespace: str, client_id: str) -> "Look":
        """What waits for a client, as of one revision. One read when nothing does."""
        key = keys.queues(namespace)
        first = Range(*keys.notifications_range(namespace), PAGE)
        snapshot = await self._store.get_many([key])
        queues = _parse_queues(snapshot.found.get(key))
        if not queues.open:
            mine = queues.clients.get(client_id, Waiting())
            return Look(snapshot.revision, resync=mine.resync, pages=_no_pages())
        snapshot = await self._store.get_many([key, first])
        mine = _parse_queues(snapshot.found.get(key)).clients.get(client_id, Waiting())
        pages = self._pages(namespace, client_id, mine.behind, snapshot.ranges[first].kvs, snapshot.revision)
        return Look(snapshot.revision, resync=mine.resync, pages=pages)

    async def _pages(
        self, namespace: str, client_id: str, behind: int, kvs: Sequence[KeyValue], revision: int
    ) -> AsyncIterator[list[tuple[str, Notification]]]:
        while True:
            ordered = sorted(kvs, key=lambda kv: kv.create_revision)
            page = [
                (keys.parse_notification(kv.key)[1], keys.decode(Notification, kv.value)) for kv in ordered
            ]
            yield [(each, n) for each, n in page if is_told(n, client_id, behind)]
            if len(kvs) < PAGE:
                return
            last = max(kv.key for kv in kvs)
            start, end = last + b"\0", keys.notifications_range(namespace)[1]
            found, _ = await self._store.range(start, end, revision=revision, limit=PAGE)
            kvs = found.kvs

    async def due(self, until: int, limit: int) -> list[tuple[int, str, str]]:
        """(due, namespace, notification id) of up to `limit` that are due at `until` elapsed milliseconds."""
        found, _ = await self._store.range(*keys.due_range(until), limit=limit, keys_only=True)
        return [keys.parse_due(kv.key) for kv in found.kvs]

    # --- writing --------------------------------------------------------------------------------------------------

    async def _read(self, namespace: str, notification_id: str, *others: bytes) -> "_Found":
        notification_key, queues_key = keys.notification(namespace, notification_id), keys.queues(namespace)
        found = (await self._store.get_many([notification_key, queues_key, *others])).found
        kv, queues_kv = found.get(notification_key), found.get(queues_key)
        standing = Standing(
            None if kv is None else keys.decode(Notification, kv.value), _parse_queues(queues_kv)
        )
        compares = (
            unchanged(notification_key, kv.mod_revision if kv else 0),
            unchanged(queues_key, queues_kv.mod_revision if queues_kv else 0),
        )
        return _Found(namespace, notification_id, standing, compares, found)

    async def _write(self, found: "_Found", written: Written, *compares: Compare, lease: int = 0) -> bool:
        namespace, notification_id = found.namespace, found.notification_id
        key = keys.notification(namespace, notification_id)
        writes: list[Op] = [
            Put(key, keys.encode(written.notification), lease),
            _put_queues(namespace, written.queues),
        ]
        if written.due != written.due_before:
            if written.due_before is not None:
                writes.append(Delete(keys.due(written.due_before, namespace, notification_id)))
            if written.due is not None:
                writes.append(Put(keys.due(written.due, namespace, notification_id), b"\x91\x01"))
        try:
            result = await self._store.transact(Txn((*found.compares, *compares), tuple(writes)))
        except RequestRefusedError:
            if not lease:
                raise
            self._memory.lease_lost()
            return False
        return result.succeeded

    async def _until(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        for number in range(MAX_ATTEMPTS):
            if await attempt():
                return
            await asyncio.sleep(self._rng.uniform(0, 0.002 * (1 + number)))
        raise StoreUnavailableError("Too many others change these queues at the same time; try again.")


def _parse_queues(kv: KeyValue | None) -> Queues:
    return Queues(1) if kv is None else keys.decode(Queues, kv.value)


def _put_queues(namespace: str, queues: Queues) -> Op:
    kept = plan_queues(queues)
    key = keys.queues(namespace)
    return Delete(key) if kept is None else Put(key, keys.encode(kept))


async def _no_pages() -> AsyncIterator[list[tuple[str, Notification]]]:
    return
    yield []
