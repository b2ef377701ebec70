"""Contents too long for a plan: put together, checked and written in parts before the commit (PROTOCOL.md, Update).

Each step is bounded and may be the last one done: what it leaves behind (segments, pending names, revived records)
means nothing until the commit, whose one transaction stays small. What the steps found out holds for as long as the
collector has not moved its generation of the head; when it has, all is done again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.commit import MAX_PLAN_NAMES
from moorage_nodes.metadata.l1.content import Sources, assemble_content, check_sizes, names_to_look_up
from moorage_nodes.metadata.l1.context import L1
from moorage_nodes.metadata.l1.entries import fold_stored, restored_names, summarize
from moorage_nodes.metadata.l1.file_commit import FileCommit, Prepared
from moorage_nodes.metadata.l1.segments import read_segments, write_segments
from moorage_nodes.metadata.l1.targets import observe_base, observe_manifest, observe_revivals, revive
from moorage_nodes.metadata.l1.upload_ids import is_of_several_files
from moorage_nodes.metadata.names import bind_pending, read_names
from moorage_nodes.metadata.records import (
    CHUNK_DAMAGED,
    CHUNK_LIVE,
    INLINE_ENTRIES,
    Chunk,
    Entry,
    Head,
    Manifest,
    Stored,
    Upload,
    UploadFile,
)
from moorage_nodes.metadata.view import Plan, View
from moorage_nodes.stores.contracts import KeyValue

CHECKED_TOGETHER = 2048  # chunks read at one revision
PARALLEL_CHECKS = 4
REVIVED_TOGETHER = 32  # compares in one transaction
BOUND_TOGETHER = 1000  # names written in one transaction
MAX_CHECKS = 8


@dataclass(frozen=True, slots=True)
class _Start:
    """What is to be committed, read at one head. `manifest`: of the version that it builds on."""

    file: UploadFile
    manifest: Manifest | None


async def prepare_commit(server: L1, namespace: str, upload_id: str, commit: FileCommit) -> Prepared | None:
    """Everything that the commit of a long content needs beforehand; None when a plan alone can answer.

    Refusals as those of a commit. Idempotent; what is written is garbage unless the commit follows.
    """

    async def begin() -> _Start | None:
        return await server.namespaces.read(namespace, lambda view: _observe_start(view, upload_id, commit))

    start = await begin()
    if start is None:
        return None
    try:
        return await _prepare(server, namespace, upload_id, commit, start)
    except StoreUnavailableError:
        raise
    except MoorageError:
        # What it was put together from may have gone with the upload: the same commit may have been faster.
        if await begin() is None:
            return None
        raise


async def _prepare(
    server: L1, namespace: str, upload_id: str, commit: FileCommit, start: "_Start"
) -> Prepared:
    sources = await _read_sources(server, namespace, upload_id, start)
    names = [] if commit.ids is None else await asyncio.to_thread(names_to_look_up, commit.ids, sources)
    meanings: dict[str, bytes | None] = {
        **dict.fromkeys(names),
        **await read_names(server.store, namespace, names),
    }
    content = await asyncio.to_thread(assemble_content, commit.ids, sources, meanings)
    held = {digest: size for _, digest, size in sources.current}
    wanted = {digest for _, digest, _ in content.entries if digest} - held.keys()
    generation, sizes = await _hold_chunks(server, namespace, list(wanted))
    entries = await asyncio.to_thread(check_sizes, content.entries, {**held, **sizes})
    summary = await asyncio.to_thread(summarize, entries)
    segments = await _place_segments(server, namespace, upload_id, start.file, sources.planned, entries)
    names_left, binding = await _bind_names(server, namespace, upload_id, content.bindings)
    return Prepared(
        base=start.file.base,
        generation=generation,
        summary=summary,
        entries=() if segments else entries,
        segments=segments,
        names=names_left,
        binding=binding,
    )


def _observe_start(view: View, upload_id: str, commit: FileCommit) -> _Start | None:
    namespace, upload_key = view.namespace, keys.upload(view.namespace, upload_id)
    view.need_together(governed=[keys.node(namespace, commit.file_id)], fresh=[upload_key])
    kv = view.fresh(upload_key)
    files = [] if kv is None else records.decode(Upload, kv.value).files
    file = next((file for file in files if file.file_id == commit.file_id), None)
    if file is None or commit.new_version != file.base + 1:
        return None
    if file.base:
        observe_base(view, file.file_id, file.base)
    return _Start(file, observe_manifest(view, file.file_id, file.base))


# --- reading ---------------------------------------------------------------------------------------------------


async def _read_sources(server: L1, namespace: str, upload_id: str, start: _Start) -> Sources:
    file, manifest = start.file, start.manifest
    current: Sequence[Entry] = ()
    if manifest is not None:
        current = await _read_list(server, namespace, manifest.segments, manifest.count, manifest.entries)
    planned: Sequence[Entry] | None = None
    if file.planned:
        planned = await _read_list(server, namespace, file.segments, file.count, file.entries)
    calls = await _read_stored(server, namespace, upload_id)
    stored = await asyncio.to_thread(fold_stored, calls)
    several = is_of_several_files(upload_id)
    return Sources(stored, planned, current, several, restored_names(calls) if several else frozenset())


async def _read_list(
    server: L1, namespace: str, segments: str, count: int, inline: Sequence[Entry]
) -> Sequence[Entry]:
    return await read_segments(server.store, namespace, segments, count) if segments else inline


async def _read_stored(server: L1, namespace: str, upload_id: str) -> list[list[Entry]]:
    """What each call stored, in the order in which they were accepted."""
    kvs: list[KeyValue] = []
    async for part in server.store.scan(*keys.stored_range(namespace, upload_id)):
        kvs.extend(part)
    kvs.sort(key=lambda kv: (kv.create_revision, kv.key))
    return [records.decode(Stored, kv.value).entries for kv in kvs]


# --- chunks ----------------------------------------------------------------------------------------------------


async def _hold_chunks(server: L1, namespace: str, digests: Sequence[bytes]) -> tuple[int, dict[bytes, int]]:
    """The collector's generation of the head at which these chunks were held and live, and their sizes; those
    that are not held are left out. Revives what was marked.
    """
    for _ in range(MAX_CHECKS):
        sizes: dict[bytes, int] = {}
        marked: list[bytes] = []
        parts = [
            digests[at : at + CHECKED_TOGETHER] for at in range(0, max(len(digests), 1), CHECKED_TOGETHER)
        ]
        generations: set[int] = set()
        for start in range(0, len(parts), PARALLEL_CHECKS):
            checks = [
                _check_chunks(server, namespace, part, sizes, marked)
                for part in parts[start : start + PARALLEL_CHECKS]
            ]
            generations.update(await asyncio.gather(*checks))
        if len(generations) > 1:
            continue
        for start in range(0, len(marked), REVIVED_TOGETHER):
            await server.namespaces.change(namespace, _plan_revive(marked[start : start + REVIVED_TOGETHER]))
        return generations.pop(), sizes
    raise StoreUnavailableError("Chunks are being collected at the same time; try again.")


async def _check_chunks(
    server: L1, namespace: str, digests: Sequence[bytes], sizes: dict[bytes, int], marked: list[bytes]
) -> int:
    """Adds what it finds to `sizes` and `marked`; the generation at which it was so."""
    head_key = keys.head(namespace)
    wanted = [keys.chunk(namespace, digest) for digest in digests]
    found = (await server.store.get_many([head_key, *wanted])).found
    for digest, key in zip(digests, wanted, strict=True):
        chunk = records.decode(Chunk, found[key].value) if key in found else None
        if chunk is None or chunk.state == CHUNK_DAMAGED:
            continue
        sizes[digest] = chunk.size
        if chunk.state != CHUNK_LIVE:
            marked.append(key)
    return records.decode(Head, found[head_key].value).generation if head_key in found else 0


def _plan_revive(chunk_keys: Sequence[bytes]) -> Plan[None]:
    def plan(view: View) -> None:
        revive(view, observe_revivals(view, chunk_keys))

    return plan


# --- what is written beforehand --------------------------------------------------------------------------------


async def _place_segments(
    server: L1,
    namespace: str,
    upload_id: str,
    file: UploadFile,
    planned: Sequence[Entry] | None,
    entries: Sequence[Entry],
) -> str:
    """The base of the segments that hold the list: those of the plan when it is that; "" when it goes inline."""
    if len(entries) <= INLINE_ENTRIES:
        return ""
    if file.segments and planned == entries:
        return file.segments
    base = f"{upload_id}.{server.new_id()}"
    await write_segments(server.store, namespace, {base: entries}, server.incarnation.encode())
    return base


async def _bind_names(
    server: L1, namespace: str, upload_id: str, bindings: Mapping[str, bytes]
) -> tuple[Mapping[str, bytes], str]:
    """Which names the commit itself has to bind, and the binding under which the others are pending."""
    if len(bindings) <= MAX_PLAN_NAMES:
        return bindings, ""
    # Who gives one of these names other bytes from here on counts as having come after this commit.
    meanings = await read_names(server.store, namespace, list(bindings))
    changed = [(name, digest) for name, digest in bindings.items() if meanings.get(name) != digest]
    if len(changed) <= MAX_PLAN_NAMES:
        return dict(changed), ""
    binding = f"{upload_id}.{server.new_id()}"
    for start in range(0, len(changed), BOUND_TOGETHER):
        await server.namespaces.change(
            namespace, _plan_pending(changed[start : start + BOUND_TOGETHER], binding)
        )
    return {}, binding


def _plan_pending(names: Sequence[tuple[str, bytes]], binding: str) -> Plan[None]:
    def plan(view: View) -> None:
        view.need([keys.chunk_name(view.namespace, name) for name, _ in names])
        for name, digest in names:
            bind_pending(view, name, digest, binding)

    return plan
