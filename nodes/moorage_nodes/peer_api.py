"""What servers say to one another on their internal ports, as types.

Unlike what clients send, unknown fields are ignored: servers of neighbouring versions work together. Every call
is idempotent. Hashes are `sha256_<hex>`, sizes and offsets bytes, states the words of the protocol.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from moorage.core.ids import MAX_CHUNK_BYTES, parse_hash

MAX_CALL_CHUNKS = 4096  # one call's chunks are one value in etcd: with the longest names about 700 kB
MAX_LOCATE_IDS = 1024
MAX_VERIFIED_CHUNKS = 1024
MANIFEST_PAGE_CHUNKS = 1024
MAX_NOTIFIED_CLIENTS = 1024  # L1 registers fewer
MAX_NOTIFIED_CHUNKS = 1000
MAX_HINTS = 1000

Size = Annotated[int, Meta(ge=0, le=MAX_CHUNK_BYTES)]
Offset = Annotated[int, Meta(ge=0)]


class Place(Struct, kw_only=True, frozen=True):
    """Where a chunk's bytes lie: `size` bytes at `offset` of `<namespace>/<object>` in the pool's bucket.
    An empty chunk has no object: `object` is empty.
    """

    hash: str
    size: Size
    pool: str
    object: str
    offset: Offset
    state: str


class RegisteredChunk(Struct, kw_only=True, frozen=True):
    """A chunk of a register call, its bytes durable. `object` as in `Place`, under the upload's own prefix."""

    chunk_id: str
    hash: str
    size: Size
    object: str
    offset: Offset


class RegisterRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/register` (L3): what one accepted call stored, in the order of its array.

    `call` names the call: the same call again changes nothing. It must never be used for other chunks.
    """

    namespace: str
    upload: str
    call: str
    pool: str
    chunks: Annotated[list[RegisteredChunk], Meta(min_length=1, max_length=MAX_CALL_CHUNKS)]


class RegisterAnswer(Struct, kw_only=True, frozen=True):
    registered: int


class OpenUploadsRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/open_uploads` (L3)."""

    namespace: str


class OpenUploadsAnswer(Struct, kw_only=True, frozen=True):
    """At most two ids: one more than a caller that names none may have."""

    uploads: list[str]


class LocateRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/locate` (L3): ids are hashes or a client's names for chunks."""

    namespace: str
    ids: Annotated[list[str], Meta(max_length=MAX_LOCATE_IDS)]


class LocateAnswer(Struct, kw_only=True, frozen=True):
    """One entry per id, in order; None for what the namespace does not hold."""

    chunks: list[Place | None]


class DeleteChunksRequest(Struct, kw_only=True, frozen=True):
    """`POST /delete_chunks` (block): `soft` marks chunks as ones that a deletion let go, which moves and removes
    nothing; `hard`, the collector's alone, deletes `objects` of this server's pool, named as in `Place`: the chunks
    that were in them have no records any more. `server_key`: the metadata cluster of the namespace.
    """

    namespace: str
    server_key: str
    chunk_ids: Annotated[list[str], Meta(max_length=MAX_LOCATE_IDS)]
    deletion_mode: Literal["soft", "hard"]
    objects: Annotated[list[str], Meta(max_length=MAX_LOCATE_IDS)] = []


class DeleteChunksAnswer(Struct, kw_only=True, frozen=True):
    status: str  # "chunks_marked_for_deletion", "chunks_deleted"


class ListObjectsRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/list_objects` (block): a namespace's objects in this server's pool, behind the name `after`."""

    namespace: str
    after: str = ""


class ListObjectsAnswer(Struct, kw_only=True, frozen=True):
    """(name as in `Place`, size); `more`: ask again behind the last."""

    objects: list[tuple[str, int]]
    more: bool


class CopiedChunk(Struct, kw_only=True, frozen=True):
    hash: str
    offset: Offset
    size: Size


class CopyObjectRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/copy_object` (block): make `target` of these chunks of `source`, one behind the other."""

    namespace: str
    source: str
    target: str
    chunks: Annotated[list[CopiedChunk], Meta(min_length=1, max_length=MAX_CALL_CHUNKS)]


class CopyObjectAnswer(Struct, kw_only=True, frozen=True):
    size: int


class MarkRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/mark` (L3): what of these ids (as in `LocateRequest`) is live becomes soft deleted."""

    namespace: str
    ids: Annotated[list[str], Meta(max_length=MAX_LOCATE_IDS)]


class MarkAnswer(Struct, kw_only=True, frozen=True):
    """How many were marked by this call."""

    marked: int


class VerifiedChunk(Struct, kw_only=True, frozen=True):
    """A chunk whose bytes are to be read again: `object` as in `Place`."""

    hash: str
    size: Size
    object: str
    offset: Offset

    def digest(self) -> bytes:
        return parse_hash(self.hash)


class VerifyRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/verify` (block)."""

    namespace: str
    chunks: Annotated[list[VerifiedChunk], Meta(max_length=MAX_VERIFIED_CHUNKS)]


class VerifyAnswer(Struct, kw_only=True, frozen=True):
    """Of each chunk, in order."""

    verdicts: list[Literal["ok", "lost", "damaged"]]


class ManifestRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/manifest` (L2): one page of one version of a file; the current one without `version`.

    The page begins with the chunk at `index`, or with the one that holds the byte `offset`.
    """

    namespace: str
    file_id: str
    version: int | None = None
    index: Offset = 0
    offset: Offset | None = None


class ManifestChunk(Place, kw_only=True, frozen=True):
    """`name`: the client's name for it in this manifest, None when that is the hash."""

    name: str | None


class ManifestAnswer(Struct, kw_only=True, frozen=True):
    """`size`, `hash`, `count` are of the whole version; `start` is the first byte of the page's first chunk and
    `index` its place; `next_index` is None on the last page. `modified` is in Unix milliseconds.
    """

    version: int
    size: int
    hash: str
    modified: int
    name: str
    count: int
    index: int
    start: int
    chunks: list[ManifestChunk]
    next_index: int | None


# --- deletions and their notifications ----------------------------------------------------------------------------


class Part(Struct, kw_only=True, frozen=True):
    """Which part of a deletion's `chunk_ids` a call brings, from 0 on."""

    index: int
    last: bool


class NotifyDeletionRequest(Struct, kw_only=True, frozen=True):
    """`POST /notify_deletion` (notifier): tell `client_ids` of the user `namespace` that a node is being deleted.

    `server_key`: the cluster that asks, and is told the outcome. More chunks than one call takes come in parts;
    the notification stands with the last of them. `node`: "file" or "directory", whose chunks are not listed.
    """

    namespace: str
    server_key: str
    file_id: str
    notification_id: str
    client_ids: Annotated[list[str], Meta(max_length=MAX_NOTIFIED_CLIENTS)]
    chunk_ids: Annotated[list[str], Meta(max_length=MAX_NOTIFIED_CHUNKS)]
    part: Part = Part(index=0, last=True)
    node: Literal["file", "directory"] = "file"


class NotifyDeletionAnswer(Struct, kw_only=True, frozen=True):
    status: str  # "notifications_queued"


class DeletionStatusRequest(Struct, kw_only=True, frozen=True):
    """`POST /deletion_status` (L1): every client has acknowledged, or the deadline has passed."""

    namespace: str
    notification_id: str
    acknowledged_clients: list[str]
    unresponsive_clients: list[str]


class DeletionStatusAnswer(Struct, kw_only=True, frozen=True):
    status: str  # "proceed_with_deletion"


class WithdrawRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/withdraw` (notifier): what was to be deleted has been brought back; nobody else is told."""

    namespace: str
    notification_id: str


class WithdrawAnswer(Struct, kw_only=True, frozen=True):
    withdrawn: bool


class Change(Struct, kw_only=True, frozen=True):
    """The feed of `namespace` goes up to `cursor`, or beyond."""

    namespace: str
    cursor: str


class HintsRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/changes` (notifier): namespaces that changed, for whoever waits for that."""

    changes: Annotated[list[Change], Meta(max_length=MAX_HINTS)]


class HintsAnswer(Struct, kw_only=True, frozen=True):
    told: int


class SeeClientRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/clients` (L1): a client of `namespace` is there; registers it when it is new."""

    namespace: str
    client_id: str
    register: bool = True


class SeeClientAnswer(Struct, kw_only=True, frozen=True):
    registered: bool


class TellDeletionRequest(Struct, kw_only=True, frozen=True):
    """`POST /internal/tell_deletion` (L1): a client knows of a deletion that the notifier has not heard of."""

    namespace: str
    notification_id: str


class TellDeletionAnswer(Struct, kw_only=True, frozen=True):
    """`waits`: whether the deletion waits for its clients; the notifier has been told of it then."""

    waits: bool
