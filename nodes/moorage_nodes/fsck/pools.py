"""What fsck and scrub ask of a block pool: which objects there are, and whether chunks' bytes are right."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from moorage_nodes.blocks.verifying import Verdict, verify_chunks
from moorage_nodes.peer_api import (
    ListObjectsAnswer,
    ListObjectsRequest,
    VerifiedChunk,
    VerifyAnswer,
    VerifyRequest,
)
from moorage_nodes.peers import PeerClient
from moorage_nodes.stores.contracts import ObjectStore


class Pool(Protocol):
    def list_objects(self, namespace: str) -> AsyncIterator[Sequence[tuple[str, int]]]:
        """Every object of a namespace, (name as in `peer_api.Place`, size), in pages. Any error: it is not whole."""
        ...

    async def verify(self, namespace: str, chunks: Sequence[VerifiedChunk]) -> list[Verdict]:
        """Of each chunk: `ok`, `lost` or `damaged`; StoreUnavailableError says nothing about any."""
        ...


class DirectPool:
    """A pool whose object store is at hand: tests and simulations."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def list_objects(self, namespace: str) -> AsyncIterator[Sequence[tuple[str, int]]]:
        prefix = f"{namespace}/"
        async for page in self._objects.list(prefix):
            yield [(info.name.removeprefix(prefix), info.size) for info in page]

    async def verify(self, namespace: str, chunks: Sequence[VerifiedChunk]) -> list[Verdict]:
        return await verify_chunks(self._objects, namespace, chunks)


class BlockServers:
    """A pool as its block servers know it."""

    def __init__(self, client: PeerClient) -> None:
        """`client` speaks as a checker (`PeerDirectory.checked`)."""
        self._client = client

    async def list_objects(self, namespace: str) -> AsyncIterator[Sequence[tuple[str, int]]]:
        after = ""
        while True:
            question = ListObjectsRequest(namespace=namespace, after=after)
            answer = await self._client.post("/internal/list_objects", question, ListObjectsAnswer)
            if answer.objects:
                yield answer.objects
                after = answer.objects[-1][0]
            if not answer.more:
                return

    async def verify(self, namespace: str, chunks: Sequence[VerifiedChunk]) -> list[Verdict]:
        question = VerifyRequest(namespace=namespace, chunks=list(chunks))
        return (await self._client.post("/internal/verify", question, VerifyAnswer)).verdicts
