"""The tree of a namespace, as pure functions on a view: what is where, and may it be read or changed.

A node is a record by id that names its parent; a child key per (parent, name) makes names unique. The root
directory `root:<namespace>` is implicit: it has no record, no name and no parent, and cannot be moved or deleted.
A child key exists exactly while its node is LIVE by itself, so a name is free the moment its node is deleted. What
is below a deleted directory keeps its own state: whoever reads or changes a node looks at its ancestors too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from moorage.core.errors import (
    DamagedTreeError,
    GoneError,
    IdTakenError,
    InvalidFieldError,
    MoorageError,
    NameTakenError,
    NotADirectoryInTheWayError,
    NotFoundError,
    PendingDeletionError,
    TooDeepError,
)
from moorage.core.ids import MAX_PATH_DEPTH, root_id
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.records import (
    DIRECTORY,
    FILE,
    LIVE,
    PENDING_DELETION,
    Child,
    JournalEntry,
    Node,
)
from moorage_nodes.metadata.view import View

ROOT = Node(1, DIRECTORY, "", "", LIVE, 0, 0)

# Nothing is made or moved deeper than a path may be long; what hangs below a directory that is moved may then lie
# deeper. A walk to the root gives up where only repeated moves of deep trees into one another can have come.
MAX_WALK = 2 * MAX_PATH_DEPTH

Ancestors = Sequence[tuple[str, Node]]
"""A node's ancestors as (id, node), its parent first and the root last; empty for the root itself."""


@dataclass(frozen=True, slots=True)
class Located:
    """A node with its ancestors."""

    id: str
    node: Node
    ancestors: Ancestors


@dataclass(frozen=True, slots=True)
class Resolved:
    """The last node that exists on a path, and the names behind it that lead nowhere (none: the path's end)."""

    id: str
    kind: int
    missing: tuple[str, ...]


def observe_node(view: View, node_id: str) -> Node | None:
    if node_id == root_id(view.namespace):
        return ROOT
    return view.record(Node, keys.node(view.namespace, node_id))


def observe_ancestors(view: View, node_id: str, node: Node) -> Ancestors:
    """`DamagedTreeError` when the way up does not end at the root; `TooDeepError` above `MAX_WALK`.

    Above what is deleted the way may end earlier: its old directory may have left the trash before it, and the id
    may be another node's now.
    """
    root = root_id(view.namespace)
    found: list[tuple[str, Node]] = []
    seen = {node_id}
    below = node_id
    while below != root:
        parent_id = node.parent
        parent = observe_node(view, parent_id)
        if node.state != LIVE and (parent is None or parent.kind != DIRECTORY):
            break
        if parent is None or parent.kind != DIRECTORY or parent_id in seen:
            raise DamagedTreeError(f"The parent of {below!r} is not a directory that leads to the root.")
        if len(found) == MAX_WALK:
            raise TooDeepError(
                f"{node_id!r} lies more than {MAX_WALK} directories deep; move one of the directories above it up."
            )
        seen.add(parent_id)
        found.append((parent_id, parent))
        below, node = parent_id, parent
    return found


def locate(view: View, node_id: str) -> Located:
    """A node in any state, with its ancestors; `NotFoundError`."""
    node = observe_node(view, node_id)
    if node is None:
        raise NotFoundError(f"There is no {node_id!r}.")
    return Located(node_id, node, observe_ancestors(view, node_id, node))


def should_be_readable(located: Located) -> bool:
    """A node is readable when it and all its ancestors are live."""
    return located.node.state == LIVE and all(node.state == LIVE for _, node in located.ancestors)


def observe_readable(view: View, node_id: str) -> Located:
    """A node to read: `NotFoundError` when unknown, `GoneError` when it, or a directory above it, is deleted."""
    located = locate(view, node_id)
    if not should_be_readable(located):
        raise GoneError(f"{node_id!r} is deleted.")
    return located


def observe_changeable(view: View, node_id: str) -> Located:
    """A node to change: as `observe_readable`, but while the deletion is pending 409 with the ways out."""
    located = locate(view, node_id)
    if not should_be_readable(located):
        raise _refuse_change(located)
    return located


def _refuse_change(located: Located) -> MoorageError:
    # What stands nearest to the root decides: undoing a deletion below a deleted directory brings nothing back.
    for node_id, node in reversed([(located.id, located.node), *located.ancestors]):
        if node.state == PENDING_DELETION:
            return PendingDeletionError(
                f"{node_id!r} is being deleted: undelete it, or save under another id.",
                ways_out=["undelete", "save_as"],
                deleted_id=node_id,
            )
        if node.state != LIVE:
            return GoneError(f"{node_id!r} is deleted.", deleted_id=node_id)
    raise AssertionError("a node that may be changed was refused")


def observe_live_file(view: View, file_id: str, *, to_change: bool = False) -> Node:
    """A file that may be read (or changed); `NotFoundError` when unknown or a directory, else as
    `observe_readable` and `observe_changeable`.
    """
    located = observe_changeable(view, file_id) if to_change else observe_readable(view, file_id)
    if located.node.kind != FILE:
        raise NotFoundError(f"{file_id!r} is a directory, not a file.")
    return located.node


def observe_live_directory(view: View, directory_id: str, *, to_change: bool = False) -> Located:
    """A directory that may be read (or written into); 409 `not_a_directory` when it is a file, else as
    `observe_readable` and `observe_changeable`.
    """
    located = observe_changeable(view, directory_id) if to_change else observe_readable(view, directory_id)
    if located.node.kind != DIRECTORY:
        raise NotADirectoryInTheWayError(f"{directory_id!r} is a file, not a directory.")
    return located


def path_of(located: Located) -> str:
    """`/photos/2023`; the root is `/`."""
    names = [node.name for _, node in reversed(located.ancestors) if node is not ROOT]
    if located.node is not ROOT:
        names.append(located.node.name)
    return "/" + "/".join(names)


def observe_child(view: View, parent_id: str, name: str) -> Child | None:
    return view.record(Child, keys.child(view.namespace, parent_id, name))


def resolve_path(view: View, parent_id: str, parts: Sequence[str]) -> Resolved:
    """Follow names down from a directory as far as they lead; a file ends the way like a missing name."""
    at, kind = parent_id, DIRECTORY
    for place, name in enumerate(parts):
        child = observe_child(view, at, name) if kind == DIRECTORY else None
        if child is None:
            return Resolved(at, kind, tuple(parts[place:]))
        at, kind = child.id, child.kind
    return Resolved(at, kind, ())


def refuse_reserved_id(view: View, node_id: str, field: str) -> None:
    """A new node's id must not look like a root's."""
    if node_id == root_id(view.namespace):
        raise IdTakenError(f"{node_id!r} is the root directory.")
    if node_id == "root" or node_id.startswith("root:"):
        raise InvalidFieldError(f"`{field}` must not be `root` or begin with `root:`.", field=field)


def refuse_too_deep(depth: int) -> None:
    """`depth` is the number of names on the path of a place that something is to be put at."""
    if depth > MAX_PATH_DEPTH:
        raise TooDeepError(f"The place is {depth} directories deep, at most {MAX_PATH_DEPTH} are allowed.")


def name_taken(name: str, holder: Child) -> NameTakenError:
    return NameTakenError(f"The name {name!r} is taken there.", id=holder.id)


def need_place(view: View, node_id: str, parent_id: str, name: str) -> None:
    """Load at once what decides whether a node may stand at a place (but for the way up to the root)."""
    namespace = view.namespace
    wanted = [keys.node(namespace, node_id), keys.child(namespace, parent_id, name)]
    if parent_id != root_id(namespace):
        wanted.append(keys.node(namespace, parent_id))
    view.need(wanted)


def refuse_unplaceable(view: View, file_id: str, parent_id: str, name: str) -> None:
    """Whether a new file may be made there: 409 `id_taken` when the id is in use (in whatever state), 409
    `name_taken`; 404, 409 and 410 for the parent as `observe_live_directory`.
    """
    refuse_reserved_id(view, file_id, "file_id")
    need_place(view, file_id, parent_id, name)
    parent = observe_live_directory(view, parent_id, to_change=True)
    if observe_node(view, file_id) is not None:
        raise IdTakenError(f"The id {file_id!r} is in use.")
    refuse_too_deep(len(parent.ancestors) + 1)
    holder = observe_child(view, parent_id, name)
    if holder is not None:
        raise name_taken(name, holder)


def plan_create_file_node(view: View, file_id: str, parent_id: str, name: str) -> Node:
    """A new file (version 0) at a free place: writes the child key and returns the node, **not yet written**.

    The caller gives it its content, if any, and writes it with `put_node`. Refusals as `refuse_unplaceable`.
    """
    refuse_unplaceable(view, file_id, parent_id, name)
    view.put(keys.child(view.namespace, parent_id, name), Child(1, FILE, file_id))
    return Node(1, FILE, parent_id, name, LIVE, 0, view.now)


def put_node(
    view: View,
    change: str,
    node_id: str,
    node: Node,
    *,
    left: Node | None = None,
    told_state: int | None = None,
) -> None:
    """Write a node and the journal entry of its change: one node, one entry. `left`: the node as it was at
    another place, when it has moved. `told_state`: the state that the entry tells, where an ancestor decides it.
    """
    view.put(keys.node(view.namespace, node_id), node)
    entry = JournalEntry(
        1,
        change,
        node_id,
        node.kind,
        node.parent,
        node.name,
        node.version,
        node.state if told_state is None else told_state,
        view.request,
        "" if left is None else left.parent,
        "" if left is None else left.name,
    )
    view.append(entry)
