"""The fold of `/changes` into a remote tree (PROTOCOL.md, Clients and changes).

An entry carries a node's whole state, so that the fold is an upsert by id: applying a page twice changes nothing,
and a snapshot is the same fold on an empty tree. Order within the feed is what counts, no clock and no version:
after a restore from a backup versions may be lower than before.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from moorage.core.sync.trees import Kind, RemoteNode, RemoteTree, State, is_gone
from moorage.core.wire import ChangeEntry

RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of `/changes`: a node as it is after the change. `created`: the change made it."""

    type: Kind
    id: str
    parent_dir_id: str
    name: str
    version: int
    state: State
    created: bool = False


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """One answer of `/changes`. With `reset` it holds nothing else but the `reason`."""

    changes: tuple[Change, ...] = ()
    cursor: str | None = None
    more: bool = False
    reset: bool = False
    reason: str = ""


class Phase(StrEnum):
    SNAPSHOT = "snapshot"  # the tree is not yet whole: nothing may be concluded from what it lacks
    FOLLOWING = "following"


@dataclass(frozen=True, slots=True)
class Feed:
    """How far a client has read. Kept across restarts as one value, written with the tree or not at all.

    `after_restore` stays set over pages, restarts and interrupted plans until the client says with `settled` that
    a plan made under it was carried out whole.
    """

    tree: RemoteTree
    cursor: str | None = None
    phase: Phase = Phase.SNAPSHOT
    more: bool = True
    after_restore: bool = False

    @property
    def complete(self) -> bool:
        """Whether the tree may be planned on: a snapshot read to its end, and every page after it so far."""
        return self.phase is Phase.FOLLOWING and not self.more

    def settled(self) -> "Feed":
        return replace(self, after_restore=False)


def parse_entry(entry: ChangeEntry) -> Change:
    """ValueError for a kind or a state that this client does not know."""
    return Change(
        Kind(entry.node),
        entry.id,
        entry.parent_dir_id,
        entry.name,
        entry.version,
        State(entry.state),
        created=entry.type == "create",
    )


def start_feed(root: str) -> Feed:
    """A client that knows nothing asks without a cursor."""
    return Feed(RemoteTree(root))


def apply_page(feed: Feed, page: ChangesPage) -> Feed:
    """The feed after an answer to `/changes?cursor=<feed.cursor>`.

    A reset drops the remote tree, never the synced one: comparing that with the new snapshot is how a client that
    was away too long learns what was deleted.
    """
    if page.reset:
        restored = feed.after_restore or page.reason == RESTORED
        return Feed(RemoteTree(feed.tree.root), after_restore=restored)
    phase = Phase.SNAPSHOT if feed.phase is Phase.SNAPSHOT and page.more else Phase.FOLLOWING
    return replace(
        feed,
        tree=apply_changes(feed.tree, page.changes),
        cursor=page.cursor if page.cursor is not None else feed.cursor,
        phase=phase,
        more=page.more,
    )


def apply_changes(tree: RemoteTree, changes: Iterable[Change]) -> RemoteTree:
    """The tree after these entries, in their order. Total and idempotent: the same entries again change nothing.

    A hash that is known stays known as long as the version is the same. A directory that is made under the id of one
    that was deleted, and long forgotten by the server, is empty: what lay below that one does not come back with it.
    """
    nodes = dict(tree.nodes)
    for change in changes:
        if change.id == tree.root:
            continue
        if change.created and change.type is Kind.DIRECTORY and is_gone(nodes, change.id):
            _forget_below(nodes, change.id)
        before = nodes.get(change.id)
        known = before.hash if before is not None and before.version == change.version else None
        nodes[change.id] = RemoteNode(
            change.parent_dir_id, change.name, change.type, change.version, known, change.state
        )
    return RemoteTree(tree.root, nodes)


def _forget_below(nodes: dict[str, RemoteNode], directory_id: str) -> None:
    below: dict[str, list[str]] = {}
    for node_id, node in nodes.items():
        below.setdefault(node.parent, []).append(node_id)
    stack = [directory_id]
    while stack:
        for node_id in below.pop(stack.pop(), ()):
            stack.append(node_id)
            if node_id != directory_id:
                del nodes[node_id]
