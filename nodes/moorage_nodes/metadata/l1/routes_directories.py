"""L1's routes for directories and nodes (PROTOCOL.md, Directories)."""

from functools import partial

from msgspec import UNSET
from starlette.responses import Response

from moorage.core.errors import InvalidFieldError
from moorage.core.ids import parse_id, parse_name, parse_path
from moorage.core.wire import CreateDirectoryRequest, ListDirectoryAnswer, MoveRequest, NodeAnswer
from moorage_nodes.metadata.l1.context import L1, caller_of, change, repeat_of
from moorage_nodes.metadata.l1.directories import (
    Page,
    parse_cursor,
    plan_create_directory,
    plan_get_node,
    plan_list_directory,
    plan_resolve,
)
from moorage_nodes.metadata.l1.moves import Move, plan_move
from moorage_nodes.tokens import USER
from moorage_nodes.web import Call, Routes

MAX_PAGE = 10_000

routes: Routes[L1] = Routes()


@routes.put("/create_directory/{dir_id}", allow=USER, body=CreateDirectoryRequest, answer=NodeAnswer)
async def create_directory(call: Call[L1]) -> NodeAnswer:
    """Make a directory, and what is missing on the path to it."""
    caller = caller_of(call)
    directory_id = caller.node_id(call.path("dir_id"), "dir_id")
    parent_id = caller.node_id(call.body.parent_dir_id, "parent_dir_id")
    parts = parse_path(call.body.path)
    if not parts:
        raise InvalidFieldError("`path` must name a directory below the parent.", field="path")
    id_base = call.server.new_id()
    return await change(
        call.server,
        caller,
        lambda view: plan_create_directory(view, directory_id, parent_id, parts, id_base),
        repeat_of(call, "create_directory", directory_id, call.body),
        NodeAnswer,
    )


@routes.get("/list_directory/{dir_id}", allow=USER, answer=ListDirectoryAnswer)
async def list_directory(call: Call[L1]) -> Response:
    """What is in a directory: all of it, or a page with `?limit=` and `?cursor=`."""
    caller = caller_of(call)
    directory_id = caller.node_id(call.path("dir_id"), "dir_id")
    page = Page(
        call.query_int("limit", low=1, high=MAX_PAGE), parse_cursor(call.query("cursor"), directory_id)
    )
    answer = await call.server.namespaces.read(
        caller.namespace,
        partial(plan_list_directory, directory_id=directory_id, page=page, known=call.server.listings),
    )
    return Response(answer, media_type="application/json")


@routes.post("/move/{node_id}", allow=USER, body=MoveRequest, answer=NodeAnswer)
async def move(call: Call[L1]) -> NodeAnswer:
    """Rename or move a file or a directory."""
    caller, body = caller_of(call), call.body
    request = Move(
        caller.node_id(call.path("node_id"), "node_id"),
        caller.node_id(body.parent_dir_id, "parent_dir_id"),
        parse_name(body.name),
        None if body.meta_version is UNSET else body.meta_version,
        None if body.replace is UNSET else parse_id(body.replace.id, "replace.id"),
    )
    return await change(
        call.server,
        caller,
        lambda view: plan_move(view, request),
        repeat_of(call, "move", request.node_id, body),
        NodeAnswer,
    )


@routes.get("/resolve", allow=USER, answer=NodeAnswer)
async def resolve(call: Call[L1]) -> NodeAnswer:
    """The node at `?path=`."""
    caller = caller_of(call)
    path = call.query("path")
    if path is None:
        raise InvalidFieldError("`path` is required: `/resolve?path=/photos/2023`.", field="path")
    parts = parse_path(path)
    return await call.server.namespaces.read(caller.namespace, lambda view: plan_resolve(view, parts))


@routes.get("/nodes/{node_id}", allow=USER, answer=NodeAnswer)
async def get_node(call: Call[L1]) -> NodeAnswer:
    """A file or a directory with its path."""
    caller = caller_of(call)
    node_id = caller.node_id(call.path("node_id"), "node_id")
    return await call.server.namespaces.read(caller.namespace, lambda view: plan_get_node(view, node_id))
