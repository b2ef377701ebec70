"""Requests as data, with the real plan of each. `key` stands for an `Idempotency-Key`."""

import random
from dataclasses import dataclass
from typing import Any

import msgspec

from moorage.core.errors import MoorageError
from moorage.core.wire import NodeAnswer
from moorage_nodes.lru import Lru
from moorage_nodes.metadata.l1.commit import plan_commits
from moorage_nodes.metadata.l1.deletion import (
    Delete,
    plan_delete_directory,
    plan_delete_file,
    plan_finalize,
    plan_walk,
)
from moorage_nodes.metadata.l1.directories import (
    Page,
    plan_create_directory,
    plan_get_node,
    plan_list_directory,
)
from moorage_nodes.metadata.l1.file_commit import FileCommit
from moorage_nodes.metadata.l1.files import plan_create_file
from moorage_nodes.metadata.l1.moves import Move, plan_move
from moorage_nodes.metadata.l1.repeats import parse_repeat, plan_once
from moorage_nodes.metadata.l1.targets import NotPreparedError
from moorage_nodes.metadata.l1.trash import plan_undelete
from moorage_nodes.metadata.l1.tree import observe_node
from moorage_nodes.metadata.l1.versions import plan_restore
from moorage_nodes.metadata.records import PENDING_DELETION, Upload, UploadFile
from moorage_nodes.metadata.view import Plan, View

Answer = tuple[Any, ...]  # ("ok", ...) or ("refused", word)


@dataclass(frozen=True)
class SavedFile:
    """A file of an upload: the version it builds on, and where it goes if it is new."""

    node: str
    base: int
    parent: str
    name: str


@dataclass(frozen=True)
class Operation:
    """`node` and the other ids are of one namespace; what an operation has no use for is left at its default."""

    kind: str
    node: str = ""
    parent: str = ""
    parts: tuple[str, ...] = ()
    base: str = ""
    version: int | None = None
    replace: str | None = None
    key: str | None = None
    upload: str = ""
    files: tuple[SavedFile, ...] = ()

    @property
    def is_read(self) -> bool:
        return self.kind in {"get_node", "list_directory"}


def build_plan(operation: Operation) -> Plan[Answer]:
    plan = _PLANS[operation.kind]

    def answering(view: View) -> list[Any]:
        return list(plan(view, operation))

    repeat = parse_repeat(operation.key, operation.kind)
    once = plan_once(answering, repeat, list)
    return lambda view: ("ok", *once(view))


def build_refusal(error: MoorageError) -> Answer:
    return "refused", error.word


def _of_node(answer: NodeAnswer) -> Answer:
    version = None if answer.version is msgspec.UNSET else answer.version
    return answer.id, answer.path, answer.state, answer.meta_version, version


def _make_directory(view: View, op: Operation) -> Answer:
    return _of_node(plan_create_directory(view, op.node, op.parent, op.parts, op.base))


def _make_file(view: View, op: Operation) -> Answer:
    return _of_node(plan_create_file(view, op.node, op.parent, op.parts, op.base))


def _move(view: View, op: Operation) -> Answer:
    return _of_node(plan_move(view, Move(op.node, op.parent, op.parts[0], op.version, op.replace)))


def _commit(view: View, op: Operation) -> Answer:
    """Of empty contents: what a version holds is not the tree's business."""
    commits = [FileCommit(file.node, file.base + 1, ()) for file in op.files]
    outcomes = plan_commits(op.upload, commits)(view)
    assert len(outcomes) == len(commits)
    answer: list[Any] = []
    for outcome in outcomes:
        assert not isinstance(outcome, NotPreparedError)
        answer.append(build_refusal(outcome) if isinstance(outcome, MoorageError) else outcome)
    return tuple(answer)


def build_upload(op: Operation, user: str) -> Upload:
    """The record that an /update of these files would have put."""
    files = [
        UploadFile(file.node, file.base, *((file.parent, file.name) if file.base == 0 else ()))
        for file in op.files
    ]
    return Upload(1, user, 0, "pool", files)


def _restore(view: View, op: Operation) -> Answer:
    (file,) = op.files
    assert op.version is not None
    return (plan_restore(file.node, op.version, file.base)(view),)


def _delete_file(view: View, op: Operation) -> Answer:
    assert op.version is not None
    answer = plan_delete_file(view, Delete(op.node, "", op.base), op.version)
    return answer.notification_id, answer.server_version


def _delete_directory(view: View, op: Operation) -> Answer:
    answer = plan_delete_directory(view, Delete(op.node, "", op.base), recursive=op.parts == ("recursive",))
    return answer.notification_id, answer.server_version


def _finish(view: View, op: Operation) -> Answer:
    """All steps of the deletion that the node is in, in one."""
    node = observe_node(view, op.node)
    if node is None or node.state != PENDING_DELETION:
        return ("nothing to do",)
    while plan_walk(node.deletion)(view):
        pass
    plan_finalize(node.deletion)(view)
    return ("finished",)


def _undelete(view: View, op: Operation) -> Answer:
    name = op.parts[0] if op.parts else None
    return _of_node(plan_undelete(view, op.node, op.parent or None, name))


def _get(view: View, op: Operation) -> Answer:
    return _of_node(plan_get_node(view, op.node))


def _list(view: View, op: Operation) -> Answer:
    listing = msgspec.json.decode(plan_list_directory(view, op.node, Page(), Lru(0)))
    entries = [*listing["directories"], *listing["files"]]
    return tuple(sorted((entry["name"], entry["id"]) for entry in entries))


_PLANS = {
    "make_directory": _make_directory,
    "make_file": _make_file,
    "move": _move,
    "commit": _commit,
    "restore": _restore,
    "delete_file": _delete_file,
    "delete_directory": _delete_directory,
    "finish": _finish,
    "undelete": _undelete,
    "get_node": _get,
    "list_directory": _list,
}


class Requests:
    """Random requests that get into each other's way: few ids, few names.

    Ids with a `d` are mostly made as directories and ids with an `f` as files, so that much of it succeeds.
    """

    def __init__(self, rng: random.Random, root: str, name: str) -> None:
        """`name` is the generator's own: ids and keys that it makes up begin with it."""
        self._rng = rng
        self._name = name
        self._count = 0
        self._directories = [f"d{number}" for number in range(8)]
        self._files = [f"f{number}" for number in range(16)]
        self._parents = [root, root, root, *self._directories, "f0"]
        self._deleted = ["f0", "d0"]  # what this generator deleted of late, or tried to

    def first(self) -> list[Operation]:
        """What gives the others something to meet: most directories and some files, at the root."""
        root = self._parents[0]
        return [
            *(Operation("make_directory", node, root, (f"dir {node}",)) for node in self._directories[:6]),
            *(Operation("make_file", node, root, (f"file {node}",)) for node in self._files[:8]),
        ]

    def next(self) -> Operation:
        rng = self._rng
        self._count += 1
        kind = rng.choices(
            [
                "make_directory",
                "make_file",
                "move",
                "commit",
                "restore",
                "delete_file",
                "delete_directory",
                "finish",
                "undelete",
                "get_node",
                "list_directory",
            ],
            [4, 4, 12, 7, 1, 4, 1, 4, 6, 2, 2],
        )[0]
        operation: Operation = getattr(self, f"_{kind}")(kind)
        return operation

    def _make_directory(self, kind: str) -> Operation:
        parts = tuple(self._rng.choices("abcdef", k=self._rng.choice([1, 1, 2])))
        node = self._one_of(self._directories, self._files)
        return Operation(kind, node, self._parent(), parts, f"{self._name}-{self._count}", key=self._key())

    def _make_file(self, kind: str) -> Operation:
        parts = tuple(self._rng.choices("abcdefghij", k=self._rng.choice([1, 1, 2])))
        node = self._one_of(self._files, self._directories)
        return Operation(kind, node, self._parent(), parts, f"{self._name}-{self._count}", key=self._key())

    def _move(self, kind: str) -> Operation:
        rng = self._rng
        version = rng.choice([None, None, None, None, 0, 1, 2])
        if rng.random() < 0.3:  # over a file, where it was made
            node, replaced = self._one_of(self._files, self._directories), rng.choice(self._files[:8])
            parent, name = self._parents[0], f"file {replaced}"
        else:
            node, replaced = rng.choice([*self._directories, *self._files]), None
            parent, name = self._parent(), rng.choice("abcdefghij")
        return Operation(kind, node, parent, (name,), version=version, replace=replaced, key=self._key())

    def _commit(self, kind: str) -> Operation:
        nodes = self._rng.sample([*self._files, *self._files, "d0"], k=self._rng.choice([1, 1, 2, 4]))
        files = tuple(
            SavedFile(node, self._version(), self._parent(), self._rng.choice("abcdefghij"))
            for node in dict.fromkeys(nodes)
        )
        # As uploads.py names them: `b` for one of several files.
        return Operation(kind, upload=f"b{self._name}-{self._count}", files=files)

    def _restore(self, kind: str) -> Operation:
        file = SavedFile(self._rng.choice(self._files), self._version(), "", "")
        return Operation(kind, version=self._version(), files=(file,), key=self._key())

    def _version(self) -> int:
        return self._rng.choice([0, 0, 0, 1, 1, 2, 3])

    def _delete_file(self, kind: str) -> Operation:
        node = self._one_to_delete(self._files[:8], self._directories)
        return Operation(kind, node, base=self._notification(), version=self._version(), key=self._key())

    def _delete_directory(self, kind: str) -> Operation:
        node = self._one_to_delete(self._directories, [*self._files, self._parents[0]])
        parts = ("recursive",) if self._rng.random() < 0.7 else ()
        return Operation(kind, node, parts=parts, base=self._notification(), key=self._key())

    def _finish(self, kind: str) -> Operation:
        return Operation(kind, self._one_of(self._deleted, [*self._files, *self._directories]))

    def _undelete(self, kind: str) -> Operation:
        node = self._one_of(self._deleted, [*self._files, *self._directories])
        to_place = self._rng.random() < 0.4
        parent, parts = (self._parent(), (self._rng.choice("abcdefghij"),)) if to_place else ("", ())
        return Operation(kind, node, parent, parts, key=self._key())

    def _one_to_delete(self, often: list[str], seldom: list[str]) -> str:
        node = self._one_of(often, seldom)
        self._deleted = [*self._deleted, node][-4:]
        return node

    def _notification(self) -> str:
        return f"n{self._name}-{self._count}"

    def _get_node(self, kind: str) -> Operation:
        return Operation(kind, self._one_of(self._files, self._directories))

    def _list_directory(self, kind: str) -> Operation:
        return Operation(kind, self._parent())

    def _one_of(self, often: list[str], seldom: list[str]) -> str:
        return self._rng.choice(often if self._rng.random() < 0.8 else seldom)

    def _parent(self) -> str:
        return self._rng.choice(self._parents)

    def _key(self) -> str | None:
        return f"{self._name} {self._count}" if self._rng.random() < 0.3 else None
