"""The notification servers' routes (PROTOCOL.md, Deletion 2 to 4, and Clients and changes)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.responses import Response

from moorage.core.errors import InvalidFieldError, NotFoundError
from moorage.core.ids import parse_id
from moorage.core.routing import RoutingTable
from moorage.core.wire import AckDeletionAnswer, AckDeletionRequest
from moorage_nodes.admission import build_wrong_cluster
from moorage_nodes.generation import GenerationCache
from moorage_nodes.livefile import LiveFile
from moorage_nodes.notification_ids import belongs_to
from moorage_nodes.notify.clients import Clients
from moorage_nodes.notify.delivery import Delivery
from moorage_nodes.notify.hints import put_hints
from moorage_nodes.notify.keys import Notification
from moorage_nodes.notify.queue import Ask, Queue
from moorage_nodes.notify.settling import Settling
from moorage_nodes.peer_api import (
    HintsAnswer,
    HintsRequest,
    NotifyDeletionAnswer,
    NotifyDeletionRequest,
    WithdrawAnswer,
    WithdrawRequest,
)
from moorage_nodes.sockets import Socket
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.tokens import USER, Allow, Audience, Claims, Verifier
from moorage_nodes.web import Call, Routes

PEERS = Allow(frozenset({Audience.SERVICE_NOTIFY}))
NOTIFY_LIMIT = 512 * 1024
POLL_SECONDS = 30
MAX_POLL_SECONDS = 50  # less than proxies wait for an answer, ours and others'
BATCH = 100

AskL1 = Callable[[str, str, str], Awaitable[bool]]
"""Has L1 tell its notifier now of the deletion (server key, namespace, notification id); whether it waits for clients."""


@dataclass(slots=True)
class Notifier:
    """One notification server. `name` is the notifier's."""

    name: str
    store: MetadataStore
    queue: Queue
    delivery: Delivery
    settling: Settling
    ask_l1: AskL1
    clients: Clients
    routing: LiveFile[RoutingTable]
    verifier: Verifier
    generations: GenerationCache | None

    async def recheck(self, connection: HTTPConnection) -> None:
        """Is the token that it came with still good? TokenRefusedError when not."""
        claims = self.verifier.authenticate(USER, connection.headers.get("authorization"))
        if self.generations is not None and not self.generations.passes(claims):
            await self.generations.check(claims)


@dataclass(frozen=True, slots=True)
class Caller:
    namespace: str
    server_key: str


def caller_of(server: Notifier, claims: Claims, connection: HTTPConnection) -> Caller:
    """Who asks; `WrongClusterError` when the user's home has another notifier, or none."""
    home = claims.text("server_key")
    table = server.routing.value
    cluster = table.cluster(home)
    if cluster is None or server.name not in cluster.notifiers:
        raise build_wrong_cluster(home, table, connection.headers.get("host"))
    return Caller(claims.subject, home)


public: Routes[Notifier] = Routes()
internal: Routes[Notifier] = Routes()


@public.websocket("/ws", allow=USER)
async def listen(socket: Socket[Notifier]) -> None:
    """Messages for `?client_id=`, as they come (WebSocket)."""
    server = socket.server
    caller = caller_of(server, socket.claims, socket.connection)
    client_id = _client_id(socket.query("client_id"))
    await server.clients.see(caller.server_key, caller.namespace, client_id)
    await server.delivery.serve(socket, caller.namespace, client_id)


@public.get("/poll", allow=USER)
async def poll(call: Call[Notifier]) -> Response:
    """The next message for `?client_id=`, waiting up to `?timeout=` seconds; with `?batch=1` all there are."""
    server = call.server
    caller = caller_of(server, call.claims, call.request)
    client_id = _client_id(call.query("client_id"))
    seconds = call.query_int("timeout", low=0, high=86_400)
    batch = call.query_int("batch", low=0, high=1)
    seconds = POLL_SECONDS if seconds is None else min(seconds, MAX_POLL_SECONDS)
    await server.clients.see(caller.server_key, caller.namespace, client_id)
    messages = await server.delivery.poll(caller.namespace, client_id, seconds, BATCH if batch else 1)
    await server.recheck(call.request)
    if not messages:
        return Response(status_code=204)
    body = f'{{"messages":[{",".join(messages)}]}}' if batch else messages[0]
    return Response(body, media_type="application/json")


@public.post("/ack_deletion", allow=USER, body=AckDeletionRequest, answer=AckDeletionAnswer)
async def acknowledge(call: Call[Notifier]) -> AckDeletionAnswer:
    """A client has carried out a deletion, or will not."""
    server = call.server
    caller = caller_of(server, call.claims, call.request)
    notification_id = parse_id(call.body.notification_id, "notification_id")
    client_id = parse_id(call.body.client_id, "client_id")
    namespace = caller.namespace
    notification = await _note(server, caller, notification_id, client_id)
    if notification is not None and not notification.settled and notification.due == 0:
        server.settling.kick(namespace, notification_id)
    if notification is not None and not notification.skipped:
        known = client_id in notification.acknowledged or client_id in notification.waiting
    else:
        # Its clients are not all named, or nothing is kept of it any more.
        known = notification is not None or belongs_to(notification_id, namespace)
        known = known and await server.clients.is_registered(caller.server_key, namespace, client_id)
    if not known:
        raise NotFoundError("There is no such notification for this client.")
    return AckDeletionAnswer(status="acknowledged")


async def _note(
    server: Notifier, caller: Caller, notification_id: str, client_id: str
) -> Notification | None:
    """The notification as it stands with the acknowledgement; None when nothing is kept of it any more."""
    namespace = caller.namespace
    notification = await server.queue.acknowledge(namespace, notification_id, client_id)
    if notification is not None or not belongs_to(notification_id, namespace):
        return notification
    # The client may be faster than L1, which tells who deletes before it tells the notifier.
    if not await server.ask_l1(caller.server_key, namespace, notification_id):
        return None
    return await server.queue.acknowledge(namespace, notification_id, client_id)


def _client_id(text: str | None) -> str:
    if text is None:
        raise InvalidFieldError("`client_id` is required: the id of this device.", field="client_id")
    return parse_id(text, "client_id")


@internal.post(
    "/notify_deletion",
    allow=PEERS,
    body=NotifyDeletionRequest,
    answer=NotifyDeletionAnswer,
    limit=NOTIFY_LIMIT,
)
async def notify_deletion(call: Call[Notifier]) -> NotifyDeletionAnswer:
    """Have clients told of a deletion. Nothing is kept of its chunks: clients are told of nodes."""
    body: NotifyDeletionRequest = call.body
    for field, value in (("namespace", body.namespace), ("notification_id", body.notification_id)):
        parse_id(value, field)
    if body.part.last:
        clients = [parse_id(each, "client_ids") for each in body.client_ids]
        ask = Ask(
            body.namespace,
            body.notification_id,
            body.server_key,
            parse_id(body.file_id, "file_id"),
            body.node,
            clients,
        )
        await call.server.queue.enqueue(ask)
    return NotifyDeletionAnswer(status="notifications_queued")


@internal.post("/internal/withdraw", allow=PEERS, body=WithdrawRequest, answer=WithdrawAnswer)
async def withdraw(call: Call[Notifier]) -> WithdrawAnswer:
    """What was being deleted has been brought back."""
    namespace = parse_id(call.body.namespace, "namespace")
    notification_id = parse_id(call.body.notification_id, "notification_id")
    return WithdrawAnswer(withdrawn=await call.server.queue.withdraw(namespace, notification_id))


@internal.post("/internal/changes", allow=PEERS, body=HintsRequest, answer=HintsAnswer, limit=NOTIFY_LIMIT)
async def tell_changes(call: Call[Notifier]) -> HintsAnswer:
    """Hint to whoever waits that namespaces have changed."""
    changes = call.body.changes
    for change in changes:
        parse_id(change.namespace, "namespace")
    await put_hints(call.server.store, changes)
    return HintsAnswer(told=len(changes))
