"""What clients asked and were told, held against what the witness saw (DESIGN.md, Invariants 3 to 6 and 8)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from moorage_nodes.metadata.records import LIVE, JournalEntry, Node
from simulator.witness import Seen, Violation, Witness


@dataclass
class Operation:
    """One request of a client with all its attempts. `unsure`: an attempt before the last may have been done.

    `answer` is None while it is unknown; `status` is that of the answer.
    """

    id: str
    namespace: str
    kind: str
    node: str
    start: float
    end: float = 0.0
    status: int = 0
    answer: Any = None
    unsure: bool = False
    refusal: str = ""

    @property
    def acknowledged(self) -> bool:
        return self.status == 200

    def __str__(self) -> str:
        told = f"{self.status} {self.refusal}" if self.status else "no answer"
        return f"{self.id} {self.kind} {self.namespace}/{self.node}: {told}"


@dataclass
class History:
    witness: Witness
    blobs: dict[bytes, bytes]
    operations: list[Operation] = field(default_factory=list)

    def begin(self, operation: Operation) -> Operation:
        self.operations.append(operation)
        return operation

    # --- versions

    def check_commit(self, op: Operation, file_id: str, version: int, digests: Sequence[bytes]) -> None:
        """An acknowledged commit made that version, once, while it was asked for, of those chunks."""
        made = self.witness.versions.get((op.namespace, file_id, version))
        if made is None or made.operation != op.id:
            whose = "nobody" if made is None else made.operation
            raise Violation("what was acknowledged survives", f"{op}: version {version} is of {whose}")
        if not op.start <= made.time <= op.end:
            raise Violation("what was acknowledged survives", f"{op}: made at another time")
        if made.digests != tuple(digests):
            raise Violation("a version is what its client meant", f"{op}: version {version}")
        self.check_once(op, file_id)

    def check_once(self, op: Operation, file_id: str) -> None:
        """Whatever became of a commit, it made one version of the file at the most."""
        made = [
            number
            for (namespace, node_id, number), each in self.witness.versions.items()
            if (namespace, node_id) == (op.namespace, file_id)
            and each.operation == op.id
            and ":" not in each.upload
        ]
        if len(made) > 1:
            raise Violation("once or not at all", f"{op}: versions {made}")

    def check_refused_commit(self, op: Operation, file_id: str, version: int) -> None:
        """What was refused was not done; a repeat of what was done is answered as done."""
        made = self.witness.versions.get((op.namespace, file_id, version))
        if made is None or made.operation != op.id or ":" in made.upload:
            return
        state = self.witness.namespaces[op.namespace]
        if state.manifest(file_id, version) is not None and state.is_retained(file_id):
            raise Violation("the same again is answered the same", f"{op}: but version {version} is its own")

    # --- the tree

    def check_some_time(
        self, op: Operation, node_id: str, what: str, holds: Callable[[Node | JournalEntry], bool]
    ) -> None:
        """What was acknowledged was so at some moment between the request and its answer. One transaction may hold more
        than one change of a node: between them only the journal has seen it.
        """
        for time, entry in self.witness.journals[op.namespace]:
            if op.start <= time <= op.end and entry.id == node_id and holds(entry):
                return
        for seen in self.witness.window(op.namespace, node_id, op.start, op.end):
            if seen.node is not None and holds(seen.node):
                return
        raise Violation("what was acknowledged survives", f"{op}: never {what}")

    def check_live_at(self, op: Operation, node_id: str, parent: str, name: str) -> None:
        self.check_some_time(
            op,
            node_id,
            f"live at {parent}/{name}",
            lambda node: (node.state, node.parent, node.name) == (LIVE, parent, name),
        )

    def check_deleted(self, op: Operation, node_id: str, version: int) -> None:
        self.check_some_time(
            op,
            node_id,
            f"deleted at version {version}",
            lambda node: node.state != LIVE and node.version == version,
        )

    # --- reads

    def check_read(self, op: Operation, file_id: str, version: int | None) -> None:
        """The version that was read, or None when reading was refused, was the truth at some moment meanwhile."""
        window = list(self.witness.window(op.namespace, file_id, op.start, op.end))
        if not any(seen.readable == version for seen in window):
            raise Violation("reads are of the present", f"{op}: read {version}, was {_told(window)}")

    def check_content(self, op: Operation, file_id: str, data: bytes | None) -> None:
        window = list(self.witness.window(op.namespace, file_id, op.start, op.end))
        if data is None:
            if all(seen.readable is not None for seen in window):
                raise Violation("reads are of the present", f"{op}: refused, was {_told(window)}")
            return
        for seen in window:
            if seen.readable is not None and self.content(op.namespace, file_id, seen.readable) == data:
                return
        raise Violation("reads are of the present", f"{op}: other bytes than {_told(window)}")

    def content(self, namespace: str, file_id: str, version: int) -> bytes:
        if version == 0:
            return b""
        made = self.witness.versions.get((namespace, file_id, version))
        assert made is not None, (namespace, file_id, version)
        return b"".join(self.blobs[digest] for digest in made.digests)


def _told(window: Sequence[Seen]) -> str:
    return ", ".join(str(seen.readable) for seen in window)
