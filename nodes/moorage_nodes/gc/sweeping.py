"""Chunks and objects that nothing holds: condemned, after the grace removed, and only then their bytes deleted.

A chunk record goes through three transactions, each at a head up to which the mark is complete: **condemned** when
nothing held it; **removed** when it has stood condemned for the grace and again nothing holds it, comparing the
record itself, which is written anew by whoever stores its bytes again; then its **object** is deleted, when no
record names it and its upload has ended. From that moment on no record can come to name it, so a crash, a delay or a
second collector at that point takes nothing from anybody.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from msgspec import Struct
from msgspec.structs import replace

from moorage_nodes.gc.heads import GROUP_RECORDS, MAX_ATTEMPTS, Group, cut, split, too_busy
from moorage_nodes.gc.marking import Mark
from moorage_nodes.gc.names import NamesPass
from moorage_nodes.gc.namespace_run import NamespaceRun
from moorage_nodes.gc.report import PoolCount
from moorage_nodes.gc.rewriting import Rewriting
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import (
    CHUNK_CONDEMNED,
    CHUNK_LIVE,
    CHUNK_SOFT_DELETED,
    Chunk,
)
from moorage_nodes.metadata.scan import scan_kind
from moorage_nodes.metadata.spill import SortedSpill
from moorage_nodes.stores.contracts import (
    Delete,
    KeyValue,
    Put,
    unchanged,
)

CHANGED_TOGETHER = 1000  # records condemned or revived by one transaction
REMOVED_TOGETHER = 10_000  # records held in memory until the names that lead to them are gone
REWRITTEN_SHARE = 0.5  # an object of which less than this is named is written anew
DELETED_TOGETHER = 1000
_SIZE_BYTES = 8


class _Doomed(Struct, frozen=True):
    digest: bytes
    kv: KeyValue
    chunk: Chunk


class Sweep:
    """One namespace's. `listed` has its objects as they were before the mark was begun, from `list_objects`."""

    def __init__(self, run: NamespaceRun, mark: Mark) -> None:
        self._run = run
        self._mark = mark
        self._names_walked = False

    # --- objects, before the mark -----------------------------------------------------------------------------

    async def list_objects(self, listed: SortedSpill) -> None:
        """What the pools hold of the namespace. StoreUnavailableError: nothing may be concluded from the rest."""
        for pool in self._run.pools.names:
            async for found in self._run.pools.list_objects(pool, self._run.namespace):
                await self._run.pause()
                self._run.report.scanned["objects"] += len(found)
                self._run.report.scanned["object_bytes"] += sum(size for _, size in found)
                listed.update(_object_key(pool, name) + size.to_bytes(_SIZE_BYTES) for name, size in found)

    # --- chunk records ----------------------------------------------------------------------------------------

    async def sweep_chunks(self, named: SortedSpill) -> None:
        """Condemn, revive and remove records; `named` gets what those name that stay."""
        condemned: list[_Doomed] = []
        revived: list[_Doomed] = []
        removed: list[_Doomed] = []
        scanned, kept = self._run.report.scanned, self._run.report.kept
        async for batch in self._mark.walk_chunks():
            await self._run.pause()
            stays, pools = [], []
            size = held = 0
            for digest, kv, chunk, is_held in batch:
                size += chunk.size
                if is_held:
                    held += 1
                    if chunk.state == CHUNK_CONDEMNED:
                        revived.append(_Doomed(digest, kv, chunk))
                elif chunk.state in {CHUNK_LIVE, CHUNK_SOFT_DELETED}:
                    condemned.append(_Doomed(digest, kv, chunk))
                elif kv.mod_revision <= self._run.horizons.grace and self._run.budget.take("records", 1):
                    removed.append(_Doomed(digest, kv, chunk))
                    continue
                else:
                    kept["chunks_waiting"] += 1
                stays.append(_name_key(digest, chunk))
                pools.append(chunk.pool)
            scanned["chunks"] += len(batch)
            self._count_chunks(pools)
            scanned["chunk_bytes"] += size
            kept["chunks_held"] += held
            named.update(stays)
            if len(condemned) >= CHANGED_TOGETHER:
                await self._condemn(condemned)
            if len(revived) >= CHANGED_TOGETHER:
                await self._revive(revived)
            if len(removed) >= REMOVED_TOGETHER:
                named.update(await self._remove(removed))
        await self._condemn(condemned)
        await self._revive(revived)
        named.update(await self._remove(removed))
        if not self._names_walked and await self._has_bindings():
            await self._drop_names(set())

    async def _has_bindings(self) -> bool:
        start, end = keys.kind_range(self._run.namespace, "b")
        found, _ = await self._run.store.range(start, end, limit=1, keys_only=True)
        return bool(found.kvs)

    async def _condemn(self, doomed: list[_Doomed]) -> None:
        self._run.report.condemned += len(doomed) - len(
            await self._change(doomed, lambda each: _put(each, CHUNK_CONDEMNED), of_held=False)
        )
        doomed.clear()

    async def _revive(self, wanted: list[_Doomed]) -> None:
        """A condemned chunk that something holds: pinned, or stored under an upload, when it was condemned."""
        self._run.report.revived += len(wanted) - len(
            await self._change(wanted, lambda each: _put(each, CHUNK_LIVE), of_held=True)
        )
        wanted.clear()

    def _count_chunks(self, pools: Sequence[str]) -> None:
        for pool, number in Counter(pools).items():
            self._run.report.left.setdefault(pool, PoolCount()).chunks += number

    async def _remove(self, doomed: list[_Doomed]) -> list[bytes]:
        """What those name that stay all the same. Names go first: none may lead to what is not there."""
        if not doomed:
            return []
        await self._drop_names({each.digest for each in doomed})
        left = await self._change(doomed, lambda each: Delete(each.kv.key), of_held=False)
        self._run.report.removed += len(doomed) - len(left)
        doomed.clear()
        self._count_chunks([each.chunk.pool for each in left])
        return [_name_key(each.digest, each.chunk) for each in left]

    async def _change(
        self, wanted: Sequence[_Doomed], op: Callable[[_Doomed], Put | Delete], *, of_held: bool
    ) -> list[_Doomed]:
        """Write records that are as they were read; those that were left out, being written or held by now."""
        if self._run.dry_run:
            return []
        left: list[_Doomed] = []
        waiting, size = list(wanted), GROUP_RECORDS
        while waiting:
            failed: list[_Doomed] = []
            for part in cut(waiting, CHANGED_TOGETHER if size > 1 else 64):
                await self._run.pause()
                unheld, done, groups = await self._write_part(part, op, size, of_held=of_held)
                left.extend(unheld)
                for written, group in zip(done, groups, strict=True):
                    if not written:
                        failed.extend(group)
            if size == 1:
                return left + failed
            # Of a group one record was written by somebody: the others go one by one.
            waiting, size = failed, 1
        return left

    async def _write_part(
        self, part: Sequence[_Doomed], op: Callable[[_Doomed], Put | Delete], size: int, *, of_held: bool
    ) -> tuple[list[_Doomed], list[bool], list[list[_Doomed]]]:
        """At the first head up to which the mark is complete: those that are held by now, and per group whether it
        was written.
        """
        for attempt in range(MAX_ATTEMPTS):
            if attempt or self._run.head.revision < 0:
                await self._mark.catch_up()
            held = [] if of_held else [each for each in part if each.digest in self._mark.since]
            rest = part if not held else [each for each in part if each.digest not in self._mark.since]
            groups = list(cut(rest, size))
            if not groups:
                return held, [], []
            written = await self._run.head.write(
                [
                    Group(
                        tuple(unchanged(each.kv.key, each.kv.mod_revision) for each in group),
                        tuple(map(op, group)),
                    )
                    for group in groups
                ]
            )
            if written is not None:
                return held, written, groups
        raise too_busy(self._run.namespace)

    # --- names and lists --------------------------------------------------------------------------------------

    async def _drop_names(self, going: set[bytes]) -> None:
        if self._run.dry_run:
            return
        began = (await self._run.store.get_many([self._run.head.key])).revision
        walk = NamesPass(self._run.store, self._run.namespace, going)
        is_whole = True
        async for kvs in scan_kind(self._run.store, self._run.namespace, "x"):
            await self._run.pause()
            groups = await walk.plan(kvs)
            done = await self._write_marked(groups)
            self._run.report.let_go["names"] += done
            is_whole = is_whole and done == len(groups)
        if is_whole and not self._names_walked:
            await self._write_marked(await walk.plan_bindings(began))
        self._names_walked = True

    async def _write_marked(self, groups: Sequence[Group]) -> int:
        """As `NamespaceHead.write_anyway`, keeping the mark up to date."""
        done = 0
        for part in split(groups):
            for _ in range(MAX_ATTEMPTS):
                written = await self._run.head.write(part)
                if written is not None:
                    done += sum(written)
                    break
                await self._mark.catch_up()
            else:
                raise too_busy(self._run.namespace)
        return done

    async def sweep_lists(self) -> None:
        """Segments of long lists that no manifest and no open upload names: noted when they are found, and deleted
        when they were noted a grace ago. They are written before the record that names them, and somebody may still
        be reading a version that retention has let go.
        """
        noted: dict[str, KeyValue] = {}
        async for kvs in scan_kind(self._run.store, self._run.namespace, "o", keys_only=True):
            noted.update((keys.parse_unnamed_list(kv.key), kv) for kv in kvs)
        unnamed: set[str] = set()
        async for kvs in scan_kind(self._run.store, self._run.namespace, "g", keys_only=True):
            await self._run.pause()
            unnamed.update(map(keys.parse_segment_base, (kv.key for kv in kvs)))
        unnamed = {
            base
            for base in unnamed
            if base not in self._mark.lists and base.partition(".")[0] not in self._mark.open_uploads
        }
        due = [
            base
            for base in sorted(unnamed)
            if base in noted and noted[base].mod_revision <= self._run.horizons.grace
        ]
        if self._run.dry_run:
            self._run.report.let_go["lists"] += len(due)
            return
        note = [
            Group((), (Put(keys.unnamed_list(self._run.namespace, base), b""),))
            for base in sorted(unnamed - noted.keys())
        ]
        forget = [
            Group((unchanged(kv.key, kv.mod_revision),), (Delete(kv.key),))
            for base, kv in noted.items()
            if base not in unnamed
        ]
        for part in split([*note, *forget]):
            await self._run.head.write_aside((), part)
        for some in cut(due, GROUP_RECORDS):
            await self._delete_lists(some)

    async def _delete_lists(self, due: Sequence[str]) -> None:
        for _ in range(MAX_ATTEMPTS):
            rest = [base for base in due if base not in self._mark.lists]
            written = await self._run.head.write(
                [
                    Group(
                        (),
                        (
                            Delete(*keys.segments_range(self._run.namespace, base)),
                            Delete(keys.unnamed_list(self._run.namespace, base)),
                        ),
                    )
                    for base in rest
                ]
            )
            if written is not None:
                self._run.report.let_go["lists"] += len(written)
                return
            await self._mark.catch_up()
        raise too_busy(self._run.namespace)

    # --- bytes ------------------------------------------------------------------------------------------------

    async def sweep_objects(self, listed: SortedSpill, named: SortedSpill) -> None:
        """Delete what no record names, and write anew what is mostly dead."""
        doomed: list[tuple[str, str, int]] = []
        rewriting = Rewriting(self._run)
        try:
            for pool, name, size, digests, alive in _join(listed, named):
                if name.partition("/")[0] in self._mark.open_uploads:
                    self._run.report.kept["objects_uploading"] += 1
                elif digests:
                    self._run.report.kept["objects_named"] += 1
                    if alive < size * REWRITTEN_SHARE:
                        await rewriting.rewrite(pool, name, digests)
                elif self._run.budget.take("objects", 1):
                    doomed.append((pool, name, size))
                    if len(doomed) >= DELETED_TOGETHER:
                        await self._delete(doomed)
                    continue
                self._run.report.left.setdefault(pool, PoolCount()).objects += 1
            await self._delete(doomed)
        finally:
            await rewriting.end()

    async def _delete(self, doomed: list[tuple[str, str, int]]) -> None:
        await self._run.pause()
        for pool, each in groupby(doomed, key=lambda item: item[0]):
            found = list(each)
            if not self._run.dry_run:
                await self._run.pools.delete_objects(
                    pool, self._run.namespace, [name for _, name, _ in found]
                )
            self._run.report.objects_deleted += len(found)
            self._run.report.freed_bytes += sum(size for _, _, size in found)
        doomed.clear()


def _put(each: _Doomed, state: int) -> Put:
    return Put(each.kv.key, records.encode(replace(each.chunk, state=state)))


def _object_key(pool: str, name: str) -> bytes:
    return f"{pool}\0{name}\0".encode()


def _name_key(digest: bytes, chunk: Chunk) -> bytes:
    return b"%b%b%b" % (_object_key(chunk.pool, chunk.object), digest, chunk.length.to_bytes(_SIZE_BYTES))


def _join(listed: SortedSpill, named: SortedSpill) -> Iterator[tuple[str, str, int, list[bytes], int]]:
    """Per object: pool, name, size, and of the records that name it the digests and their bytes together."""
    naming = iter(named)
    following = next(naming, None)
    for item in listed:
        key, size = item[:-_SIZE_BYTES], int.from_bytes(item[-_SIZE_BYTES:])
        at = len(key)
        while following is not None and following[:at] < key:
            following = next(naming, None)
        digests: list[bytes] = []
        alive = 0
        while following is not None and following[:at] == key:
            digests.append(following[at : at + 32])
            alive += int.from_bytes(following[-_SIZE_BYTES:])
            following = next(naming, None)
        pool, name, _ = key.decode().split("\0")
        yield pool, name, size, digests, alive
