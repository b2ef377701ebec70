"""Packed objects that are mostly dead, written anew (docs/adr/0019-collector.md)."""

from collections.abc import Sequence

from msgspec.structs import replace

from moorage.core.errors import DamagedChunkError
from moorage_nodes.blocks.packing import object_name
from moorage_nodes.gc.heads import GROUP_RECORDS, Group, cut, split
from moorage_nodes.gc.namespace_run import NamespaceRun
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.bulk_reads import read_keys
from moorage_nodes.metadata.l1.upload_ids import build_collector_upload_id
from moorage_nodes.metadata.records import CHUNK_LIVE, CHUNK_SOFT_DELETED, Chunk, Upload
from moorage_nodes.stores.contracts import (
    Compare,
    Delete,
    KeyValue,
    Put,
    Target,
    absent,
    unchanged,
)


class Rewriting:
    """Packed objects that are mostly dead: what lives is copied into a new object, and the records lead there.

    Under an upload of the collector's own, so that what a crash leaves behind is an orphan like any other. The old
    object is one from then on, found by the next collection.
    """

    def __init__(self, run: NamespaceRun) -> None:
        self._run = run
        self._upload = ""

    async def rewrite(self, pool: str, name: str, digests: Sequence[bytes]) -> None:
        await self._run.pause()
        wanted = [keys.chunk(self._run.namespace, digest) for digest in digests]
        found = [
            (kv, records.decode(Chunk, kv.value))
            for kv in (await read_keys(self._run.store, wanted)).values()
        ]
        live = [
            (kv, chunk)
            for kv, chunk in found
            if (chunk.pool, chunk.object) == (pool, name) and chunk.state in {CHUNK_LIVE, CHUNK_SOFT_DELETED}
        ]
        if not live:
            return
        live.sort(key=lambda each: each[1].offset)
        if not self._run.dry_run and not await self._copy(pool, name, live):
            return
        self._run.report.objects_rewritten += 1

    async def _copy(self, pool: str, name: str, live: Sequence[tuple[KeyValue, Chunk]]) -> bool:
        upload_key = keys.upload(self._run.namespace, await self._begin())
        target = object_name(self._upload, f"{self._run.rng.getrandbits(96):024x}", 0)
        try:
            await self._run.pools.copy_chunks(
                pool,
                self._run.namespace,
                name,
                target,
                [(kv.key[-32:], chunk.offset, chunk.size) for kv, chunk in live],
            )
        except DamagedChunkError:
            self._run.report.damaged += 1
            return False
        steps, offset = [], 0
        for kv, chunk in live:
            moved = records.encode(replace(chunk, object=target, offset=offset))
            steps.append((unchanged(kv.key, kv.mod_revision), Put(kv.key, moved)))
            offset += chunk.size
        groups = [
            Group(tuple(compare for compare, _ in part), tuple(put for _, put in part))
            for part in cut(steps, GROUP_RECORDS)
        ]
        for part in split(groups):
            # A group that fails stays where it is: the next collection looks at it again.
            if await self._run.head.write_aside((Compare(upload_key, Target.VERSION, 1),), part) is None:
                return False
        return True

    async def _begin(self) -> str:
        if not self._upload:
            upload_id = build_collector_upload_id(self._run.rng)
            key = keys.upload(self._run.namespace, upload_id)
            record = records.encode(Upload(1, "", 0, "", []))
            await self._run.head.write_aside((absent(key),), [Group((), (Put(key, record),))])
            self._upload = upload_id
        return self._upload

    async def end(self) -> None:
        if self._upload:
            key = keys.upload(self._run.namespace, self._upload)
            self._upload = ""
            await self._run.head.write_aside((), [Group((), (Delete(key),))])
