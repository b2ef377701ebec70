"""What fsck and scrub ask of a block pool: which objects there are, and whether chunks' bytes are right."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from moorage_nodes.blocks.verifying import Verdict, verify_chunks
from moorage_nodes.peer_api import VerifiedChunk
from moorage_nodes.stores.contracts import ObjectInfo, ObjectStore


class Pool(Protocol):
    def list_objects(self, prefix: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        """Every object below a prefix that ends in `/`, in pages. Any error: the list is not whole."""
        ...

    async def verify(self, namespace: str, chunks: Sequence[VerifiedChunk]) -> list[Verdict]:
        """Of each chunk: `ok`, `lost` or `damaged`; StoreUnavailableError says nothing about any."""
        ...


class DirectPool:
    """A pool whose object store is at hand: tests and simulations."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def list_objects(self, prefix: str) -> AsyncIterator[Sequence[ObjectInfo]]:
        return self._objects.list(prefix)

    async def verify(self, namespace: str, chunks: Sequence[VerifiedChunk]) -> list[Verdict]:
        return await verify_chunks(self._objects, namespace, chunks)
