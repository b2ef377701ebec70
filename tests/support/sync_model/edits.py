"""What people do to a disk or, by another device, to the server: edits that hypothesis draws as plain numbers."""

from dataclasses import dataclass, replace
from itertools import count

from hypothesis import strategies as st

from moorage.core.sync import Kind
from sync_model.client import Client, Path, Thing
from sync_model.server import ROOT, RefusedError, Server

VERBS = ("file", "file", "directory", "change", "change", "save", "move", "move", "delete")
NAMES = ("a", "b", "c", "A", "e\u0301", "\u00e9")


@dataclass(frozen=True)
class Edit:
    verb: str
    what: int
    where: int
    name: str
    same: bool  # take a content that others take too


def make_edit(number: int, names: tuple[str, ...] = NAMES) -> Edit:
    """One number is drawn an edit: ten times as fast as drawing its parts."""
    number, verb = divmod(number, len(VERBS))
    number, name = divmod(number, len(names))
    number, same = divmod(number, 3)
    where, what = divmod(number, 16)
    return Edit(VERBS[verb], what, where % 16, names[name], same == 2)


def edits(max_size: int, names: tuple[str, ...] = NAMES) -> st.SearchStrategy[list[Edit]]:
    numbers = st.lists(st.integers(0, len(VERBS) * len(names) * 3 * 256 - 1), max_size=max_size)
    return numbers.map(lambda drawn: [make_edit(number, names) for number in drawn])


class Editor:
    """`tell`: prefix of contents that nobody else makes."""

    def __init__(self, tell: str) -> None:
        self._tell = tell
        self._numbers = count(1)

    def content(self, edit: Edit) -> str:
        return f"same{edit.what % 3}" if edit.same else f"{self._tell}{next(self._numbers)}"

    def edit_disk(self, client: Client, edits: list[Edit]) -> None:
        for edit in edits:
            self._edit_disk(client, edit)

    def _edit_disk(self, client: Client, edit: Edit) -> None:
        paths = sorted(client.disk)
        directories: list[Path] = [(), *(p for p in paths if client.disk[p].kind is Kind.DIRECTORY)]
        target = (*directories[edit.where % len(directories)], edit.name)
        if edit.verb in {"file", "directory"}:
            if client.is_free(target):
                kind = Kind(edit.verb)
                client.put(target, Thing(kind, self.content(edit) if kind is Kind.FILE else ""))
            return
        if not paths:
            return
        path = paths[edit.what % len(paths)]
        thing = client.disk[path]
        if edit.verb == "move":
            if target[: len(path)] != path and client.is_free(target):
                client.rename(path, target)
        elif edit.verb == "delete":
            for each in [p for p in paths if p[: len(path)] == path]:
                del client.disk[each]
        elif thing.kind is Kind.FILE:
            node = thing.node if edit.verb == "change" else None  # an editor's save makes a new inode
            client.disk[path] = replace(thing, hash=self.content(edit), node=node)

    def edit_server(self, server: Server, edits: list[Edit]) -> None:
        for edit in edits:
            try:
                self._edit_server(server, edit)
            except RefusedError:
                continue

    def _edit_server(self, server: Server, edit: Edit) -> None:
        nodes = sorted(server.live().items())
        directories = [ROOT, *(node_id for node_id, node in nodes if node.kind is Kind.DIRECTORY)]
        parent = directories[edit.where % len(directories)]
        if edit.verb == "directory":
            server.make_directory(server.fresh_id(), parent, edit.name)
            return
        if edit.verb == "file":
            server.commit(server.fresh_id(), 0, self.content(edit), parent, edit.name)
            return
        if not nodes:
            return
        node_id, node = nodes[edit.what % len(nodes)]
        if edit.verb == "move":
            server.move(node_id, parent, edit.name)
        elif edit.verb == "delete":
            server.delete(node_id, recursive=True)
        elif node.kind is Kind.FILE:
            server.commit(node_id, node.version, self.content(edit), "", "")
