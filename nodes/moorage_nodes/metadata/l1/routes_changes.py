"""L1's routes for devices and the change feed (PROTOCOL.md, Clients and changes)."""

from moorage.core.ids import parse_id, parse_name
from moorage.core.wire import ChangesAnswer, ClientAnswer, PutClientRequest
from moorage_nodes.metadata.l1.changes import parse_cursor, read_changes
from moorage_nodes.metadata.l1.context import L1, caller_of, change, repeat_of
from moorage_nodes.metadata.l1.devices import plan_register
from moorage_nodes.tokens import USER
from moorage_nodes.web import Call, Routes

PAGE = 1000
MAX_PAGE = 5000

routes: Routes[L1] = Routes()


@routes.put("/clients/{client_id}", allow=USER, body=PutClientRequest, answer=ClientAnswer)
async def put_client(call: Call[L1]) -> ClientAnswer:
    """Register a device, or tell that it is still there."""
    caller = caller_of(call)
    client_id = parse_id(call.path("client_id"), "client_id")
    name = parse_name(call.body.name)
    return await change(
        call.server,
        caller,
        lambda view: plan_register(view, client_id, name),
        repeat_of(call, "put_client", client_id, call.body),
        ClientAnswer,
    )


@routes.get("/changes", allow=USER, answer=ChangesAnswer)
async def changes(call: Call[L1]) -> ChangesAnswer:
    """What changed behind `?cursor=`; without it, everything that is there."""
    caller, server = caller_of(call), call.server
    limit = call.query_int("limit", low=1, high=MAX_PAGE) or PAGE
    text = call.query("cursor")
    cursor = None if text is None else parse_cursor(text, caller.namespace)
    return await read_changes(server.store, caller.namespace, server.incarnation, cursor, limit)
