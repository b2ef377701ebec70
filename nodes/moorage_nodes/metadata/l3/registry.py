"""The chunk registry of a cluster: what each namespace holds, and where (DESIGN.md, Metadata in etcd)."""

import asyncio
import random
from collections.abc import Callable, Sequence

from moorage.core.errors import NotFoundError, StoreUnavailableError
from moorage.core.ids import format_hash, is_hash, parse_hash, parse_id
from moorage_nodes.lru import Lru
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.bulk_reads import read_keys
from moorage_nodes.metadata.l1.upload_ids import COLLECTOR_UPLOADS
from moorage_nodes.metadata.l3.marks import plan_marks
from moorage_nodes.metadata.l3.registration import (
    TXN_CHUNKS,
    Registration,
    parse_registration,
    plan_registration,
)
from moorage_nodes.metadata.names import read_names
from moorage_nodes.metadata.namespace import Submitter
from moorage_nodes.metadata.records import CHUNK_STATE_NAMES, Chunk
from moorage_nodes.peer_api import Place, RegisterRequest
from moorage_nodes.stores.contracts import KeyValue, MetadataStore, Range, prefix_end

MAX_ATTEMPTS = 12
MAX_UPLOADS = 10_000  # whose create revisions are remembered, about 2 MB


class Registry:
    """One instance per process. `clock` gives Unix seconds; `rng` spreads retries."""

    def __init__(
        self,
        store: MetadataStore,
        group: Submitter,
        *,
        incarnation: bytes,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._store = store
        self._group = group
        self._incarnation = incarnation
        self._clock = clock
        self._rng = rng
        self._uploads: Lru[bytes, int] = Lru(MAX_UPLOADS)

    async def register(self, request: RegisterRequest) -> None:
        """Record what one accepted call stored: wholly, in order, or not at all. The same call again: no change.

        `UploadEndedError` (410); `HashMismatchError` or `InvalidFieldError` for what contradicts itself;
        `StoreUnavailableError`: not registered, or (`OutcomeUnknownError`) maybe.
        """
        registration = parse_registration(request)
        if await self._register_unread(registration):
            return
        for attempt in range(MAX_ATTEMPTS):
            found = await read_keys(self._store, registration.read_set())
            plan = plan_registration(
                registration, found, now=int(self._clock() * 1000), incarnation=self._incarnation
            )
            if plan is None:
                return
            self._uploads.put(registration.upload_key, found[registration.upload_key].create_revision)
            results = await asyncio.gather(*map(self._group.submit, plan.records))
            if all(r.succeeded for r in results) and (await self._group.submit(plan.last)).succeeded:
                return
            await self._check_incarnation()
            if attempt:
                await asyncio.sleep(self._rng.uniform(0, 0.002 * attempt))
        raise StoreUnavailableError("Too many others register the same chunks at the same time; try again.")

    async def _register_unread(self, registration: Registration) -> bool:
        """Register without a look at what stands: of a known upload, and as if all of it were new, as it mostly is.
        The transaction compares all that; False when it is not so, and nothing was written.
        """
        created = self._uploads.get(registration.upload_key)
        if created is None or len(registration.chunks) > TXN_CHUNKS:
            return False
        upload = KeyValue(registration.upload_key, b"", created, created, 1)
        plan = plan_registration(
            registration,
            {upload.key: upload},
            now=int(self._clock() * 1000),
            incarnation=self._incarnation,
        )
        return plan is not None and (await self._group.submit(plan.last)).succeeded

    async def open_uploads(self, namespace: str) -> list[str]:
        """The ids of up to two open uploads of the user's, which those of the collector are not."""
        start, end = keys.uploads_range(parse_id(namespace, "namespace"))
        own = keys.upload(namespace, COLLECTOR_UPLOADS)
        before, behind = Range(start, own, 2, keys_only=True), Range(prefix_end(own), end, 2, keys_only=True)
        found = (await self._store.get_many([before, behind])).ranges
        return [keys.parse_upload_id(kv.key) for each in (before, behind) for kv in found[each].kvs][:2]

    async def locate(self, namespace: str, ids: Sequence[str]) -> list[Place | None]:
        """What each id (a hash, or a name as it is meant now) stands for; None where there is nothing."""
        parse_id(namespace, "namespace")
        digests = await self._resolve(namespace, ids)
        found = await read_keys(
            self._store, list({keys.chunk(namespace, digest) for digest in digests if digest is not None})
        )
        return [
            None if digest is None else _located(digest, found.get(keys.chunk(namespace, digest)))
            for digest in digests
        ]

    async def find(self, namespace: str, chunk_id: str) -> Place:
        """`locate` of one; `NotFoundError`."""
        (located,) = await self.locate(namespace, [chunk_id])
        if located is None:
            raise NotFoundError("There is no such chunk.")
        return located

    async def mark_soft(self, namespace: str, ids: Sequence[str]) -> int:
        """Mark the live ones of these chunks as let go by a deletion; how many this call marked. Idempotent.

        The mark is advisory: it moves no head and takes nothing away, and whoever needs the chunk clears it. So a
        record that somebody else is just writing is left to them.
        """
        parse_id(namespace, "namespace")
        digests = {digest for digest in await self._resolve(namespace, ids) if digest is not None}
        found = await read_keys(self._store, [keys.chunk(namespace, digest) for digest in digests])
        txns = list(plan_marks(found.values(), self._incarnation))
        results = await asyncio.gather(*map(self._group.submit, txns))
        if not all(result.succeeded for result in results):
            await self._check_incarnation()
        return sum(len(txn.then) for txn, result in zip(txns, results, strict=True) if result.succeeded)

    async def _resolve(self, namespace: str, ids: Sequence[str]) -> list[bytes | None]:
        names = [parse_id(chunk_id, "chunk_id") for chunk_id in ids if not is_hash(chunk_id)]
        meanings = await read_names(self._store, namespace, names)
        return [parse_hash(chunk_id) if is_hash(chunk_id) else meanings.get(chunk_id) for chunk_id in ids]

    async def _check_incarnation(self) -> None:
        kv = await self._store.get(keys.INCARNATION)
        if kv is None or kv.value != self._incarnation:
            raise StoreUnavailableError("This metadata cluster was restored; its servers must start anew.")


def _located(digest: bytes, kv: KeyValue | None) -> Place | None:
    if kv is None:
        return None
    chunk = records.decode(Chunk, kv.value)
    return Place(
        hash=format_hash(digest),
        size=chunk.size,
        pool=chunk.pool,
        object=chunk.object,
        offset=chunk.offset,
        state=CHUNK_STATE_NAMES[chunk.state],
    )
