"""L1's routes for making files and asking about them (PROTOCOL.md, Files)."""

from msgspec import UNSET

from moorage.core.ids import MAX_VERSION, parse_name, parse_path, root_id
from moorage.core.wire import CreateFileRequest, FileMetadataAnswer, NodeAnswer
from moorage_nodes.metadata.l1.context import L1, caller_of, change, repeat_of
from moorage_nodes.metadata.l1.files import parse_place, plan_create_file, plan_file_metadata
from moorage_nodes.tokens import USER
from moorage_nodes.web import Call, Routes

routes: Routes[L1] = Routes()


@routes.put("/create_file/{file_id}", allow=USER, body=CreateFileRequest, answer=NodeAnswer)
async def create_file(call: Call[L1]) -> NodeAnswer:
    """Make an empty file, version 0."""
    caller, body = caller_of(call), call.body
    file_id = caller.node_id(call.path("file_id"), "file_id")
    parent_id, parts = parse_place(
        None if body.parent_dir_id is UNSET else caller.node_id(body.parent_dir_id, "parent_dir_id"),
        None if body.name is UNSET else (parse_name(body.name),),
        None if body.path is UNSET else parse_path(body.path),
        root_id(caller.namespace),
    )
    id_base = call.server.new_id()
    return await change(
        call.server,
        caller,
        lambda view: plan_create_file(view, file_id, parent_id, parts, id_base),
        repeat_of(call, "create_file", file_id, body),
        NodeAnswer,
    )


@routes.get("/files/{file_id}/metadata", allow=USER, answer=FileMetadataAnswer)
async def file_metadata(call: Call[L1]) -> FileMetadataAnswer:
    """A file's current version, or the one of `?version=`."""
    caller = caller_of(call)
    file_id = caller.node_id(call.path("file_id"), "file_id")
    version = call.query_int("version", low=0, high=MAX_VERSION)
    l2_name = call.server.l2_name(call.request.headers.get("host"))
    return await call.server.namespaces.read(
        caller.namespace, lambda view: plan_file_metadata(view, file_id, version, l2_name)
    )
