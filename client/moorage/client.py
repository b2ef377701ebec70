"""The calls of PROTOCOL.md for one logged-in user, each one request; what several of them make is in `moorage.transfers`.

Every call raises the errors of `moorage.core.errors` that its route answers with; StoreUnavailableError means that
nobody answered for long. All may be repeated.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import UNSET, UnsetType

from moorage.core.errors import StoreUnavailableError, UnauthenticatedError
from moorage.core.wire import (
    BatchCommitAnswer,
    BatchCommitFile,
    BatchCommitRequest,
    BatchUpdateAnswer,
    BatchUpdateFile,
    BatchUpdateRequest,
    ChunkEntry,
    ChunksAnswer,
    CommitAnswer,
    CreateDirectoryRequest,
    DeleteDirectoryRequest,
    DeleteFileRequest,
    DeletionAnswer,
    DirectoryEntry,
    FileEntry,
    FileMetadataAnswer,
    ListDirectoryAnswer,
    MoveRequest,
    NodeAnswer,
    ReplaceTarget,
    RestoreRequest,
    ServersAnswer,
    StoreChunk,
    StoreChunkMetadata,
    TrashAnswer,
    TrashEntry,
    UndeleteRequest,
    VersionEntry,
    VersionsAnswer,
)
from moorage.session import Session, Tokens
from moorage.transport import P, Transport, decode, walk_pages

PAGE = 1000

A = TypeVar("A")


class Client:
    """One user's store. `session`: of `log_in`; `on_renewed` gets each session that takes its place."""

    def __init__(
        self, transport: Transport, session: Session, on_renewed: Callable[[Session], None] = lambda _: None
    ) -> None:
        self._transport = transport
        self._tokens = Tokens(transport, session, on_renewed)
        self._scheme = session.url.partition("://")[0]
        self._servers: asyncio.Task[ServersAnswer] | None = None

    def new_id(self) -> str:
        """For a file or directory that is to be made: nobody else has it."""
        return f"n_{self._transport.draw()}"

    # --- directories --------------------------------------------------------------------------------------

    async def resolve(self, path: str) -> NodeAnswer:
        return await self._ask("GET", "/resolve", NodeAnswer, query={"path": path})

    async def list_directory(self, dir_id: str) -> AsyncIterator[DirectoryEntry | FileEntry]:
        """In order of names, directories and files apart within a page."""
        path = f"/list_directory/{dir_id}"
        async for page in self._ask_all(path, ListDirectoryAnswer, {"limit": str(PAGE)}):
            for entry in (*page.directories, *page.files):
                yield entry

    async def create_directory(self, dir_id: str, parent_id: str, path: str) -> NodeAnswer:
        """`path` below the parent: what is missing on it is made, its last part gets `dir_id`."""
        body = CreateDirectoryRequest(path=path, parent_dir_id=parent_id)
        return await self._change("PUT", f"/create_directory/{dir_id}", NodeAnswer, body)

    async def move(
        self, node_id: str, parent_id: str, name: str, *, meta_version: int, replaced_id: str | None = None
    ) -> NodeAnswer:
        """ConflictError when the node was moved since `meta_version`."""
        body = MoveRequest(
            parent_dir_id=parent_id,
            name=name,
            meta_version=meta_version,
            replace=UNSET if replaced_id is None else ReplaceTarget(id=replaced_id),
        )
        return await self._change("POST", f"/move/{node_id}", NodeAnswer, body)

    # --- files --------------------------------------------------------------------------------------------

    async def file_metadata(self, file_id: str, version: int | None = None) -> FileMetadataAnswer:
        query = {} if version is None else {"version": str(version)}
        return await self._ask("GET", f"/files/{file_id}/metadata", FileMetadataAnswer, query=query)

    async def list_chunks(self, server: str, file_id: str, version: int) -> AsyncIterator[ChunkEntry]:
        """In file order. `server`: the file's `l2_metadata_server`."""
        url = f"{self._scheme}://{server}/files/{file_id}/chunks"

        async def ask(query: Mapping[str, str]) -> ChunksAnswer:
            return decode(await self._authorized("GET", url, query=query), ChunksAnswer)

        async for page in walk_pages(ask, {"version": str(version), "limit": str(PAGE)}):
            for entry in page.chunks:
                yield entry

    async def get_chunk(self, server: str, name: str) -> bytes:
        return await self._authorized("GET", f"{self._scheme}://{server}/chunks/{name}")

    async def list_versions(self, file_id: str) -> AsyncIterator[VersionEntry]:
        """The kept ones, newest first."""
        async for page in self._ask_all(f"/files/{file_id}/versions", VersionsAnswer):
            for entry in page.versions:
                yield entry

    async def restore(self, file_id: str, version: int, *, client_version: int) -> int:
        """Make that version's content the next version, whose number is answered."""
        body = RestoreRequest(version=version, client_version=client_version)
        return (await self._change("POST", f"/files/{file_id}/restore", CommitAnswer, body)).version

    # --- uploads ------------------------------------------------------------------------------------------

    async def batch_update(self, files: Sequence[BatchUpdateFile]) -> BatchUpdateAnswer:
        """Without a key: a second upload of the same files takes the place of the first, while nothing is in it."""
        body = BatchUpdateRequest(files=list(files))
        return await self._ask("POST", "/files:batch_update", BatchUpdateAnswer, body=body)

    async def batch_commit(self, upload_token: str, files: Sequence[BatchCommitFile]) -> BatchCommitAnswer:
        """Without a key: a version that names its upload is proof that it was committed."""
        body = BatchCommitRequest(upload_token=upload_token, files=list(files))
        return await self._ask("POST", "/files:batch_commit", BatchCommitAnswer, body=body)

    async def put_chunk(self, server: str, upload_token: str, name: str, data: bytes) -> None:
        url = f"{self._scheme}://{server}/chunks/{name}"
        await self._transport.send("PUT", url, token=upload_token, content=data)

    async def store_chunks(self, server: str, upload_token: str, chunks: Mapping[str, bytes]) -> None:
        """Small chunks by their hashes, in one call: all of them or none."""
        body = [
            StoreChunk(chunk_id=name, metadata=StoreChunkMetadata(hash=name), data=data)
            for name, data in chunks.items()
        ]
        await self._transport.send(
            "POST", f"{self._scheme}://{server}/store_chunk", token=upload_token, body=body
        )

    # --- deletion -----------------------------------------------------------------------------------------

    async def delete_file(self, file_id: str, version: int) -> DeletionAnswer:
        body = DeleteFileRequest(client_version=version)
        return await self._change("DELETE", f"/delete_file/{file_id}", DeletionAnswer, body)

    async def delete_directory(self, dir_id: str, *, recursive: bool) -> DeletionAnswer:
        body = DeleteDirectoryRequest(recursive=recursive)
        return await self._change("DELETE", f"/delete_directory/{dir_id}", DeletionAnswer, body)

    async def list_trash(self) -> AsyncIterator[TrashEntry]:
        async for page in self._ask_all("/trash", TrashAnswer):
            for entry in page.trash:
                yield entry

    async def undelete(
        self, node_id: str, *, parent_id: str | UnsetType = UNSET, name: str | UnsetType = UNSET
    ) -> NodeAnswer:
        body = UndeleteRequest(parent_dir_id=parent_id, name=name)
        return await self._change("POST", f"/undelete/{node_id}", NodeAnswer, body)

    # --- how they are sent --------------------------------------------------------------------------------

    async def _change(self, method: str, path: str, answer: type[A], body: Any) -> A:
        """With a key of its own, so that a retry whose first try was carried out is answered as that one was."""
        key = self._transport.draw()
        return await self._ask(method, path, answer, body=body, idempotency_key=key)

    def _ask_all(
        self, path: str, answer: type[P], query: Mapping[str, str] | None = None
    ) -> AsyncIterator[P]:
        """The pages of a list."""

        async def ask(asked: Mapping[str, str]) -> P:
            return await self._ask("GET", path, answer, query=asked)

        return walk_pages(ask, query)

    async def _ask(
        self,
        method: str,
        path: str,
        answer: type[A],
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> A:
        servers = (await self._find_servers()).meta_servers
        if not servers:
            raise StoreUnavailableError("The store does not name a server for this user yet; try again.")
        server = servers[0]
        content = await self._authorized(
            method,
            f"{self._scheme}://{server}{path}",
            body=body,
            query=query,
            idempotency_key=idempotency_key,
        )
        return decode(content, answer)

    async def _find_servers(self) -> ServersAnswer:
        """Asked once; they are names, and what is behind a name may change."""
        if self._servers is None or (self._servers.done() and self._servers.exception() is not None):
            self._servers = asyncio.ensure_future(self._ask_servers())
        return await asyncio.shield(self._servers)

    async def _ask_servers(self) -> ServersAnswer:
        content = await self._authorized("GET", f"{self._tokens.session.url}/get_servers")
        return decode(content, ServersAnswer)

    async def _authorized(self, method: str, url: str, **options: Any) -> bytes:
        """A refused token is renewed, once."""
        token = self._tokens.session.token
        try:
            return await self._transport.send(method, url, token=token, **options)
        except UnauthenticatedError:
            await self._tokens.renew(token)
            return await self._transport.send(method, url, token=self._tokens.session.token, **options)
