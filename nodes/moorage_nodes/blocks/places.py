"""Where chunks lie: asked of L3 and L2 once, then remembered; and which chunks a download token opens."""

import asyncio
from collections.abc import Callable, Sequence

from moorage.core.errors import NotFoundError
from moorage.core.ids import is_hash
from moorage_nodes.blocks.access import Reader
from moorage_nodes.lru import Lru
from moorage_nodes.peer_api import (
    LocateAnswer,
    LocateRequest,
    ManifestAnswer,
    ManifestRequest,
    Place,
)
from moorage_nodes.peers import PeerDirectory

DAMAGED = "damaged"  # records.CHUNK_STATE_NAMES
MAX_PLACES = 16_384  # about 10 MB
MAX_MEMBERS = 131_072  # chunks of versions that download tokens opened, about 25 MB
MEMBERS_LIVE = 300.0  # seconds, as long as a download token


class Places:
    """One instance per process. `clock` gives seconds that only rise.

    A place may be remembered: objects are never changed or named again. It may be gone, though, when the collector
    moved the chunk: who does not find the object asks with `again`.
    """

    def __init__(self, peers: PeerDirectory, clock: Callable[[], float]) -> None:
        self._peers = peers
        self._clock = clock
        self._places: Lru[tuple[str, str], Place] = Lru(MAX_PLACES)
        self._members: Lru[tuple[str, str, int], _Members] = Lru(MAX_MEMBERS)

    async def find(self, reader: Reader, chunk_id: str) -> Place:
        """The chunk of that hash, or of that name as it is meant now; `NotFoundError`.

        For the holder of a download token names are those of its version, and there is nothing beside it.
        """
        if reader.version is not None:
            chunk_id = await self._hash_in_version(reader, reader.version, chunk_id)
        if is_hash(chunk_id):
            known = self._places.get((reader.namespace, chunk_id))
            if known is not None:
                return known
        return await self.again(reader, chunk_id)

    async def again(self, reader: Reader, chunk_id: str) -> Place:
        """As `find`, from L3."""
        (located,) = await self.locate(reader, [chunk_id])
        return located

    def forget(self, reader: Reader, chunk: Place) -> None:
        """Its bytes were not right there: the next reader asks L3."""
        self._places.drop((reader.namespace, chunk.hash))

    async def locate(self, reader: Reader, chunk_ids: Sequence[str]) -> list[Place]:
        """Each of these chunks, from L3; `NotFoundError` when one is not held."""
        question = LocateRequest(namespace=reader.namespace, ids=list(chunk_ids))
        answer = await self._peers.l3(reader.server_key).post("/internal/locate", question, LocateAnswer)
        found = [chunk for chunk in answer.chunks if chunk is not None]
        if len(found) < len(chunk_ids):
            raise NotFoundError("There is no such chunk.")
        for chunk in found:
            self._remember(reader.namespace, chunk)
        return found

    async def manifest(
        self,
        reader: Reader,
        file_id: str,
        version: int | None,
        *,
        index: int = 0,
        offset: int | None = None,
    ) -> ManifestAnswer:
        """A page of a version, from L2; the places on it are remembered."""
        question = ManifestRequest(
            namespace=reader.namespace, file_id=file_id, version=version, index=index, offset=offset
        )
        answer = await self._peers.l2(reader.server_key).post("/internal/manifest", question, ManifestAnswer)
        for chunk in answer.chunks:
            self._remember(reader.namespace, chunk)
        return answer

    def _remember(self, namespace: str, chunk: Place) -> None:
        if chunk.state == DAMAGED:
            self._places.drop((namespace, chunk.hash))
        else:
            self._places.put((namespace, chunk.hash), chunk)

    async def _hash_in_version(self, reader: Reader, version: tuple[str, int], chunk_id: str) -> str:
        key = (reader.namespace, *version)
        members = self._members.get(key)
        if members is None or members.opened + MEMBERS_LIVE < self._clock():
            members = _Members(self._clock())
            self._members.put(key, members)
        # One at a time: those who come together for the first chunks of a version ask L2 once.
        async with members.lock:
            while (found := members.find(chunk_id)) is None and members.next_index is not None:
                page = await self.manifest(reader, *version, index=members.next_index)
                members.add(page)
                self._members.put(key, members, max(1, len(members.hashes) + len(members.names)))
        if found is None:
            raise NotFoundError("There is no such chunk in this version.")
        return found


class _Members:
    """The chunks of one version, as far as they have been read."""

    def __init__(self, opened: float) -> None:
        self.opened = opened
        self.lock = asyncio.Lock()
        self.hashes: set[str] = set()
        self.names: dict[str, str] = {}
        self.next_index: int | None = 0

    def find(self, chunk_id: str) -> str | None:
        return chunk_id if chunk_id in self.hashes else self.names.get(chunk_id)

    def add(self, page: ManifestAnswer) -> None:
        for chunk in page.chunks:
            self.hashes.add(chunk.hash)
            if chunk.name is not None:
                self.names[chunk.name] = chunk.hash
        self.next_index = page.next_index
