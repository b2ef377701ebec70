"""What clients and servers say, as types (PROTOCOL.md). Unknown fields are refused with their path.

Ids, names and hashes are plain strings here; `moorage.core.ids` parses them where they are used.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from moorage.core.ids import MAX_CHUNK_BYTES, MAX_VERSION

Version = Annotated[int, Meta(ge=0, le=MAX_VERSION)]
ChunkSize = Annotated[int, Meta(ge=0, le=MAX_CHUNK_BYTES)]
MAX_BATCH_FILES = 1000


class Request(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """The base of everything a client sends."""


class Answer(Struct, kw_only=True, omit_defaults=False):
    """The base of everything a server answers; fields that are UNSET are left out."""


# --- discovery and login ----------------------------------------------------------------------------------


class ServerLists(Answer, kw_only=True):
    meta_servers: list[str]
    block_servers: list[str]
    auth_server: str
    notification_servers: list[str]


class ServersAnswer(ServerLists, kw_only=True):
    clusters: dict[str, ServerLists]


class LoginRequest(Request, frozen=True, kw_only=True):
    username: str
    password: str


class RefreshRequest(Request, frozen=True, kw_only=True):
    refresh_token: str


class LoginAnswer(Answer, kw_only=True):
    token: str
    server_key: str
    expires_at: str
    refresh_token: str
    root_dir_id: str
    user_id: str


class PutUserRequest(Request, frozen=True, kw_only=True):
    """`password` is required for a new user; for an existing one it must be the same or absent."""

    password: str | UnsetType = UNSET
    server_key: str | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


class PasswordRequest(Request, frozen=True, kw_only=True):
    password: str


class UserAnswer(Answer, kw_only=True):
    username: str
    user_id: str
    server_key: str
    root_dir_id: str
    disabled: bool
    created: str


class UsersAnswer(Answer, kw_only=True):
    users: list[UserAnswer]
    next_cursor: str | None = None


# --- directories ------------------------------------------------------------------------------------------


class CreateDirectoryRequest(Request, frozen=True, kw_only=True):
    path: str
    parent_dir_id: str


class NodeAnswer(Answer, kw_only=True):
    """One directory or file. `version`, `size`, `hash` are set for files only."""

    id: str
    type: str  # "directory" or "file"
    name: str
    parent_dir_id: str | None
    path: str
    state: str
    meta_version: int
    modified: str
    version: int | UnsetType = UNSET
    size: int | UnsetType = UNSET


class DirectoryEntry(Answer, kw_only=True):
    id: str
    name: str
    modified: str
    state: str


class FileEntry(DirectoryEntry, kw_only=True):
    version: int
    size: int


class ListDirectoryAnswer(Answer, kw_only=True):
    directories: list[DirectoryEntry]
    files: list[FileEntry]
    next_cursor: str | UnsetType | None = UNSET


class ReplaceTarget(Request, frozen=True, kw_only=True):
    id: str


class MoveRequest(Request, frozen=True, kw_only=True):
    parent_dir_id: str
    name: str
    meta_version: Version | UnsetType = UNSET
    replace: ReplaceTarget | UnsetType = UNSET


# --- files ------------------------------------------------------------------------------------------------


class CreateFileRequest(Request, frozen=True, kw_only=True):
    """Either `parent_dir_id` and `name`, or `path` below `parent_dir_id` (default: the root)."""

    parent_dir_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    path: str | UnsetType = UNSET


class Attrs(Request, frozen=True, kw_only=True):
    """What a client wants kept with a version; the server does not interpret it."""

    mtime: str | UnsetType = UNSET
    mode: Annotated[int, Meta(ge=0, le=0o7777)] | UnsetType = UNSET
    type: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET


class FileMetadataAnswer(Answer, kw_only=True):
    l2_metadata_server: str
    version: int
    name: str
    size: int
    modified: str
    state: str
    hash: str
    attrs: dict[str, Any]


class ChunkEntry(Answer, kw_only=True):
    chunk_id: str
    l3_server: str
    block_server: str
    offset: int
    size: int
    hash: str


class ChunksAnswer(Answer, kw_only=True):
    chunks: list[ChunkEntry]
    download_token: str
    version: int
    next_cursor: str | UnsetType | None = UNSET


class ChunkMetadataAnswer(Answer, kw_only=True):
    size: int
    hash: str
    state: str
    block_server: str


class DownloadMetadata(Answer, kw_only=True):
    size: int
    hash: str


class DownloadChunkAnswer(Answer, kw_only=True):
    metadata: DownloadMetadata
    data: bytes  # base64 on the wire


# --- update -----------------------------------------------------------------------------------------------


class ManifestEntry(Request, frozen=True, kw_only=True):
    """One chunk of the manifest to be; `chunk_id` left out is the hash."""

    hash: str
    size: ChunkSize
    chunk_id: str | UnsetType = UNSET


class UpdateRequest(Request, frozen=True, kw_only=True):
    client_version: Version
    chunks: list[ManifestEntry] | UnsetType = UNSET
    parent_dir_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class UpdateAnswer(Answer, kw_only=True):
    status: str  # "proceed"
    required_chunks: list[str]
    upload_token: str
    block_server: str


class StoreChunkMetadata(Request, frozen=True, kw_only=True):
    hash: str
    size: ChunkSize | UnsetType = UNSET


class StoreChunk(Request, frozen=True, kw_only=True):
    chunk_id: str
    metadata: StoreChunkMetadata
    data: bytes  # base64 on the wire


class StoredChunk(Answer, kw_only=True):
    chunk_id: str
    hash: str
    size: int
    status: str  # "stored"


class StoreChunkAnswer(Answer, kw_only=True):
    chunks: list[StoredChunk]


class CommitRequest(Request, frozen=True, kw_only=True):
    upload_token: str
    new_version: Version
    chunks: list[str] | UnsetType = UNSET
    attrs: Attrs | UnsetType = UNSET


class CommitAnswer(Answer, kw_only=True):
    status: str  # "committed"
    version: int


class BatchUpdateFile(Request, frozen=True, kw_only=True):
    file_id: str
    client_version: Version
    chunks: list[ManifestEntry] | UnsetType = UNSET
    parent_dir_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class BatchUpdateRequest(Request, frozen=True, kw_only=True):
    files: Annotated[list[BatchUpdateFile], Meta(min_length=1, max_length=MAX_BATCH_FILES)]


class BatchUpdateAnswer(Answer, kw_only=True):
    """One result per file, in the order of the request: `{"file_id", "status", ...}` as alone."""

    files: list[dict[str, Any]]
    required_chunks: list[str]
    upload_token: str | None
    block_server: str


class BatchCommitFile(Request, frozen=True, kw_only=True):
    file_id: str
    new_version: Version
    chunks: list[str] | UnsetType = UNSET
    attrs: Attrs | UnsetType = UNSET


class BatchCommitRequest(Request, frozen=True, kw_only=True):
    upload_token: str
    files: Annotated[list[BatchCommitFile], Meta(min_length=1, max_length=MAX_BATCH_FILES)]


class BatchCommitAnswer(Answer, kw_only=True):
    files: list[dict[str, Any]]


# --- versions ---------------------------------------------------------------------------------------------


class VersionEntry(Answer, kw_only=True):
    version: int
    size: int
    modified: str
    hash: str
    attrs: dict[str, Any]


class VersionsAnswer(Answer, kw_only=True):
    versions: list[VersionEntry]
    next_cursor: str | UnsetType | None = UNSET


class RestoreRequest(Request, frozen=True, kw_only=True):
    """Make `version`'s content the file's next version; `client_version` is the version the client saw."""

    version: Version
    client_version: Version


# --- deletion ---------------------------------------------------------------------------------------------


class DeleteFileRequest(Request, frozen=True, kw_only=True):
    """`client_id`: the device that deletes, which need not be told."""

    client_version: Version
    client_id: str | UnsetType = UNSET


class DeleteDirectoryRequest(Request, frozen=True, kw_only=True):
    recursive: bool
    client_id: str | UnsetType = UNSET


class DeletionAnswer(Answer, kw_only=True):
    status: str  # "pending_deletion"
    notification_id: str
    server_version: int


class AckDeletionRequest(Request, frozen=True, kw_only=True):
    notification_id: str
    client_id: str


class AckDeletionAnswer(Answer, kw_only=True):
    status: str  # "acknowledged"


class UndeleteRequest(Request, frozen=True, kw_only=True):
    """Where it goes, if not back to where it was."""

    parent_dir_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class TrashEntry(Answer, kw_only=True):
    """`parent_dir_id` and `name`: where it was. `size` is set for files only."""

    id: str
    type: str  # "directory" or "file"
    name: str
    parent_dir_id: str
    version: int
    deleted: str
    size: int | UnsetType = UNSET


class TrashAnswer(Answer, kw_only=True):
    trash: list[TrashEntry]
    next_cursor: str | None


# --- clients and changes ------------------------------------------------------------------------------------


class PutClientRequest(Request, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=255)]


class ClientAnswer(Answer, kw_only=True):
    client_id: str
    name: str
    registered: str
    last_seen: str


class ChangeEntry(Answer, kw_only=True):
    """A node as a change left it. `type`: create, commit, restore, move, replace, delete, undelete; `node`:
    directory or file. What happens to a directory happens to all below it: one that comes by anything but `create`
    (undeleted, or moved before the client knew it) comes with what is below, which is to be listed. A directory that
    is created is empty, also when the client still knows what lay below a deleted one that had its id.
    """

    type: str
    id: str
    parent_dir_id: str
    name: str
    version: int
    state: str
    node: str


class ChangesAnswer(Answer, kw_only=True):
    """Either the changes behind a cursor, or `reset` alone with its `reason`."""

    changes: list[ChangeEntry] | UnsetType = UNSET
    cursor: str | UnsetType = UNSET
    more: bool | UnsetType = UNSET
    reset: bool | UnsetType = UNSET
    reason: str | UnsetType = UNSET


# --- push ---------------------------------------------------------------------------------------------------


class DeleteMessage(Struct, kw_only=True, tag_field="type", tag="delete"):
    """A node is being deleted: to be acknowledged by `deadline`. `node`: "file" or "directory", then with all that
    is below.
    """

    file_id: str
    notification_id: str
    deadline: str
    node: str = "file"


class ChangeMessage(Struct, kw_only=True, tag_field="type", tag="change"):
    """The feed goes up to `cursor` or beyond: ask `/changes`, unless that is where the client stands."""

    cursor: str


class ResyncMessage(Struct, kw_only=True, tag_field="type", tag="resync"):
    """Messages were lost: ask `/changes`."""


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)
