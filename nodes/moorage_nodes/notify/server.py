"""The notification server: queues, acknowledgements and deadlines are in etcd alone, so any replica serves any client."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric

from moorage.core.errors import InvalidFieldError
from moorage.core.routing import notify_prefix
from moorage_nodes.metadata_store import open_over_etcd
from moorage_nodes.metrics import Metrics
from moorage_nodes.notify.clients import Clients
from moorage_nodes.notify.delivery import Delivery
from moorage_nodes.notify.elapsed import ElapsedClock, choose_step
from moorage_nodes.notify.hub import Hub
from moorage_nodes.notify.identity import open_realm
from moorage_nodes.notify.keys import Notification
from moorage_nodes.notify.queue import Queue
from moorage_nodes.notify.routes import AskL1, Notifier, internal, public
from moorage_nodes.notify.settling import Settling, Tell
from moorage_nodes.peer_api import (
    DeletionStatusAnswer,
    DeletionStatusRequest,
    TellDeletionAnswer,
    TellDeletionRequest,
)
from moorage_nodes.realm import fetch_realm
from moorage_nodes.server import Server, Shared
from moorage_nodes.settings import Settings
from moorage_nodes.stores.contracts import MetadataStore

log = logging.getLogger("moorage.notify")
RESTART_SECONDS = 1.0


async def open_server(settings: Settings, shared: Shared) -> Server[Notifier]:
    """InvalidFieldError when the settings lack `etcd` or `notify`; StoreUnavailableError when etcd or the auth
    servers cannot be reached; WrongRealmError when the queues there are another realm's.
    """

    async def over(store: MetadataStore) -> Server[Notifier]:
        realm_id = await fetch_realm(shared.peers.auth())
        return await open_on(store, realm_id, settings, shared)

    return await open_over_etcd("A notification server", settings, shared, over)


async def open_on(
    store: MetadataStore, realm_id: str, settings: Settings, shared: Shared
) -> Server[Notifier]:
    """The server over a store that is open; it closes the store."""
    notify = settings.notify
    if notify is None:
        raise InvalidFieldError(
            "A notification server needs `notify` in its settings.", field="settings.notify"
        )
    await open_realm(store, realm_id)
    queue = Queue(
        store,
        limit=notify.queue_limit,
        ack_deadline=notify.ack_deadline,
        clock=shared.clock,
        monotonic=time.monotonic,
        rng=shared.rng,
    )
    elapsed = ElapsedClock(store, step=choose_step(notify.ack_deadline), monotonic=time.monotonic)
    settling = Settling(queue, elapsed, _telling(shared))
    hub = Hub(store, elapsed)
    await elapsed.open()
    await hub.open()
    elapsed.subscribe(settling.on_advance)
    delivery = Delivery(queue, hub)
    notifier = Notifier(
        name=notify.name,
        store=store,
        queue=queue,
        delivery=delivery,
        settling=settling,
        ask_l1=_asking(shared),
        clients=Clients(shared.peers.l1),
        routing=shared.routing,
        verifier=shared.verifier,
        generations=shared.generations,
    )
    running = [
        asyncio.create_task(_keep_running(each))
        for each in (elapsed.run, hub.run, settling.run, partial(delivery.sweep, notifier.recheck))
    ]

    _measure(shared.metrics, notifier, elapsed)

    async def status() -> dict[str, Any]:
        return {"realm_id": realm_id, "connections": delivery.connections, "polls": delivery.polls}

    async def close() -> None:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await settling.close()
        await delivery.close()
        await store.close()

    return Server(
        context=notifier,
        prefix=notify_prefix(notify.name),
        public=public,
        internal=internal,
        unprefixed=public,
        checks={"etcd": store.check, "watch": hub.check},
        status=status,
        drain=delivery.drain,
        close=close,
    )


async def _keep_running(run: Callable[[], Awaitable[None]]) -> None:
    """What runs for ever does: clients would wait in vain for what has ended unseen."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("a part of the server failed; it goes on")
        await asyncio.sleep(RESTART_SECONDS)


def _measure(metrics: Metrics, notifier: Notifier, elapsed: ElapsedClock) -> None:
    delivery = notifier.delivery
    metrics.gauge("notify_connections", "WebSockets that are open.", lambda: delivery.connections)
    metrics.gauge("notify_polls", "Polls that wait.", lambda: delivery.polls)
    metrics.gauge(
        "notify_elapsed_seconds", "The clock of deadlines, as known here.", lambda: elapsed.elapsed / 1000
    )

    def count() -> Iterator[Metric]:
        for name, documentation, value in (
            ("messages", "Messages handed to clients.", delivery.told),
            ("resyncs", "Clients told to start over.", delivery.resyncs),
            ("drops", "Slow readers let go.", delivery.drops),
            ("settled", "Outcomes told to L1.", notifier.settling.settled),
        ):
            yield CounterMetricFamily(f"moorage_notify_{name}", documentation, value=value)

    metrics.add(count)


def _telling(shared: Shared) -> Tell:
    async def tell(namespace: str, notification_id: str, notification: Notification) -> None:
        request = DeletionStatusRequest(
            namespace=namespace,
            notification_id=notification_id,
            acknowledged_clients=notification.acknowledged,
            unresponsive_clients=notification.waiting,
        )
        await shared.peers.l1(notification.server_key).post("/deletion_status", request, DeletionStatusAnswer)

    return tell


def _asking(shared: Shared) -> AskL1:
    async def ask(server_key: str, namespace: str, notification_id: str) -> bool:
        request = TellDeletionRequest(namespace=namespace, notification_id=notification_id)
        answer = await shared.peers.l1(server_key).post(
            "/internal/tell_deletion", request, TellDeletionAnswer
        )
        return answer.waits

    return ask
