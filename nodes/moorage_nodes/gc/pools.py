"""The objects of the cluster's block pools, as the collector reaches them: through the pools' block servers."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from moorage.core.ids import format_hash
from moorage_nodes.peer_api import (
    CopiedChunk,
    CopyObjectAnswer,
    CopyObjectRequest,
    DeleteChunksAnswer,
    DeleteChunksRequest,
    ListObjectsAnswer,
    ListObjectsRequest,
)
from moorage_nodes.peers import PeerDirectory

DELETED_TOGETHER = 200


class Pools(Protocol):
    """Names of objects are those below `<namespace>/`. Errors as of any peer's call: StoreUnavailableError."""

    @property
    def names(self) -> Sequence[str]: ...

    def list_objects(self, pool: str, namespace: str) -> AsyncIterator[list[tuple[str, int]]]:
        """All of a namespace's objects in this pool, with their sizes."""
        ...

    async def delete_objects(self, pool: str, namespace: str, names: Sequence[str]) -> None:
        """Delete bytes, for good. Idempotent."""
        ...

    async def copy_chunks(
        self, pool: str, namespace: str, source: str, target: str, chunks: Sequence[tuple[bytes, int, int]]
    ) -> None:
        """Make `target` of these chunks (digest, offset in `source`, size), one behind the other, each verified.

        Durable when it returns; idempotent. `DamagedChunkError` when one is not what its hash says or not there.
        """
        ...


class BlockServers:
    """`Pools` by calls to block servers, as the collector (audience `moorage:collector`)."""

    def __init__(self, peers: PeerDirectory, server_key: str, pools: Sequence[str]) -> None:
        self._peers = peers
        self._server_key = server_key
        self.names = tuple(pools)

    async def list_objects(self, pool: str, namespace: str) -> AsyncIterator[list[tuple[str, int]]]:
        after = ""
        while True:
            answer = await self._peers.collected(pool).post(
                "/internal/list_objects",
                ListObjectsRequest(namespace=namespace, after=after),
                ListObjectsAnswer,
            )
            if answer.objects:
                yield answer.objects
                after = answer.objects[-1][0]
            if not answer.more:
                return

    async def delete_objects(self, pool: str, namespace: str, names: Sequence[str]) -> None:
        for start in range(0, len(names), DELETED_TOGETHER):
            request = DeleteChunksRequest(
                namespace=namespace,
                server_key=self._server_key,
                chunk_ids=[],
                deletion_mode="hard",
                objects=list(names[start : start + DELETED_TOGETHER]),
            )
            await self._peers.collected(pool).post("/delete_chunks", request, DeleteChunksAnswer)

    async def copy_chunks(
        self, pool: str, namespace: str, source: str, target: str, chunks: Sequence[tuple[bytes, int, int]]
    ) -> None:
        request = CopyObjectRequest(
            namespace=namespace,
            source=source,
            target=target,
            chunks=[
                CopiedChunk(hash=format_hash(digest), offset=offset, size=size)
                for digest, offset, size in chunks
            ],
        )
        await self._peers.collected(pool).post("/internal/copy_object", request, CopyObjectAnswer)
