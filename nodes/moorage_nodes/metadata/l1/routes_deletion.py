"""L1's routes for deleting and bringing back (PROTOCOL.md, Deletion)."""

from msgspec import UNSET, UnsetType

from moorage.core.ids import parse_id, parse_name
from moorage.core.wire import (
    DeleteDirectoryRequest,
    DeleteFileRequest,
    DeletionAnswer,
    NodeAnswer,
    TrashAnswer,
    UndeleteRequest,
)
from moorage_nodes.metadata.l1.context import L1, Caller, caller_of, change, repeat_of
from moorage_nodes.metadata.l1.deletion import (
    Delete,
    plan_delete_directory,
    plan_delete_file,
    plan_find_pending,
    plan_observe,
)
from moorage_nodes.metadata.l1.trash import parse_cursor, plan_list_trash, plan_undelete
from moorage_nodes.notification_ids import build_notification_id
from moorage_nodes.tokens import USER
from moorage_nodes.web import Call, Routes

PAGE = 1000
MAX_PAGE = 10_000

routes: Routes[L1] = Routes()


@routes.delete("/delete_file/{file_id}", allow=USER, body=DeleteFileRequest, answer=DeletionAnswer)
async def delete_file(call: Call[L1]) -> DeletionAnswer:
    """Take a file out of the tree."""
    caller, body = caller_of(call), call.body
    delete = _parse_delete(call, caller, call.path("file_id"), "file_id", body.client_id)
    answer = await change(
        call.server,
        caller,
        lambda view: plan_delete_file(view, delete, body.client_version),
        repeat_of(call, "delete_file", delete.node_id, body),
        DeletionAnswer,
    )
    call.server.deletions.kick(caller.namespace, answer.notification_id)
    return answer


@routes.delete("/delete_directory/{dir_id}", allow=USER, body=DeleteDirectoryRequest, answer=DeletionAnswer)
async def delete_directory(call: Call[L1]) -> DeletionAnswer:
    """Take a directory out of the tree, with `recursive` also one that is not empty."""
    caller, body = caller_of(call), call.body
    delete = _parse_delete(call, caller, call.path("dir_id"), "dir_id", body.client_id)
    answer = await change(
        call.server,
        caller,
        lambda view: plan_delete_directory(view, delete, recursive=body.recursive),
        repeat_of(call, "delete_directory", delete.node_id, body),
        DeletionAnswer,
    )
    call.server.deletions.kick(caller.namespace, answer.notification_id)
    return answer


@routes.post("/undelete/{file_id}", allow=USER, body=UndeleteRequest, body_optional=True, answer=NodeAnswer)
async def undelete(call: Call[L1]) -> NodeAnswer:
    """Bring back what was deleted, a directory with all that was below it."""
    caller = caller_of(call)
    body: UndeleteRequest = call.body or UndeleteRequest()
    node_id = caller.node_id(call.path("file_id"), "file_id")
    parent_id = None
    if body.parent_dir_id is not UNSET:
        parent_id = caller.node_id(body.parent_dir_id, "parent_dir_id")
    name = None if body.name is UNSET else parse_name(body.name)
    pending = await call.server.namespaces.read(caller.namespace, plan_find_pending(node_id))
    answer = await change(
        call.server,
        caller,
        lambda view: plan_undelete(view, node_id, parent_id, name),
        repeat_of(call, "undelete", node_id, body),
        NodeAnswer,
    )
    if pending and await call.server.namespaces.read(caller.namespace, plan_observe(pending)) is None:
        # Not so where a repeat was answered from memory: what is pending now has come since.
        call.server.deletions.withdraw(caller.namespace, pending)
    return answer


@routes.get("/trash", allow=USER, answer=TrashAnswer)
async def list_trash(call: Call[L1]) -> TrashAnswer:
    """What is deleted and can be brought back."""
    caller = caller_of(call)
    limit = call.query_int("limit", low=1, high=MAX_PAGE) or PAGE
    after = parse_cursor(call.query("cursor"))
    return await call.server.namespaces.read(
        caller.namespace, lambda view: plan_list_trash(view, after, limit)
    )


def _parse_delete(
    call: Call[L1], caller: Caller, text: str, field: str, client_id: str | UnsetType
) -> Delete:
    return Delete(
        caller.node_id(text, field),
        "" if client_id is UNSET else parse_id(client_id, "client_id"),
        build_notification_id(caller.namespace, call.server.rng),
    )
