"""The values behind the keys: msgpack arrays whose first element is the schema version.

Fields are only ever appended, with defaults: a reader of schema N reads every record of schema <= N and ignores
fields appended later (msgspec array semantics). A record whose schema is newer than we know is refused.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from moorage.core.errors import MoorageError

DIRECTORY = 0
FILE = 1
KIND_NAMES = ("directory", "file")

LIVE = 0
PENDING_DELETION = 1
DELETED = 2
STATE_NAMES = ("live", "pending_deletion", "deleted")

TO_TELL = 0
TOLD = 1
PROCEED = 2

CHUNK_LIVE = 0
CHUNK_SOFT_DELETED = 1
CHUNK_CONDEMNED = 2
CHUNK_DAMAGED = 3
CHUNK_STATE_NAMES = ("live", "soft_deleted", "condemned", "damaged")

# (name, or None when the name is the hash; 32 bytes of SHA-256; size in bytes)
Entry = tuple[str | None, bytes, int]

INLINE_ENTRIES = 1024  # longer lists of chunks live in segments
SEGMENT_ENTRIES = 4096  # at most ~700 kB a segment with the longest names


class FormatError(MoorageError):
    """A record of a newer schema than this server knows: an older server must not guess."""

    word = "format_too_new"


class Head(Struct, array_like=True, frozen=True):
    """`sequence` of the last journal entry; `generation` moves when the collector removes or condemns. `mark` is drawn
    anew by each change, so that the head that a change leaves behind can be told from all others by its value.
    """

    schema: int = 1
    sequence: int = 0
    generation: int = 0
    mark: int = 0


class Node(Struct, array_like=True, frozen=True, kw_only=False):
    """A directory or a file. Times are Unix milliseconds. `digest` is the SHA-256 of the ordered chunk digests.
    `deletion` is the notification id of the deletion that took it out of the tree; empty while it is live.
    """

    schema: int
    kind: int
    parent: str
    name: str
    state: int
    meta_version: int
    modified: int
    version: int = 0
    size: int = 0
    digest: bytes = b""
    attrs: dict[str, Any] = {}
    deletion: str = ""


class Child(Struct, array_like=True, frozen=True):
    schema: int
    kind: int
    id: str


class Manifest(Struct, array_like=True, frozen=True):
    """One version of one file, immutable. `entries` inline, or `count` entries in segments under `segments`."""

    schema: int
    size: int
    digest: bytes
    modified: int
    upload: str
    attrs: dict[str, Any]
    count: int
    segments: str = ""
    entries: list[Entry] = []


class JournalEntry(Struct, array_like=True, frozen=True):
    """One change of the namespace. `request` is the caller's idempotency key, or empty; `from_parent` and
    `from_name` are the place that a moved node has left.
    """

    schema: int
    type: str  # create, commit, restore, move, replace, delete, undelete, ...
    id: str
    kind: int
    parent: str
    name: str
    version: int
    state: int
    request: str = ""
    from_parent: str = ""
    from_name: str = ""


class UploadFile(Struct, array_like=True, frozen=True):
    """One file of an upload: the version it builds on, where a new file goes, and the manifest to be.

    `planned` tells whether the client named a manifest (then these chunks are pinned); a long one lies in
    segments under `segments`.
    """

    file_id: str
    base: int
    parent: str = ""
    name: str = ""
    planned: bool = False
    count: int = 0
    segments: str = ""
    entries: list[Entry] = []


class Upload(Struct, array_like=True, frozen=True):
    schema: int
    user: str
    created: int
    pool: str
    files: list[UploadFile]


class Stored(Struct, array_like=True, frozen=True):
    """The chunks that one accepted call stored, in the order of its array."""

    schema: int
    time: int
    entries: list[Entry]


class Chunk(Struct, array_like=True, frozen=True):
    """Where a chunk's bytes lie: `length` bytes at `offset` of `<namespace>/<object>` in the pool's bucket."""

    schema: int
    size: int
    pool: str
    object: str
    offset: int
    length: int
    state: int = CHUNK_LIVE


class Segment(Struct, array_like=True, frozen=True):
    """A run of up to `SEGMENT_ENTRIES` entries of a long list of chunks: segment `i` begins with entry
    `i * SEGMENT_ENTRIES`.
    """

    schema: int
    entries: list[Entry]


class ChunkName(Struct, array_like=True, frozen=True):
    """What a client's name for a chunk means: `digest` (32 bytes; empty: nothing), unless a pending binding has
    come to stand meanwhile. Read with metadata/names.py. `pending`: (binding, digest), in the order written.
    """

    schema: int
    digest: bytes
    pending: list[tuple[str, bytes]] = []


class Bound(Struct, array_like=True, frozen=True):
    """A binding of many names stands, since the journal entry `sequence`."""

    schema: int
    sequence: int


class Remembered(Struct, array_like=True, frozen=True):
    """What a request with an idempotency key did: `arguments` is a SHA-256 of them, `result` the plan's result
    in msgpack, `time` Unix milliseconds.
    """

    schema: int
    time: int
    arguments: bytes
    result: bytes


class Deletion(Struct, array_like=True, frozen=True):
    """A deletion under way: of which node, at which version, from which place; `client` began it (empty: unsaid),
    `clients` are the devices to be told. `time` is Unix milliseconds.

    `walk` is what of a directory is yet to be walked: (directory, name to go on behind; None: from its start), the
    next one last. Empty: done, or a file. `step`: whether the clients are yet to be told, have been handed to the
    notifier, or need not be waited for any more.
    """

    schema: int
    node: str
    kind: int
    version: int
    parent: str
    name: str
    time: int
    client: str
    clients: list[str]
    walk: list[tuple[str, str | None]] = []
    step: int = TO_TELL


class Work(Struct, array_like=True, frozen=True):
    """A deletion waits for its next step: what any server of the cluster finds after another one's crash."""

    schema: int


class Trash(Struct, array_like=True, frozen=True):
    """A deleted node that can be brought back: deleted with the journal entry `sequence` at `time` (Unix ms)."""

    schema: int
    sequence: int
    time: int


class Device(Struct, array_like=True, frozen=True):
    """A client of the namespace. Times are Unix milliseconds; `seen` is coarse."""

    schema: int
    name: str
    registered: int
    seen: int


class CollectorState(Struct, array_like=True, frozen=True):
    """What collectors leave to the next one (gc/age.py): the cluster's `age` in milliseconds when it was last
    measured, and by which clocks; `samples` are (revision, age), ascending. `collections` counts those that ended
    complete; `begin_at`: the namespace that the next run begins with.
    """

    schema: int = 1
    age: int = 0
    wall: int = 0
    boot: str = ""
    uptime: int = 0
    samples: list[tuple[int, int]] = []
    collections: int = 0
    begin_at: str = ""


class PoolsLeft(Struct, array_like=True, frozen=True):
    """What the last complete collection left in each pool that it looked at: pool → (chunk records, objects). `began`:
    the revision at its beginning; what was written after it may not be counted.
    """

    schema: int = 1
    began: int = 0
    pools: dict[str, tuple[int, int]] = {}


class ScrubState(Struct, array_like=True, frozen=True):
    """How far the scrubber is: in its pass number `number`, behind the chunk `digest` of `namespace` (empty: at its
    start). Times are Unix milliseconds; `finished` is 0 while the pass goes on. `damaged` and `readable`: what this
    pass marked and unmarked.
    """

    schema: int = 1
    number: int = 1
    started: int = 0
    finished: int = 0
    namespace: str = ""
    digest: bytes = b""
    chunks: int = 0
    bytes: int = 0
    damaged: int = 0
    readable: int = 0


SCHEMAS: dict[type[Struct], int] = {
    CollectorState: 1,
    PoolsLeft: 1,
    ScrubState: 1,
    Head: 1,
    Node: 1,
    Child: 1,
    Manifest: 1,
    JournalEntry: 1,
    Upload: 1,
    Stored: 1,
    Chunk: 1,
    Segment: 1,
    ChunkName: 1,
    Bound: 1,
    Remembered: 1,
    Deletion: 1,
    Work: 1,
    Trash: 1,
    Device: 1,
}

R = TypeVar("R", bound=Struct)
_decoders: dict[type[Struct], msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in SCHEMAS
}
_encoder = msgspec.msgpack.Encoder()


def encode(record: Struct) -> bytes:
    return _encoder.encode(record)


def decode(kind: type[R], data: bytes) -> R:
    record: R = _decoders[kind].decode(data)
    if record.schema > SCHEMAS[kind]:  # type: ignore[attr-defined]
        raise _too_new(kind, record)
    return record


def decode_all(kind: type[R], values: Iterable[bytes]) -> list[R]:
    """As `decode`, of many."""
    found: list[R] = list(map(_decoders[kind].decode, values))
    known = SCHEMAS[kind]
    for record in found:
        if record.schema > known:  # type: ignore[attr-defined]
            raise _too_new(kind, record)
    return found


def _too_new(kind: type[R], record: R) -> FormatError:
    return FormatError(
        f"A {kind.__name__} record has schema {record.schema}; this server knows up to {SCHEMAS[kind]}. "  # type: ignore[attr-defined]
        "Upgrade this server."
    )
