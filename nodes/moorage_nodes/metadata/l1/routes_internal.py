"""What the notification servers ask of L1 (PROTOCOL.md, Deletion 3 and 5)."""

from moorage.core.ids import parse_id
from moorage_nodes.metadata.l1.context import L1
from moorage_nodes.metadata.l1.deletion import plan_proceed
from moorage_nodes.metadata.l1.devices import plan_is_registered, plan_register
from moorage_nodes.peer_api import (
    DeletionStatusAnswer,
    DeletionStatusRequest,
    SeeClientAnswer,
    SeeClientRequest,
    TellDeletionAnswer,
    TellDeletionRequest,
)
from moorage_nodes.tokens import Allow, Audience
from moorage_nodes.web import Call, Routes

PEERS = Allow(frozenset({Audience.SERVICE_L1}))

routes: Routes[L1] = Routes()


@routes.post("/deletion_status", allow=PEERS, body=DeletionStatusRequest, answer=DeletionStatusAnswer)
async def deletion_status(call: Call[L1]) -> DeletionStatusAnswer:
    """The clients have answered, or their time is up. Answered the same when there is nothing to do any more."""
    body: DeletionStatusRequest = call.body
    namespace = parse_id(body.namespace, "namespace")
    notification_id = parse_id(body.notification_id, "notification_id")
    if await call.server.namespaces.change(namespace, plan_proceed(notification_id)):
        call.server.deletions.kick(namespace, notification_id)
    return DeletionStatusAnswer(status="proceed_with_deletion")


@routes.post("/internal/clients", allow=PEERS, body=SeeClientRequest, answer=SeeClientAnswer)
async def see_client(call: Call[L1]) -> SeeClientAnswer:
    """A client has connected; with `register` false, only whether it is registered."""
    body: SeeClientRequest = call.body
    namespace, client_id = parse_id(body.namespace, "namespace"), parse_id(body.client_id, "client_id")
    namespaces = call.server.namespaces
    if not body.register:
        known = await namespaces.read(namespace, lambda view: plan_is_registered(view, client_id))
        return SeeClientAnswer(registered=known)
    await namespaces.change(namespace, lambda view: plan_register(view, client_id, None))
    return SeeClientAnswer(registered=True)


@routes.post("/internal/tell_deletion", allow=PEERS, body=TellDeletionRequest, answer=TellDeletionAnswer)
async def tell_deletion(call: Call[L1]) -> TellDeletionAnswer:
    """A client knows of a deletion before the notification servers do: they are told now."""
    body: TellDeletionRequest = call.body
    namespace = parse_id(body.namespace, "namespace")
    notification_id = parse_id(body.notification_id, "notification_id")
    return TellDeletionAnswer(waits=await call.server.deletions.tell(namespace, notification_id))
