"""The rules of a namespace for one request after the other. Shares no code with the servers."""

from dataclasses import dataclass, field, replace

from tree_model.operations import Answer, Operation, SavedFile

Entry = tuple[str, str, str, str, int, str]  # change, id, parent, name, version, state


@dataclass(frozen=True)
class ModelNode:
    is_file: bool
    parent: str
    name: str
    state: str = "live"
    meta_version: int = 0
    version: int = 0
    deletion: str = ""


class RefusedError(Exception):
    pass


@dataclass
class Model:
    """`apply` answers a request and keeps what it changed in `journal`."""

    root: str
    nodes: dict[str, ModelNode] = field(default_factory=dict)
    journal: list[Entry] = field(default_factory=list)
    makers: dict[tuple[str, int], str] = field(default_factory=dict)  # what made a version of a file

    def copy(self) -> "Model":
        return Model(self.root, dict(self.nodes), list(self.journal), dict(self.makers))

    def apply(self, op: Operation) -> Answer:
        before, count = dict(self.nodes), len(self.journal)
        try:
            return ("ok", *getattr(self, op.kind)(op))
        except RefusedError as refused:
            self.nodes = before
            del self.journal[count:]
            return "refused", str(refused)

    # --- requests

    def make_directory(self, op: Operation) -> Answer:
        at, missing = self._follow(op.parent, op.parts)
        if missing:
            if op.node in self.nodes:
                raise RefusedError("id_taken")
            self._make_path(at, missing, op.base, op.node)
        elif at != op.node:
            raise RefusedError("name_taken")
        return self._answer(op.node)

    def make_file(self, op: Operation) -> Answer:
        *way, name = op.parts
        at, missing = self._follow(op.parent, tuple(way))
        at = self._make_path(at, missing, op.base, None)
        old = self.nodes.get(op.node)
        if old is not None and (old.is_file, old.parent, old.name, old.state) == (True, at, name, "live"):
            return self._answer(op.node)
        if old is not None:
            raise RefusedError("id_taken")
        self._changeable_directory(at)
        if self._child(at, name) is not None:
            raise RefusedError("name_taken")
        self._put("create", op.node, ModelNode(True, at, name))
        return self._answer(op.node)

    def move(self, op: Operation) -> Answer:
        (name,) = op.parts
        node = self._live(op.node)
        there = (node.parent, node.name) == (op.parent, name)
        current = {node.meta_version, node.meta_version - 1} if there else {node.meta_version}
        if op.version is not None and op.version not in current:
            raise RefusedError("conflict")
        if there:
            return self._answer(op.node)
        self._changeable_directory(op.parent)
        if op.node in self._way_up(op.parent):
            raise RefusedError("cycle")
        holder = self._child(op.parent, name)
        if holder is None and op.replace is not None:
            raise RefusedError("replace_target")
        if holder is not None:
            if holder != op.replace:
                raise RefusedError("name_taken")
            if not (node.is_file and self.nodes[holder].is_file):
                raise RefusedError("replace_target")
            old = self.nodes[holder]
            self._put("replace", holder, replace(old, state="deleted", version=old.version + 1))
        moved = replace(node, parent=op.parent, name=name, meta_version=node.meta_version + 1)
        self._put("move", op.node, moved)
        return self._answer(op.node)

    def commit(self, op: Operation) -> Answer:
        """Each file by itself."""
        answer: list[Answer | int] = []
        for file in op.files:
            before, count = dict(self.nodes), len(self.journal)
            try:
                answer.append(self._commit(file, op.upload))
            except RefusedError as refused:
                self.nodes = before
                del self.journal[count:]
                answer.append(("refused", str(refused)))
        return tuple(answer)

    def _commit(self, file: SavedFile, upload: str) -> int:
        new = file.base + 1
        if self.makers.get((file.node, new)) == upload:
            return new
        old = self.nodes.get(file.node)
        if old is None:
            if file.base > 0:
                raise RefusedError("not_found")
            self._changeable_directory(file.parent)
            if self._child(file.parent, file.name) is not None:
                raise RefusedError("name_taken")
            old = ModelNode(True, file.parent, file.name)
        elif not old.is_file and file.base == 0:
            raise RefusedError("id_taken")
        else:
            self._live_file(file.node, file.base)
        self._put("commit", file.node, replace(old, version=new))
        self.makers[file.node, new] = upload
        return new

    def restore(self, op: Operation) -> Answer:
        (file,) = op.files
        new, maker = file.base + 1, f"restore {op.version}"
        node = self._live_file(file.node, None)
        if node.version == new and self.makers.get((file.node, new)) == maker:
            return (new,)
        self._live_file(file.node, file.base)
        if op.version == 0:
            raise RefusedError("invalid_version")
        if op.version is None or op.version > node.version:
            raise RefusedError("not_found")
        if (file.node, op.version) not in self.makers:
            raise RefusedError("gone")
        self._put("restore", file.node, replace(node, version=new))
        self.makers[file.node, new] = maker
        return (new,)

    def _live_file(self, node_id: str, version: int | None) -> ModelNode:
        node = self._live(node_id)
        if not node.is_file:
            raise RefusedError("not_found")
        if version is not None and node.version != version:
            raise RefusedError("conflict")
        return node

    def delete_file(self, op: Operation) -> Answer:
        node = self.nodes.get(op.node)
        if node is None or not node.is_file:
            raise RefusedError("not_found")
        if node.state != "live":
            if node.deletion and op.version == node.version - 1:
                return node.deletion, node.version
            raise RefusedError("conflict" if node.state == "pending_deletion" else "gone")
        return self._delete(op, self._live_file(op.node, op.version))

    def delete_directory(self, op: Operation) -> Answer:
        if op.node == self.root:
            raise RefusedError("root_directory")
        node = self.nodes.get(op.node)
        if node is not None and not node.is_file and node.deletion:
            return node.deletion, node.version
        self._changeable_directory(op.node)
        if op.parts != ("recursive",) and self._children(op.node):
            raise RefusedError("not_empty")
        return self._delete(op, self.nodes[op.node])

    def _delete(self, op: Operation, node: ModelNode) -> Answer:
        pending = replace(node, state="pending_deletion", version=node.version + 1, deletion=op.base)
        self._put("delete", op.node, pending)
        return op.base, pending.version

    def finish(self, op: Operation) -> Answer:
        node = self.nodes.get(op.node)
        if node is None or node.state != "pending_deletion":
            return ("nothing to do",)
        places = [] if node.is_file else [op.node]
        while places:
            children = self._children(places.pop())
            for child in children:
                below = self.nodes[child]
                if below.is_file:
                    raised = replace(below, version=below.version + 1)
                    self._put("delete", child, raised, told="pending_deletion")
                    self.makers[child, raised.version] = "delete"
            places += [child for child in children if not self.nodes[child].is_file]
        self._put("delete", op.node, replace(node, state="deleted"))
        return ("finished",)

    def undelete(self, op: Operation) -> Answer:
        if op.node == self.root:
            raise RefusedError("not_deleted")
        node = self.nodes.get(op.node)
        if node is None:
            raise RefusedError("not_found")
        parent = op.parent or node.parent
        name = op.parts[0] if op.parts else node.name
        is_moved = (parent, name) != (node.parent, node.name)
        if node.state == "live":
            self._live(op.node)
            if is_moved:
                raise RefusedError("not_deleted")
            return self._answer(op.node)
        try:
            self._changeable_directory(parent)
        except RefusedError:
            if op.parent:
                raise
            raise RefusedError("place_gone") from None
        if self._child(parent, name) is not None:
            raise RefusedError("name_taken")
        back = replace(node, state="live", parent=parent, name=name, version=node.version + 1, deletion="")
        self._put("undelete", op.node, replace(back, meta_version=node.meta_version + is_moved))
        if node.is_file:
            self.makers[op.node, back.version] = "undelete"
        return self._answer(op.node)

    def get_node(self, op: Operation) -> Answer:
        self._live(op.node, to_change=False)
        return self._answer(op.node)

    def list_directory(self, op: Operation) -> Answer:
        self._changeable_directory(op.node, to_change=False)
        return tuple((self.nodes[child].name, child) for child in self._children(op.node))

    # --- the tree

    def _put(self, change: str, node_id: str, node: ModelNode, told: str = "") -> None:
        self.nodes[node_id] = node
        self.journal.append((change, node_id, node.parent, node.name, node.version, told or node.state))

    def _way_up(self, node_id: str) -> list[str]:
        """The node and all above it, the root left out."""
        found = []
        while node_id != self.root:
            assert node_id not in found, "a cycle"
            found.append(node_id)
            node_id = self.nodes[node_id].parent
        return found

    def _live(self, node_id: str, *, to_change: bool = True) -> ModelNode:
        if node_id not in self.nodes:
            raise RefusedError("not_found")
        for above in reversed(self._way_up(node_id)):
            state = self.nodes[above].state
            if state != "live":
                raise RefusedError("pending_deletion" if to_change and state != "deleted" else "gone")
        return self.nodes[node_id]

    def _changeable_directory(self, node_id: str, *, to_change: bool = True) -> None:
        if node_id != self.root and self._live(node_id, to_change=to_change).is_file:
            raise RefusedError("not_a_directory")

    def _children(self, parent: str) -> list[str]:
        """Of a directory, in the order of their names, whatever its own state."""
        found = [(n.name, i) for i, n in self.nodes.items() if n.parent == parent and n.state == "live"]
        return [node_id for _, node_id in sorted(found)]

    def _child(self, parent: str, name: str) -> str | None:
        found = [i for i, n in self.nodes.items() if (n.parent, n.name, n.state) == (parent, name, "live")]
        assert len(found) <= 1, "a name twice"
        return found[0] if found else None

    def _follow(self, parent: str, parts: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        self._changeable_directory(parent)
        at = parent
        for place, name in enumerate(parts):
            child = self._child(at, name)
            if child is None:
                return at, parts[place:]
            if self.nodes[child].is_file:
                raise RefusedError("not_a_directory")
            at = child
        return at, ()

    def _make_path(self, at: str, names: tuple[str, ...], base: str, last: str | None) -> str:
        for place, name in enumerate(names):
            is_last = place == len(names) - 1
            node_id = last if is_last and last is not None else f"{base}.{place}"
            self._put("create", node_id, ModelNode(False, at, name))
            at = node_id
        return at

    def _answer(self, node_id: str) -> Answer:
        node = self.nodes[node_id]
        path = "/" + "/".join(self.nodes[each].name for each in reversed(self._way_up(node_id)))
        return node_id, path, node.state, node.meta_version, node.version if node.is_file else None
