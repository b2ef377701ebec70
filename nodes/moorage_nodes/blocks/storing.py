"""Keeping new chunks: verified, then durable in S3, then registered at L3, and only then acknowledged.

A crash in between leaves objects that no record names: garbage for the collector, never damage. The same request
again stores its bytes anew under new names; where a record stands already, L3 keeps it.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from moorage.core.errors import ObjectExistsError, OutcomeUnknownError, StoreUnavailableError
from moorage.core.ids import format_hash
from moorage.core.wire import StoredChunk
from moorage_nodes.blocks.access import Destination
from moorage_nodes.blocks.budget import ByteBudget
from moorage_nodes.blocks.packing import PlannedObject, object_name, plan_objects
from moorage_nodes.peer_api import RegisterAnswer, RegisteredChunk, RegisterRequest
from moorage_nodes.peers import PeerDirectory
from moorage_nodes.stores.contracts import ObjectStore

PARALLEL_PUTS = 4  # of one call


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk whose hash has been verified. `parts` are its bytes as they came."""

    chunk_id: str
    digest: bytes
    size: int
    parts: Sequence[bytes]


class Storing:
    """`rng` names calls: it must be unpredictable and never repeat."""

    def __init__(
        self, pool: str, objects: ObjectStore, peers: PeerDirectory, budget: ByteBudget, rng: random.Random
    ) -> None:
        self._pool = pool
        self._objects = objects
        self._peers = peers
        self._budget = budget
        self._rng = rng

    async def store(self, destination: Destination, chunks: Sequence[NewChunk]) -> list[StoredChunk]:
        """Keep `chunks` as one call of the upload, in their order; all of them or none.

        `UploadEndedError` (410) when the upload is not open; `StoreUnavailableError`: nothing is acknowledged, and
        the same may be sent again.
        """
        call = self._rng.randbytes(12).hex()
        different = {chunk.digest: chunk for chunk in chunks}
        planned = plan_objects((chunk.digest, chunk.size) for chunk in different.values())
        await self._put_all(destination, call, planned, different)
        places: dict[bytes, tuple[str, int]] = {}
        for each in planned:
            offset = 0
            for digest in each.digests:
                places[digest] = object_name(destination.upload, call, each.number), offset
                offset += different[digest].size
        await self._register(destination, call, chunks, places)
        return [
            StoredChunk(
                chunk_id=chunk.chunk_id, hash=format_hash(chunk.digest), size=chunk.size, status="stored"
            )
            for chunk in chunks
        ]

    async def _put_all(
        self,
        destination: Destination,
        call: str,
        planned: Sequence[PlannedObject],
        chunks: dict[bytes, NewChunk],
    ) -> None:
        waiting = list(reversed(planned))

        async def work() -> None:
            try:
                while waiting:
                    each = waiting.pop()
                    name = f"{destination.namespace}/{object_name(destination.upload, call, each.number)}"
                    parts = [part for digest in each.digests for part in chunks[digest].parts]
                    await self._put(name, parts)
            except BaseException:
                waiting.clear()  # the others end with what they have begun
                raise

        # Nobody is left working behind: what they send is held for this request.
        outcomes = await asyncio.gather(
            *(work() for _ in range(min(PARALLEL_PUTS, len(planned)))), return_exceptions=True
        )
        for error in outcomes:
            if isinstance(error, StoreUnavailableError):
                self._budget.fail_waiting(error)
            if error is not None:
                raise error

    async def _put(self, name: str, parts: Sequence[bytes]) -> None:
        try:
            await self._objects.put(name, parts)
        except ObjectExistsError:
            # Names are random: only our own put, sent twice on the way, can have taken it.
            raise OutcomeUnknownError("The block store answered twice; try again.") from None

    async def _register(
        self,
        destination: Destination,
        call: str,
        chunks: Sequence[NewChunk],
        places: dict[bytes, tuple[str, int]],
    ) -> None:
        registered = []
        for chunk in chunks:
            name, offset = places.get(chunk.digest, ("", 0))
            registered.append(
                RegisteredChunk(
                    chunk_id=chunk.chunk_id,
                    hash=format_hash(chunk.digest),
                    size=chunk.size,
                    object=name,
                    offset=offset,
                )
            )
        request = RegisterRequest(
            namespace=destination.namespace,
            upload=destination.upload,
            call=call,
            pool=self._pool,
            chunks=registered,
        )
        await self._peers.l3(destination.server_key).post("/internal/register", request, RegisterAnswer)
