"""Rename and move: one plan for files and directories, with or without something to replace (PROTOCOL.md)."""

from dataclasses import dataclass

from msgspec.structs import replace

from moorage.core.errors import ConflictError, CycleError, ReplaceTargetError
from moorage.core.ids import root_id
from moorage.core.wire import NodeAnswer
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.deletion import put_trash
from moorage_nodes.metadata.l1.directories import build_node_answer
from moorage_nodes.metadata.l1.tree import (
    locate,
    name_taken,
    need_place,
    observe_changeable,
    observe_child,
    observe_live_directory,
    observe_node,
    put_node,
    refuse_too_deep,
)
from moorage_nodes.metadata.records import DELETED, FILE, Child, Node
from moorage_nodes.metadata.view import View


@dataclass(frozen=True, slots=True)
class Move:
    """Where a node goes; `meta_version` that the client saw, `replace_id` of the file it takes the place of."""

    node_id: str
    parent_id: str
    name: str
    meta_version: int | None = None
    replace_id: str | None = None


def plan_move(view: View, move: Move) -> NodeAnswer:
    """Put a node at another place: `meta_version` rises by 1, nothing else changes. To where it is: no change.

    404 and 410 for the node and the new parent, 409 `conflict` (stale `meta_version`), `cycle`, `name_taken`,
    `replace_target`, `not_a_directory` (the new parent is a file), `pending_deletion`, `too_deep`.
    """
    if move.node_id == root_id(view.namespace):
        raise CycleError("The root directory cannot be moved: everything lies below it.")
    need_place(view, move.node_id, move.parent_id, move.name)
    located = observe_changeable(view, move.node_id)
    node = located.node
    if (node.parent, node.name) == (move.parent_id, move.name):
        # A repeat finds its own result: one more than the version that it was sent for.
        _refuse_stale(node, move, {node.meta_version, node.meta_version - 1})
        return build_node_answer(located)
    _refuse_stale(node, move, {node.meta_version})
    parent = observe_live_directory(view, move.parent_id, to_change=True)
    if move.node_id == move.parent_id or any(above == move.node_id for above, _ in parent.ancestors):
        raise CycleError(f"{move.node_id!r} cannot be moved into itself or below itself.")
    refuse_too_deep(len(parent.ancestors) + 1)
    _make_room(view, move, node)
    view.delete(keys.child(view.namespace, node.parent, node.name))
    view.put(keys.child(view.namespace, move.parent_id, move.name), Child(1, node.kind, move.node_id))
    moved = replace(node, parent=move.parent_id, name=move.name, meta_version=node.meta_version + 1)
    put_node(view, "move", move.node_id, moved, left=node)
    return build_node_answer(locate(view, move.node_id))


def _refuse_stale(node: Node, move: Move, current: set[int]) -> None:
    if move.meta_version is not None and move.meta_version not in current:
        raise ConflictError(
            f"{move.node_id!r} was moved meanwhile: it is at meta_version {node.meta_version}.",
            server_version=node.version,
            meta_version=node.meta_version,
        )


def _make_room(view: View, move: Move, node: Node) -> None:
    holder = observe_child(view, move.parent_id, move.name)
    if holder is None:
        if move.replace_id is not None:
            raise ReplaceTargetError(f"There is nothing at {move.name!r} to replace.")
        return
    if move.replace_id != holder.id:
        raise name_taken(move.name, holder)
    replaced = observe_node(view, holder.id)
    if node.kind != FILE or replaced is None or replaced.kind != FILE:
        raise ReplaceTargetError("Only a file can be replaced, and only by a file.", id=holder.id)
    plan_retire_replaced(view, holder.id, replaced)


def plan_retire_replaced(view: View, file_id: str, replaced: Node) -> None:
    """The file leaves the tree: it is deleted in the step that puts another one in its place.

    As every deletion this raises its version by 1. The record keeps its last place and content, and its manifests
    stay: it counts as retained, and can be brought back, until the collector of the trash lets it go. The child
    key is the caller's: it now names the file that was moved.
    """
    put_node(view, "replace", file_id, replace(replaced, version=replaced.version + 1, state=DELETED))
    put_trash(view, file_id)
