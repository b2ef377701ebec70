"""One namespace as its raw keys say it is, beside the servers' own code (docs/metadata-keys.md)."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from moorage_nodes.metadata import records
from moorage_nodes.metadata.records import (
    DELETED,
    FILE,
    LIVE,
    Child,
    Chunk,
    Deletion,
    Entry,
    Head,
    Manifest,
    Node,
    Segment,
    Stored,
    Upload,
)

K = TypeVar("K")
V = TypeVar("V")


def parse_key(key: bytes) -> tuple[str, str, bytes] | None:
    """(namespace, kind, what stands behind it); None for what belongs to no namespace."""
    if not key.startswith(b"n/"):
        return None
    _, namespace, rest = key.split(b"/", 2)
    return namespace.decode(), chr(rest[0]), rest[2:]


@dataclass
class Namespace:
    name: str
    head: Head = field(default_factory=Head)
    raw: dict[str, dict[bytes, bytes]] = field(default_factory=lambda: defaultdict(dict))
    nodes: dict[str, Node] = field(default_factory=dict)
    children: dict[str, Child] = field(default_factory=dict)  # by `<parent>/<name>`
    chunks: dict[bytes, Chunk] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    deletions: dict[str, Deletion] = field(default_factory=dict)
    trash: set[str] = field(default_factory=set)

    def apply(self, changes: Sequence[tuple[str, bytes, bytes | None]]) -> None:
        for kind, rest, value in changes:
            if value is None:
                self.raw[kind].pop(rest, None)
            else:
                self.raw[kind][rest] = value
            self._decode(kind, rest, value)

    def _decode(self, kind: str, rest: bytes, value: bytes | None) -> None:
        if kind == "h":
            self.head = Head() if value is None else records.decode(Head, value)
        elif kind == "k":
            _set(self.chunks, rest, None if value is None else records.decode(Chunk, value))
        elif kind == "i":
            _set(self.nodes, rest.decode(), None if value is None else records.decode(Node, value))
        elif kind == "c":
            _set(self.children, rest.decode(), None if value is None else records.decode(Child, value))
        elif kind == "u":
            _set(self.uploads, rest.decode(), None if value is None else records.decode(Upload, value))
        elif kind == "d":
            _set(self.deletions, rest.decode(), None if value is None else records.decode(Deletion, value))
        elif kind == "t":
            (self.trash.discard if value is None else self.trash.add)(rest.decode())

    # --- the tree

    def way_up(self, node_id: str) -> list[str]:
        """The node and what is above it, as far as it leads; the root left out. AssertionError for a cycle."""
        way: list[str] = []
        at = node_id
        while at != f"root:{self.name}" and at in self.nodes:
            if at in way:
                raise AssertionError(f"{self.name}: {node_id} lies in a cycle")
            way.append(at)
            at = self.nodes[at].parent
        if at != f"root:{self.name}":
            way.append("")
        return way

    def is_readable(self, node_id: str) -> bool:
        return all(each and self.nodes[each].state == LIVE for each in self.way_up(node_id))

    def is_retained(self, node_id: str) -> bool:
        """Whether it can be read, or be brought back with what it lies below."""
        return all(each and self.is_retained_itself(each) for each in self.way_up(node_id))

    def is_retained_itself(self, node_id: str) -> bool:
        return self.nodes[node_id].state != DELETED or node_id in self.trash

    def is_retained_node(self, node: Node) -> bool:
        """Whether what is above a node that stood here is retained."""
        root = f"root:{self.name}"
        return node.parent == root or (node.parent in self.nodes and self.is_retained(node.parent))

    def files_below(self, directory_id: str) -> Iterator[tuple[str, Node]]:
        """The files that stand below it and are not deleted by themselves."""
        for node_id, node in self.nodes.items():
            way = self.way_up(node_id)
            if node.kind != FILE or directory_id not in way:
                continue
            if all(self.nodes[each].state == LIVE for each in way[: way.index(directory_id)]):
                yield node_id, node

    # --- contents

    def entries_of(self, inline: Sequence[Entry], segments: str, count: int) -> list[Entry] | None:
        """None when a segment is missing."""
        if not segments:
            return list(inline)
        found: list[Entry] = []
        index = 0
        while len(found) < count:
            data = self.raw["g"].get(f"{segments}/{index:06x}".encode())
            if data is None:
                return None
            found += records.decode(Segment, data).entries
            index += 1
        return found if len(found) == count else None

    def manifest(self, file_id: str, version: int) -> Manifest | None:
        data = self.raw["m"].get(f"{file_id}/{version:012x}".encode())
        return None if data is None else records.decode(Manifest, data)

    def all_manifests(self) -> Iterator[tuple[str, int, Manifest]]:
        for rest, data in list(self.raw["m"].items()):
            file_id, version = rest.decode().rsplit("/", 1)
            yield file_id, int(version, 16), records.decode(Manifest, data)

    def versions_of(self, file_id: str) -> list[int]:
        start = f"{file_id}/".encode()
        return sorted(int(rest[len(start) :], 16) for rest in self.raw["m"] if rest.startswith(start))

    def retained_manifests(self) -> Iterator[tuple[str, int, Manifest]]:
        for file_id, version, manifest in self.all_manifests():
            node = self.nodes.get(file_id)
            if node is not None and node.kind == FILE and self.is_retained(file_id):
                yield file_id, version, manifest

    def reachable_digests(self) -> Iterator[bytes]:
        """The chunks of all that can be read or brought back."""
        for _, _, manifest in self.retained_manifests():
            entries = self.entries_of(manifest.entries, manifest.segments, manifest.count)
            yield from (digest for _, digest, _ in entries or ())

    def pins(self) -> Iterator[tuple[str, set[bytes]]]:
        """What open uploads pin: (an upload's id, the chunks that it planned) and (`<upload id>/<call>`, those that
        a call stored under it).
        """
        for upload_id, upload in self.uploads.items():
            planned: set[bytes] = set()
            for file in upload.files:
                entries = self.entries_of(file.entries, file.segments, file.count)
                planned.update(digest for _, digest, _ in entries or ())
            yield upload_id, planned
        for rest, data in self.raw["s"].items():
            call = rest.decode()
            if call.partition("/")[0] in self.uploads:
                yield call, {digest for _, digest, _ in records.decode(Stored, data).entries}


def _set(held: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        held.pop(key, None)
    else:
        held[key] = value
