"""The three trees that the sync rule compares, as values.

- **local**: what a scan of the folder found, by path; with the node's id where the client remembers it (by inode,
  extended attribute or its own table).
- **synced**: for each node the last state that both sides had in common, by id. The client's only memory.
- **remote**: what `/changes` told, by id (`moorage.core.sync.feed`).

Contents are compared by hash: for files the hash of the ordered chunk hashes, as the server computes it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

LocalPath: TypeAlias = tuple[
    str, ...
]  # below the synced folder, each name spelled as the file system spells it


class Kind(StrEnum):
    DIRECTORY = "directory"
    FILE = "file"


class State(StrEnum):
    LIVE = "live"
    PENDING_DELETION = "pending_deletion"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class LocalEntry:
    """One directory or file of the folder. `hash` is empty for directories. `node` is the remembered id."""

    path: LocalPath
    kind: Kind
    hash: str = ""
    node: str | None = None


@dataclass(frozen=True, slots=True)
class LocalTree:
    """`folds_case`: the file system takes `a` and `A` for one name (Windows, macOS as they come).

    The order of the entries does not matter. A directory that only shows in the paths below it counts as there.
    """

    entries: tuple[LocalEntry, ...] = ()
    folds_case: bool = False


@dataclass(frozen=True, slots=True)
class SyncedNode:
    """The last state that both sides had in common. `version` and `hash` are 0 and empty for directories.

    `offered` stands for a file whose upload was begun and whose answer was not seen: a client writes it, with the
    hash that it sends and under the id that it chose, before the first byte. Were it not for this, a crash right
    after the commit would make a file that another device then deletes look new here, and bring it back.
    """

    parent: str
    name: str
    kind: Kind
    version: int = 0
    hash: str = ""
    offered: bool = False


SyncedTree: TypeAlias = Mapping[str, SyncedNode]


@dataclass(frozen=True, slots=True)
class RemoteNode:
    """A node as the server last told. `hash` is None while it is unknown: `/changes` tells versions only."""

    parent: str
    name: str
    kind: Kind
    version: int = 0
    hash: str | None = None
    state: State = State.LIVE


@dataclass(frozen=True, slots=True)
class RemoteTree:
    """All nodes the feed told of, the deleted ones too; `root` itself is not among them.

    A directory's deletion is one entry about the directory alone: what lies below it keeps its own state and is
    out of reach, and is back when the directory is. So only `live` says what there is.
    """

    root: str
    nodes: Mapping[str, RemoteNode] = field(default_factory=dict)

    def live(self) -> dict[str, RemoteNode]:
        """The nodes that can be reached from the root through live directories only."""
        below: dict[str, list[str]] = {}
        for node_id, node in self.nodes.items():
            if node.state is State.LIVE:
                below.setdefault(node.parent, []).append(node_id)
        reached: dict[str, RemoteNode] = {}
        for node_id in _walk(self.root, below):
            node = self.nodes[node_id]
            reached[node_id] = node
            if node.kind is Kind.FILE:
                below.pop(node_id, None)
        return reached

    def is_gone(self, node_id: str) -> bool:
        """Whether the feed told that this node, or a directory above it, was deleted."""
        return is_gone(self.nodes, node_id)


def is_gone(nodes: Mapping[str, RemoteNode], node_id: str) -> bool:
    """`RemoteTree.is_gone` for a tree that is being made."""
    seen: set[str] = set()
    while node_id in nodes and node_id not in seen:
        if nodes[node_id].state is not State.LIVE:
            return True
        seen.add(node_id)
        node_id = nodes[node_id].parent
    return False


def _walk(root: str, below: Mapping[str, list[str]]) -> Iterator[str]:
    """Ids from the top down. Nodes that form a ring are never reached."""
    stack = list(reversed(below.get(root, [])))
    seen = {root}
    while stack:
        node_id = stack.pop()
        if node_id in seen:
            continue
        seen.add(node_id)
        yield node_id
        stack.extend(reversed(below.get(node_id, [])))
