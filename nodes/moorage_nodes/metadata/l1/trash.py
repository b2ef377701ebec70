"""The trash: what is deleted and can be brought back (PROTOCOL.md, Deletion). Pure plans."""

import base64
import binascii

from msgspec import UNSET
from msgspec.structs import replace

from moorage.core.errors import (
    DamagedTreeError,
    GoneError,
    InvalidFieldError,
    MoorageError,
    NotDeletedError,
    NotFoundError,
    PlaceGoneError,
)
from moorage.core.ids import parse_id, root_id
from moorage.core.times import format_time
from moorage.core.wire import NodeAnswer, TrashAnswer, TrashEntry
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.deletion import end_deletion, observe_content, put_content
from moorage_nodes.metadata.l1.directories import build_node_answer
from moorage_nodes.metadata.l1.tree import (
    Located,
    locate,
    name_taken,
    observe_changeable,
    observe_child,
    observe_live_directory,
    observe_node,
    put_node,
    refuse_too_deep,
)
from moorage_nodes.metadata.records import (
    FILE,
    KIND_NAMES,
    LIVE,
    PENDING_DELETION,
    Child,
    Node,
    Trash,
)
from moorage_nodes.metadata.view import RangeKey, View

MAX_CURSOR_CHARS = 256


def plan_undelete(view: View, node_id: str, parent_id: str | None, name: str | None) -> NodeAnswer:
    """Bring a node back, and with a directory all that was below it: its version rises by 1, with its content.

    While the deletion is pending this cancels it. `parent_id`, `name`: where it goes, if not to its old place. The
    same again: the same answer. 404; 410 once the trash has let go; 409 `place_gone` (its old directory), 409
    `name_taken`, `not_deleted`, and for a given parent what `observe_live_directory` refuses.
    """
    namespace = view.namespace
    if node_id == root_id(namespace):
        raise NotDeletedError("The root directory is never deleted.")
    view.need([keys.node(namespace, node_id), keys.trash(namespace, node_id)])
    node = observe_node(view, node_id)
    if node is None:
        raise NotFoundError(f"There is no {node_id!r}.")
    wanted = parent_id or node.parent, name or node.name
    if node.state == LIVE:
        located = observe_changeable(view, node_id)
        if wanted != (node.parent, node.name):
            raise NotDeletedError(f"{node_id!r} is not deleted; move it.")
        return build_node_answer(located)
    if node.state != PENDING_DELETION and view.record(Trash, keys.trash(namespace, node_id)) is None:
        raise GoneError(f"{node_id!r} is deleted, and no longer in the trash.")
    _refuse_place(view, parent_id, *wanted)
    return _bring_back(view, node_id, node, *wanted)


def _refuse_place(view: View, given: str | None, parent_id: str, name: str) -> None:
    parent = observe_live_directory(view, given, to_change=True) if given else _old_parent(view, parent_id)
    refuse_too_deep(len(parent.ancestors) + 1)
    holder = observe_child(view, parent_id, name)
    if holder is not None:
        raise name_taken(name, holder)


def _old_parent(view: View, parent_id: str) -> Located:
    try:
        return observe_live_directory(view, parent_id, to_change=True)
    except DamagedTreeError:
        raise
    except MoorageError:
        raise PlaceGoneError(
            "The directory that it was in is not there any more: name another one in `parent_dir_id`.",
            old_parent_dir_id=parent_id,
        ) from None


def _bring_back(view: View, node_id: str, node: Node, parent_id: str, name: str) -> NodeAnswer:
    namespace = view.namespace
    moved = (parent_id, name) != (node.parent, node.name)
    back = replace(
        node,
        state=LIVE,
        parent=parent_id,
        name=name,
        version=node.version + 1,
        meta_version=node.meta_version + moved,
        deletion="",
    )
    if node.kind == FILE:
        content = observe_content(view, node_id, node, node.version - 1)  # its own version has none
        back = put_content(view, node_id, back, content, "undelete")
    view.put(keys.child(namespace, parent_id, name), Child(1, node.kind, node_id))
    put_node(view, "undelete", node_id, back)
    if node.state == PENDING_DELETION:
        end_deletion(view, node.deletion)
    else:
        view.delete(keys.trash(namespace, node_id))
    return build_node_answer(locate(view, node_id))


# --- listing ---------------------------------------------------------------------------------------------------


def build_cursor(after: str) -> str:
    return base64.urlsafe_b64encode(b"t" + after.encode()).decode().rstrip("=")


def parse_cursor(text: str | None) -> str | None:
    """The id that a page of the trash stands behind; 422 for anything else than a `next_cursor`."""
    if text is None:
        return None
    error = InvalidFieldError("`cursor` must be the `next_cursor` of an earlier page.", field="cursor")
    if len(text) > MAX_CURSOR_CHARS:
        raise error
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        if data.startswith("t"):
            return parse_id(data[1:])
    except (ValueError, binascii.Error, InvalidFieldError):
        pass
    raise error


def plan_list_trash(view: View, after: str | None, limit: int) -> TrashAnswer:
    """Up to `limit` deleted nodes behind the id `after`, in byte order of their ids, all at one head."""
    namespace = view.namespace
    found = view.range(RangeKey(*keys.trash_range(namespace, after), limit + 1))
    ids = [keys.parse_node_id(kv.key) for kv in found[:limit]]
    view.need([keys.node(namespace, node_id) for node_id in ids])
    entries = []
    for node_id, kv in zip(ids, found, strict=False):
        node = view.record(Node, keys.node(namespace, node_id))
        if node is None:
            raise DamagedTreeError(f"The record of {node_id!r} is missing.")
        entries.append(
            TrashEntry(
                id=node_id,
                type=KIND_NAMES[node.kind],
                name=node.name,
                parent_dir_id=node.parent,
                version=node.version,
                deleted=format_time(records.decode(Trash, kv.value).time),
                size=node.size if node.kind == FILE else UNSET,
            )
        )
    return TrashAnswer(trash=entries, next_cursor=build_cursor(ids[-1]) if len(found) > limit else None)
