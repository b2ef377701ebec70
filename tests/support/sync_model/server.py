"""One namespace as a server keeps it: it refuses what the real one refuses. Shares no code with the servers."""

from dataclasses import dataclass, field, replace

from moorage.core.sync import Change, ChangesPage, Kind, RemoteNode, RemoteTree, State
from moorage.core.sync.names import stored_name

ROOT = "root:u"


class RefusedError(Exception):
    """A 404, 409 or 410."""


@dataclass
class Server:
    nodes: dict[str, RemoteNode] = field(default_factory=dict)
    journal: list[Change] = field(default_factory=list)
    contents: dict[tuple[str, int], str] = field(default_factory=dict)
    made: int = 0
    kept_from: int = 0  # journal entries before this one are forgotten, and with them the tombstones

    def fresh_id(self, prefix: str = "n") -> str:
        self.made += 1
        return f"{prefix}{self.made}"

    # --- reading

    def tree(self) -> RemoteTree:
        """All there is to know, hashes included."""
        return RemoteTree(ROOT, dict(self.nodes))

    def live(self) -> dict[str, RemoteNode]:
        return self.tree().live()

    def by_path(self) -> dict[tuple[str, ...], tuple[str, RemoteNode]]:
        live = self.live()
        return {self._path(node_id, live): (node_id, node) for node_id, node in live.items()}

    def changes(self, cursor: str | None, limit: int) -> ChangesPage:
        """From the first entry ever where there is no cursor: a snapshot that takes the longest way.

        Once entries were forgotten a snapshot tells what is live and nothing else, as the real one does, and a
        cursor from before is a reset.
        """
        if self.kept_from and (cursor is None or cursor.startswith("s")):
            return self._snapshot(cursor, limit)
        start = int(cursor or 0)
        if start < self.kept_from:
            return ChangesPage(reset=True, reason="expired")
        end = min(start + limit, len(self.journal))
        return ChangesPage(tuple(self.journal[start:end]), str(end), more=end < len(self.journal))

    def _snapshot(self, cursor: str | None, limit: int) -> ChangesPage:
        """A page of what is live now, in the order of the ids; at its end the cursor of its beginning, so that what
        changed meanwhile is told again.
        """
        _, start, after = (cursor or f"s:{len(self.journal)}:").split(":")
        nodes = sorted(item for item in self.nodes.items() if item[1].state is State.LIVE and item[0] > after)
        page = tuple(
            Change(node.kind, node_id, node.parent, node.name, node.version, node.state, created=True)
            for node_id, node in nodes[:limit]
        )
        if len(nodes) > limit:
            return ChangesPage(page, f"s:{start}:{nodes[limit - 1][0]}", more=True)
        more = int(start) < len(self.journal)
        return ChangesPage(page, start, more=more)

    def forget(self) -> None:
        """The feed's horizon passes by: what was deleted is known no more."""
        self.kept_from = len(self.journal)
        gone = {node_id for node_id in self.nodes if node_id not in self.live()}
        self.nodes = {node_id: node for node_id, node in self.nodes.items() if node_id not in gone}

    # --- changing

    def make_directory(self, node_id: str, parent: str, name: str) -> None:
        self._check_place(parent, name)
        self._check_new(node_id)
        self._put(node_id, RemoteNode(parent, name, Kind.DIRECTORY))

    def commit(self, node_id: str, base: int, content: str, parent: str, name: str) -> int:
        node = self.nodes.get(node_id)
        if node is None:
            self._check_place(parent, name)
            self._check_new(node_id)
            node = RemoteNode(parent, name, Kind.FILE, 0)
        elif node_id not in self.live() or node.kind is not Kind.FILE or node.version != base:
            raise RefusedError(f"commit of {node_id} on {base}: {node}")
        node = replace(node, version=base + 1, hash=content)
        self.contents[node_id, base + 1] = content
        self._put(node_id, node)
        return base + 1

    def move(self, node_id: str, parent: str, name: str) -> None:
        node = self._live(node_id)
        self._check_place(parent, name, but=node_id)
        above = parent
        while above != ROOT:
            if above == node_id:
                raise RefusedError("cycle")
            above = self.nodes[above].parent
        self._put(node_id, replace(node, parent=parent, name=name))

    def delete(self, node_id: str, version: int | None = None, *, recursive: bool = False) -> None:
        node = self._live(node_id)
        if version is not None and node.version != version:
            raise RefusedError("stale delete")
        if not recursive and any(each.parent == node_id for each in self.live().values()):
            raise RefusedError("not empty")
        risen = node.version + 1 if node.kind is Kind.FILE else 0
        self._put(node_id, replace(node, version=risen, state=State.DELETED))

    def restore_backup(self, backup: "Server") -> None:
        self.nodes = dict(backup.nodes)
        self.journal = list(backup.journal)
        self.contents = dict(backup.contents)
        self.kept_from = backup.kept_from

    def backup(self) -> "Server":
        return Server(dict(self.nodes), list(self.journal), dict(self.contents), kept_from=self.kept_from)

    # --- rules

    def _put(self, node_id: str, node: RemoteNode) -> None:
        created = node_id not in self.nodes
        self.nodes[node_id] = node
        self.journal.append(
            Change(node.kind, node_id, node.parent, node.name, node.version, node.state, created=created)
        )

    def _live(self, node_id: str) -> RemoteNode:
        live = self.live()
        if node_id not in live:
            raise RefusedError(f"{node_id} is not there")
        return live[node_id]

    def _check_new(self, node_id: str) -> None:
        if node_id in self.nodes or node_id.startswith("+"):
            raise RefusedError(f"{node_id} is in use")

    def _check_place(self, parent: str, name: str, but: str = "") -> None:
        if parent != ROOT and self._live(parent).kind is not Kind.DIRECTORY:
            raise RefusedError("not a directory")
        if stored_name(name) != name:
            raise RefusedError(f"bad name {name!r}")
        for node_id, node in self.live().items():
            if (node.parent, node.name) == (parent, name) and node_id != but:
                raise RefusedError(f"{name!r} is taken")

    @staticmethod
    def _path(node_id: str, live: dict[str, RemoteNode]) -> tuple[str, ...]:
        names: list[str] = []
        while node_id != ROOT:
            names.append(live[node_id].name)
            node_id = live[node_id].parent
        return tuple(reversed(names))
