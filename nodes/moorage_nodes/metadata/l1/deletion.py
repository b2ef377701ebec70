"""Deletions as pure plans (PROTOCOL.md, Deletion): the mark, the walk below a directory, the end.

A deletion begins with one transaction: the node is pending, its name is free, the record of the deletion and the
cluster-wide work item stand. From then on `deletions.py` takes it from step to step; each is one plan here that does
nothing when the deletion is over or was cancelled, so any step may come twice, late, or from two servers at once.

What is below a deleted directory keeps its own state and becomes unreadable through its ancestor. The walk raises
the versions of its files, each with its content, so that whoever saw them before the deletion conflicts with what
comes back. While the mark stands nothing below can change: the walk's place stays true over crashes.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from moorage.core.errors import (
    ConflictError,
    DamagedTreeError,
    GoneError,
    NotEmptyError,
    NotFoundError,
    RootDirectoryError,
)
from moorage.core.ids import root_id
from moorage.core.wire import DeletionAnswer
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.devices import observe_told_clients
from moorage_nodes.metadata.l1.files import EMPTY_DIGEST
from moorage_nodes.metadata.l1.tree import (
    observe_live_directory,
    observe_live_file,
    observe_node,
    put_node,
)
from moorage_nodes.metadata.records import (
    DELETED,
    DIRECTORY,
    FILE,
    LIVE,
    PENDING_DELETION,
    PROCEED,
    STATE_NAMES,
    TO_TELL,
    TOLD,
    Child,
    Deletion,
    Manifest,
    Node,
    Trash,
    Work,
)
from moorage_nodes.metadata.view import NotLoaded, Plan, RangeKey, View

WALKED_TOGETHER = 128  # children in one transaction
MAX_WALK_READS = 16  # directories looked into for one transaction
MAX_PLACES = 512  # directories yet to be walked; more only where they lie one below the other
MAX_WALK_BYTES = 448 * 1024  # of manifests that are written anew in one transaction


@dataclass(frozen=True, slots=True)
class Delete:
    """What is asked. `client_id`: the device that deletes, or empty; `notification_id`: fresh, for a new deletion."""

    node_id: str
    client_id: str
    notification_id: str


def plan_delete_file(view: View, delete: Delete, client_version: int) -> DeletionAnswer:
    """Take a file out of the tree: its version rises by 1. The same again: the same answer.

    404 for what is no file, 409 `conflict` when `client_version` is not the newest, 409 and 410 when it, or a
    directory above it, is being deleted or is deleted.
    """
    view.need([keys.node(view.namespace, delete.node_id)])
    node = observe_node(view, delete.node_id)
    if node is None:
        raise NotFoundError(f"There is no {delete.node_id!r}.")
    if node.kind != FILE:
        raise NotFoundError(f"{delete.node_id!r} is a directory, not a file.")
    if node.state != LIVE:
        if node.deletion and client_version == node.version - 1:
            return _answer(node)
        _refuse_other_deletion(delete.node_id, node)
    node = observe_live_file(view, delete.node_id, to_change=True)
    if node.version != client_version:
        raise _stale(client_version, node)
    return _begin(view, delete, node)


def plan_delete_directory(view: View, delete: Delete, *, recursive: bool) -> DeletionAnswer:
    """Take a directory out of the tree with one mark, and so all below it. The same again: the same answer.

    404 for what is unknown, 409 `not_a_directory`, `root_directory`, `not_empty` (unless `recursive`), 409 and 410
    as `plan_delete_file`.
    """
    if delete.node_id == root_id(view.namespace):
        raise RootDirectoryError("The root directory cannot be deleted: delete what is in it.")
    view.need([keys.node(view.namespace, delete.node_id)])
    node = observe_node(view, delete.node_id)
    if node is not None and node.kind == DIRECTORY and node.state != LIVE and node.deletion:
        return _answer(node)
    node = observe_live_directory(view, delete.node_id, to_change=True).node
    if not recursive and _holds_something(view, delete.node_id):
        raise NotEmptyError(f"{delete.node_id!r} is not empty: delete what is in it too with `recursive`.")
    return _begin(view, delete, node)


def _holds_something(view: View, directory_id: str) -> bool:
    start, end = keys.children_range(view.namespace, directory_id)
    if view.range(RangeKey(start, end, 1)):
        return True
    return any(data is not None for _, data in view.written_within(start, end))


def _refuse_other_deletion(node_id: str, node: Node) -> None:
    if node.state == PENDING_DELETION:
        raise ConflictError(
            f"{node_id!r} is being deleted by somebody else, at version {node.version}.",
            server_version=node.version,
        )
    raise GoneError(f"{node_id!r} is deleted.", deleted_id=node_id)


def _stale(client_version: int, node: Node) -> ConflictError:
    return ConflictError(
        f"Version {client_version} is not the newest: look at version {node.version} before deleting it.",
        server_version=node.version,
    )


def _answer(node: Node) -> DeletionAnswer:
    return DeletionAnswer(
        status=STATE_NAMES[PENDING_DELETION], notification_id=node.deletion, server_version=node.version
    )


def _begin(view: View, delete: Delete, node: Node) -> DeletionAnswer:
    namespace = view.namespace
    clients = observe_told_clients(view, delete.client_id)
    pending = replace(node, state=PENDING_DELETION, version=node.version + 1, deletion=delete.notification_id)
    view.delete(keys.child(namespace, node.parent, node.name))
    put_node(view, "delete", delete.node_id, pending)
    view.put(
        keys.deletion(namespace, delete.notification_id),
        Deletion(
            1,
            delete.node_id,
            node.kind,
            pending.version,
            node.parent,
            node.name,
            view.now,
            delete.client_id,
            clients,
            [(delete.node_id, None)] if node.kind == DIRECTORY else [],
        ),
    )
    view.put(keys.work(namespace, delete.notification_id), Work(1))
    return _answer(pending)


def plan_find_pending(node_id: str) -> Plan[str]:
    """The notification id of the deletion that waits for its end at this node, or empty."""

    def plan(view: View) -> str:
        node = view.record(Node, keys.node(view.namespace, node_id))
        return node.deletion if node is not None and node.state == PENDING_DELETION else ""

    return plan


# --- the steps after -------------------------------------------------------------------------------------------


def plan_observe(notification_id: str) -> Plan[Deletion | None]:
    """The deletion as it stands; None when it is over or was cancelled."""
    return lambda view: view.record(Deletion, keys.deletion(view.namespace, notification_id))


def plan_walk(notification_id: str) -> Plan[bool]:
    """The next part of the walk below a directory; whether there is more to walk."""

    def plan(view: View) -> bool:
        key = keys.deletion(view.namespace, notification_id)
        deletion = view.record(Deletion, key)
        if deletion is None or not deletion.walk:
            return False
        walk = _Walk(view, deletion.walk)
        walk.run()
        view.put(key, replace(deletion, walk=walk.places))
        return bool(walk.places)

    return plan


class _Walk:
    """One part of a walk, from `places` on to what `places` is then."""

    def __init__(self, view: View, places: list[tuple[str, str | None]]) -> None:
        self.view = view
        self.places = list(places)
        self._reads = self._bytes = 0

    def run(self) -> None:
        left = WALKED_TOGETHER
        while self.places and left > 0 and self._reads < MAX_WALK_READS and self._bytes < MAX_WALK_BYTES:
            self._load_next()
            directory_id, after = self.places.pop()
            left -= self._walk_directory(directory_id, after, left)

    def _load_next(self) -> None:
        """The directories that come next are read together."""
        try:
            self.view.range(self._range_of(*self.places[-1]))
        except NotLoaded:
            self.view.need_ranges(
                self._range_of(*place) for place in self.places[self._reads - MAX_WALK_READS :]
            )

    def _range_of(self, directory_id: str, after: str | None) -> RangeKey:
        # Always as many, whatever is left: the plan that runs again must ask for the same.
        start, end = keys.children_range(self.view.namespace, directory_id, after)
        return RangeKey(start, end, WALKED_TOGETHER)

    def _walk_directory(self, directory_id: str, after: str | None, limit: int) -> int:
        """How many children were walked; `places` gets those directories among them, and what is left of this."""
        view, namespace = self.view, self.view.namespace
        self._reads += 1
        found = view.range(self._range_of(directory_id, after))
        children = [
            (keys.parse_child_name(namespace, directory_id, kv.key), records.decode(Child, kv.value))
            for kv in found[:limit]
        ]
        files = _observe_files(view, [child.id for _, child in children if child.kind == FILE])
        below: list[tuple[str, str | None]] = []
        walked = 0
        for name, child in children:
            if child.kind == FILE:
                self._bytes += _raise_version(view, child.id, *files[child.id])
            else:
                below.append((child.id, None))
            walked, after = walked + 1, name
            if self._bytes >= MAX_WALK_BYTES or (below and len(self.places) + len(below) >= MAX_PLACES):
                break
        if walked < len(found) or len(found) == WALKED_TOGETHER:
            self.places.append((directory_id, after))
        self.places.extend(below)
        return max(walked, 1)


def _observe_files(view: View, file_ids: list[str]) -> dict[str, tuple[Node, Manifest]]:
    """Files with the contents of their newest versions, in two round trips."""
    namespace = view.namespace
    view.need([keys.node(namespace, file_id) for file_id in file_ids])
    nodes = {file_id: _observe_below(view, file_id) for file_id in file_ids}
    view.need([keys.manifest(namespace, file_id, node.version) for file_id, node in nodes.items()])
    return {
        file_id: (node, observe_content(view, file_id, node, node.version)) for file_id, node in nodes.items()
    }


def _observe_below(view: View, file_id: str) -> Node:
    node = observe_node(view, file_id)
    if node is None:
        raise DamagedTreeError(f"The record of {file_id!r} is missing.")
    return node


def _raise_version(view: View, file_id: str, node: Node, manifest: Manifest) -> int:
    """A file below a deleted directory gets its next version, of the same content; the bytes that this writes.

    Its own state stays: it is as unreadable, or readable again, as its ancestors make it.
    """
    raised = put_content(view, file_id, replace(node, version=node.version + 1), manifest, "delete")
    put_node(view, "delete", file_id, raised, told_state=PENDING_DELETION)
    return len(records.encode(manifest))


def observe_content(view: View, file_id: str, node: Node, version: int) -> Manifest:
    """What a version of a file holds; version 0 is empty. `GoneError` when it is not kept."""
    if version == 0:
        return Manifest(1, 0, EMPTY_DIGEST, node.modified, "", {}, 0)
    manifest = view.record(Manifest, keys.manifest(view.namespace, file_id, version))
    if manifest is None:
        raise GoneError(f"The content of version {version} of {file_id!r} is not kept any more.")
    return manifest


def put_content(view: View, file_id: str, node: Node, manifest: Manifest, why: str) -> Node:
    """Give the node's version the content of another one: every version that can be read has its manifest."""
    mark = f"{why}:{node.version}"  # in the place of an upload's id, which has no colon
    view.put(keys.manifest(view.namespace, file_id, node.version), replace(manifest, upload=mark))
    return replace(node, size=manifest.size, digest=manifest.digest, attrs=manifest.attrs)


def plan_park(notification_id: str) -> Plan[int | None]:
    """The notifier has it: until the clients have answered or their time is up, there is nothing to do. The step that
    it is at then: `PROCEED` when the outcome was faster; None when the deletion is over or was cancelled.
    """

    def plan(view: View) -> int | None:
        namespace = view.namespace
        key = keys.deletion(namespace, notification_id)
        deletion = view.record(Deletion, key)
        if deletion is None:
            return None
        if deletion.step == TO_TELL:
            view.put(key, replace(deletion, step=TOLD))
            view.delete(keys.work(namespace, notification_id))
            view.put(keys.parked(namespace, notification_id), Work(1))
            return TOLD
        return deletion.step

    return plan


def plan_proceed(notification_id: str) -> Plan[bool]:
    """The clients have answered, or their time is up. Whether there is something to do now: not when the deletion is
    over, was cancelled, or was told so before.
    """

    def plan(view: View) -> bool:
        namespace = view.namespace
        key = keys.deletion(namespace, notification_id)
        deletion = view.record(Deletion, key)
        if deletion is None or deletion.step == PROCEED:
            return False
        view.put(key, replace(deletion, step=PROCEED))
        view.put(keys.work(namespace, notification_id), Work(1))
        view.delete(keys.parked(namespace, notification_id))
        return True

    return plan


def plan_finalize(notification_id: str) -> Plan[None]:
    """The end: deleted, in the trash, a tombstone in the feed; the deletion's own records go."""

    def plan(view: View) -> None:
        namespace = view.namespace
        key = keys.deletion(namespace, notification_id)
        deletion = view.record(Deletion, key)
        if deletion is None or deletion.walk:
            return
        node_key = keys.node(namespace, deletion.node)
        node = view.record(Node, node_key)
        if node is not None and node.deletion == notification_id and node.state == PENDING_DELETION:
            put_node(view, "delete", deletion.node, replace(node, state=DELETED))
            put_trash(view, deletion.node)
        end_deletion(view, notification_id)

    return plan


def put_trash(view: View, node_id: str) -> None:
    """To be called behind the journal entry of its deletion."""
    view.put(keys.trash(view.namespace, node_id), Trash(1, view.last_sequence(), view.now))


def end_deletion(view: View, notification_id: str) -> None:
    view.delete(keys.deletion(view.namespace, notification_id))
    view.delete(keys.work(view.namespace, notification_id))
    view.delete(keys.parked(view.namespace, notification_id))
