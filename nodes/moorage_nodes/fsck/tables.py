"""One pass over a namespace's keys, in their order: each record is decoded once, checked by itself, and dealt out to
the joins that compare it with others. Pure: it is fed with keys and keeps what it needs in bounded memory.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from moorage.core.errors import MoorageError
from moorage.core.ids import root_id
from moorage_nodes.fsck.findings import Findings
from moorage_nodes.fsck.partitions import PARTS, Partitions
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import (
    CHUNK_DAMAGED,
    DELETED,
    DIRECTORY,
    LIVE,
    PENDING_DELETION,
    SEGMENT_ENTRIES,
    Bound,
    Child,
    Chunk,
    ChunkName,
    Deletion,
    Device,
    Entry,
    Head,
    JournalEntry,
    Manifest,
    Node,
    Remembered,
    Segment,
    Stored,
    Trash,
    Upload,
)
from moorage_nodes.stores.contracts import KeyValue

# What a row of the join of nodes is about.
CHILD, NODE, ENTRY, CONTENT, IN_TRASH = range(5)
# States of directories: as records.*, and of the deleted ones those that are not in the trash any more.
LET_GO = 3
# What a journal entry says of its node's version.
MADE, SAME, RAISED = range(3)
_EFFECTS = {
    "create": MADE,
    "move": SAME,
    "commit": RAISED,
    "restore": RAISED,
    "replace": RAISED,
    "undelete": RAISED,
}

_encode = msgspec.msgpack.Encoder().encode


def summarize(entries: list[Entry]) -> tuple[int, int, bytes]:
    """Count, size and digest of a list of chunks."""
    if len(entries) == 1:
        _, digest, size = entries[0]
        return 1, size, hashlib.sha256(digest).digest()
    return (
        len(entries),
        sum([size for _, _, size in entries]),
        hashlib.sha256(b"".join([digest for _, digest, _ in entries])).digest(),
    )


def pack_references(entries: list[Entry]) -> dict[int, list[bytes]]:
    """`digest + size` of each entry, by the part of the join that its digest belongs to."""
    packed: dict[int, list[bytes]] = {}
    for _, digest, size in entries:
        packed.setdefault(digest[0], []).append(digest + size.to_bytes(4))
    return packed


class Tables:
    """What is known of one namespace at one revision."""

    def __init__(self, namespace: str, findings: Findings) -> None:
        self.namespace = namespace
        self.root = root_id(namespace)
        self.findings = findings
        self.nodes = Partitions()
        self._node_parts = self.nodes.parts
        self.references = Partitions()  # digest + size, 36 bytes each
        self.chunks = Partitions()  # digest + size + state, 37 bytes each
        self.objects = Partitions()  # (pool, object, offset, size, digest, is damaged, revision)
        self.names = Partitions()  # digests that names mean
        self.directories: dict[int, tuple[int, int]] = {hash(self.root): (0, LIVE)}  # id → parent, state
        self.made: dict[
            int, int
        ] = {}  # directory → the newest entry that made it: its id may have begun anew
        self.head: Head | None = None
        self.first_sequence = self.last_sequence = 0
        self.pending: dict[str, str] = {}  # notification id → node
        self.deletions: dict[str, str] = {}  # the same, as the `d` keys say
        self.uploads: set[str] = set()
        self.bases: dict[
            str, tuple[int, int, bytes, bool]
        ] = {}  # of segments that uploads and manifests name
        self.calls: dict[str, int] = {}  # of uploads, how many
        self.bound: list[tuple[str, int]] = []
        self.segments: dict[str, int] = {}  # bases, and how many segments each has
        self.counts = {"files": 0, "directories": 0, "manifests": 0, "chunks": 0, "bytes": 0, "keys": 0}
        self._cut = len(keys.namespace_prefix(namespace)) + 2
        self._letter = self._cut - 2
        self._readers: list[Callable[[KeyValue], None]] = [self._read_unknown] * 256
        for letter, reader in {
            "b": self._read_bound,
            "c": self._read_child,
            "d": self._read_deletion,
            "e": self._read_remembered,
            "g": self._read_segment,
            "h": self._read_head,
            "i": self._read_node,
            "j": self._read_entry,
            "k": self._read_chunk,
            "l": self._read_letting_go,
            "m": self._read_manifest,
            "o": self._read_unnamed_list,
            "s": self._read_stored,
            "t": self._read_trash,
            "u": self._read_upload,
            "v": self._read_device,
            "x": self._read_name,
        }.items():
            self._readers[ord(letter)] = reader

    def read(self, kvs: Sequence[KeyValue]) -> None:
        """Take some keys. In any order, but the journal's keys in theirs."""
        self.counts["keys"] += len(kvs)
        readers, letter = self._readers, self._letter
        for kv in kvs:
            try:
                readers[kv.key[letter]](kv)
            except (msgspec.DecodeError, MoorageError, ValueError) as error:
                self.findings.add("record_unreadable", self.namespace, repr(kv.key)[2:-1], f"{error}")

    def _read_unknown(self, kv: KeyValue) -> None:
        self.findings.add("key_unknown", self.namespace, repr(kv.key)[2:-1])

    def settle(self) -> None:
        """Between batches: keep memory bounded."""
        for partitions in (self.nodes, self.references, self.chunks, self.objects, self.names):
            partitions.settle()

    def close(self) -> None:
        for partitions in (self.nodes, self.references, self.chunks, self.objects, self.names):
            partitions.close()

    # --- the tree

    def _add(self, row: tuple[Any, ...]) -> None:
        self._node_parts[hash(row[1]) % PARTS].append(_encode(row))

    def _read_head(self, kv: KeyValue) -> None:
        self.head = records.decode(Head, kv.value)

    def _read_child(self, kv: KeyValue) -> None:
        child = records.decode(Child, kv.value)
        parent, _, name = kv.key[self._cut :].decode().partition("/")
        self._add((CHILD, child.id, parent, name, child.kind))

    def _read_node(self, kv: KeyValue) -> None:
        node_id = kv.key[self._cut :].decode()
        node = records.decode(Node, kv.value)
        self._add((NODE, node_id, *_node_fields(node)))
        if node.kind == DIRECTORY:
            self.counts["directories"] += 1
            state = LET_GO if node.state == DELETED else node.state
            self.directories[hash(node_id)] = (hash(node.parent), state)
        else:
            self.counts["files"] += 1
        if node.state == PENDING_DELETION:
            self.pending[node.deletion] = node_id

    def _read_entry(self, kv: KeyValue) -> None:
        sequence = keys.parse_journal_sequence(kv.key)
        if not self.first_sequence:
            self.first_sequence = sequence
        elif sequence != self.last_sequence + 1:
            self.findings.add(
                "journal_gap",
                self.namespace,
                str(self.last_sequence + 1),
                f"Behind entry {self.last_sequence} comes entry {sequence}.",
            )
        self.last_sequence = sequence
        entry = records.decode(JournalEntry, kv.value)
        effect = _EFFECTS.get(entry.type)
        if entry.type == "delete":
            effect = SAME if entry.state == DELETED else RAISED
        if effect == MADE and entry.kind == DIRECTORY:
            self.made[hash(entry.id)] = sequence
        if effect is not None:
            self._add(
                (ENTRY, entry.id, sequence, effect, entry.version, entry.state, entry.parent, entry.name)
            )

    def _read_trash(self, kv: KeyValue) -> None:
        node_id = kv.key[self._cut :].decode()
        trash = records.decode(Trash, kv.value)
        self._add((IN_TRASH, node_id, trash.sequence))
        known = self.directories.get(hash(node_id))
        if known is not None and known[1] == LET_GO:
            self.directories[hash(node_id)] = (known[0], DELETED)

    # --- contents

    def _read_manifest(self, kv: KeyValue) -> None:
        file_id, _, version = kv.key[self._cut :].decode().partition("/")
        manifest = records.decode(Manifest, kv.value)
        number = int(version, 16)
        self.counts["manifests"] += 1
        is_back = manifest.upload.startswith("undelete:")
        content = manifest.size, manifest.digest, manifest.attrs
        self._add((CONTENT, file_id, number, is_back, *content))
        if manifest.segments:
            self.bases[manifest.segments] = (manifest.count, manifest.size, manifest.digest, True)
            return
        if summarize(manifest.entries) != (manifest.count, manifest.size, manifest.digest):
            self.findings.add(
                "manifest_wrong",
                self.namespace,
                f"{file_id} version {number}",
                "Its list of chunks does not add up to its count, size and digest.",
            )
        self.refer(manifest.entries)

    def refer(self, entries: list[Entry]) -> None:
        """These chunks are needed by something that is kept."""
        parts = self.references.parts
        if len(entries) == 1:
            _, digest, size = entries[0]
            parts[digest[0]].append(digest + size.to_bytes(4))
            return
        for number, packed in pack_references(entries).items():
            parts[number].extend(packed)

    def _read_segment(self, kv: KeyValue) -> None:
        base, _, _ = kv.key[self._cut :].decode().rpartition("/")
        self.segments[base] = self.segments.get(base, 0) + 1
        records.decode(Segment, kv.value)

    def _read_chunk(self, kv: KeyValue) -> None:
        digest = kv.key[self._cut :]
        if len(digest) != 32:
            raise ValueError("A chunk's key ends in the 32 bytes of its hash.")
        chunk = records.decode(Chunk, kv.value)
        self.counts["chunks"] += 1
        self.counts["bytes"] += chunk.size
        self.chunks.parts[digest[0]].append(digest + chunk.size.to_bytes(4) + bytes([chunk.state]))
        if chunk.size or chunk.object:
            is_damaged = chunk.state == CHUNK_DAMAGED
            row = (chunk.pool, chunk.object, chunk.offset, chunk.size, digest, is_damaged, kv.mod_revision)
            self.objects.parts[hash(chunk.object) % PARTS].append(_encode(row))

    def _read_name(self, kv: KeyValue) -> None:
        name = records.decode(ChunkName, kv.value)
        if name.digest:
            self.names.parts[name.digest[0]].append(name.digest)

    def _read_bound(self, kv: KeyValue) -> None:
        self.bound.append((kv.key[self._cut :].decode(), records.decode(Bound, kv.value).sequence))

    # --- uploads and work

    def _read_upload(self, kv: KeyValue) -> None:
        upload = records.decode(Upload, kv.value)
        self.uploads.add(kv.key[self._cut :].decode())
        for file in upload.files:
            if file.segments:
                self.bases.setdefault(file.segments, (file.count, -1, b"", False))

    def _read_stored(self, kv: KeyValue) -> None:
        records.decode(Stored, kv.value)
        upload_id = kv.key[self._cut :].decode().partition("/")[0]
        self.calls[upload_id] = self.calls.get(upload_id, 0) + 1

    def _read_deletion(self, kv: KeyValue) -> None:
        self.deletions[kv.key[self._cut :].decode()] = records.decode(Deletion, kv.value).node

    def _read_letting_go(self, kv: KeyValue) -> None:
        records.decode(Trash, kv.value)

    def _read_unnamed_list(self, kv: KeyValue) -> None:
        """The collector's note on a list that nothing names: counted by its segments."""

    def _read_remembered(self, kv: KeyValue) -> None:
        records.decode(Remembered, kv.value)

    def _read_device(self, kv: KeyValue) -> None:
        records.decode(Device, kv.value)


def _node_fields(node: Node) -> tuple[Any, ...]:
    return node.kind, node.parent, node.name, node.state, node.version, node.size, node.digest, node.attrs


def segments_of(count: int) -> int:
    return -(-count // SEGMENT_ENTRIES)
