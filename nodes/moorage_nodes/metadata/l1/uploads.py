"""Beginning uploads (PROTOCOL.md, Update): the version check, what is to be sent, and the upload's record.

An `/update` moves no head, unless it ends an upload: it reads the namespace linearizably and puts one `u/` key that did
not exist. The plan in that record is what pins its chunks. An upload's id begins with a tag of the files that it is for, so an unused one of
the same files is found, and replaced, without a look at any other open upload.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from moorage.core.errors import (
    InvalidFieldError,
    MoorageError,
    NotFoundError,
    StoreUnavailableError,
)
from moorage.core.ids import format_hash, root_id
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.bulk_reads import read_keys
from moorage_nodes.metadata.l1 import tree
from moorage_nodes.metadata.l1.context import L1
from moorage_nodes.metadata.l1.entries import format_id
from moorage_nodes.metadata.l1.repeats import Repeat
from moorage_nodes.metadata.l1.segments import read_segments, write_segments
from moorage_nodes.metadata.l1.targets import observe_base, observe_manifest
from moorage_nodes.metadata.l1.upload_ids import build_tag, build_upload_id
from moorage_nodes.metadata.l1.upload_repeats import (
    Answered,
    Found,
    build_answered,
    plan_answered,
    plan_begin_once,
    put_in_place,
)
from moorage_nodes.metadata.names import observe_meanings, read_names
from moorage_nodes.metadata.records import (
    CHUNK_LIVE,
    CHUNK_SOFT_DELETED,
    INLINE_ENTRIES,
    Chunk,
    Entry,
    Manifest,
    Upload,
    UploadFile,
)
from moorage_nodes.metadata.view import NotLoaded, Plan, RangeKey, View
from moorage_nodes.stores.contracts import KeyValue, Put, absent, prefix_end

# Of plans in one upload's record. With the longest ids and names of 1,000 files a record stays below 850 kB, which
# leaves room for the commit of any one file in the transaction that rewrites it.
MAX_RECORD_BYTES = 256 * 1024
MAX_REPLACED = 8  # unused uploads of the same files that one /update ends


@dataclass(frozen=True, slots=True)
class FileUpdate:
    """What is asked for one file. `planned`: the manifest to be; None: the short form. `parent`, `name`: where a
    new file goes, by default into the root under its id.
    """

    file_id: str
    base: int
    planned: Sequence[Entry] | None = None
    parent: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload that is open. `required`: per file the ids of the chunks that it wants, or why it is not of it."""

    upload_id: str | None
    required: Sequence[list[str] | MoorageError]


@dataclass(frozen=True, slots=True)
class _Checked:
    """A file that may be updated. `manifest`: its current one, in the short form; `names`: what its names mean."""

    file: UploadFile
    manifest: Manifest | None
    names: Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class _Checks:
    files: Sequence[_Checked | MoorageError]
    unused: Sequence[KeyValue]


async def begin_upload(
    server: L1,
    namespace: str,
    updates: Sequence[FileUpdate],
    *,
    several_files: bool,
    repeat: Repeat | None = None,
) -> Begun:
    """Begin one upload of those files that may be updated. When none may, there is no upload.

    Refusals, per file: 409 `conflict`, 404, 422 for a size that is not the chunk's, and what the tree refuses.
    Raises `StoreUnavailableError`; `IdempotencyKeyReusedError`. A retry begins a new upload that takes the place of
    the unused one; under its key it is answered with the one that it began, while that is open.
    """
    if repeat is not None:
        answered = await server.namespaces.read(namespace, plan_answered(repeat))
        if answered is not None:
            return await _answer_again(server, namespace, updates, answered)
    tag = build_tag((update.file_id for update in updates), several_files=several_files)
    digests = {digest for update in updates for _, digest, _ in update.planned or ()}
    checks, held = await asyncio.gather(
        server.namespaces.read(namespace, _plan_checks(updates, tag)), _read_held(server, namespace, digests)
    )
    found: list[Found] = []
    files: list[UploadFile] = []
    for update, checked in zip(updates, checks.files, strict=True):
        if isinstance(checked, MoorageError):
            found.append(checked)
            continue
        try:
            found.append(None if update.planned is None else _find_missing(update.planned, held))
        except InvalidFieldError as refusal:
            found.append(refusal)
        else:
            files.append(checked.file)
    current = [None if isinstance(checked, MoorageError) else checked for checked in checks.files]
    required = await _list_required(server, namespace, updates, found, current)
    if not files:
        return Begun(None, required)
    upload_id = build_upload_id(tag, server.rng, short_form=not any(file.planned for file in files))
    files = await _place_plans(server, namespace, upload_id, files)
    upload = Upload(1, namespace, int(server.clock() * 1000), choose_write_pool(server), files)
    if repeat is None:
        await _put_upload(server, namespace, upload_id, upload, checks.unused)
        return Begun(upload_id, required)
    answer = build_answered(upload_id, found)
    plan = plan_begin_once(repeat, answer, upload, checks.unused)
    answered = await server.namespaces.change(namespace, plan, request=repeat.key)
    if answered.upload_id != upload_id:  # the same request was faster, somewhere else
        return await _answer_again(server, namespace, updates, answered)
    return Begun(upload_id, required)


async def _answer_again(
    server: L1, namespace: str, updates: Sequence[FileUpdate], answered: Answered
) -> Begun:
    """What was answered to the same request. The current version's list is that of the base, wherever the file is."""
    found = answered.found()
    short = [update for update, each in zip(updates, found, strict=True) if each is None]
    lists = iter(await server.namespaces.read(namespace, _plan_current(short)) if short else ())
    current = [next(lists) if each is None else None for each in found]
    return Begun(answered.upload_id, await _list_required(server, namespace, updates, found, current))


# --- may these files be updated? ------------------------------------------------------------------------------


def _plan_checks(updates: Sequence[FileUpdate], tag: str) -> Plan[_Checks]:
    prefix_ids = [update.file_id for update in updates]

    def plan(view: View) -> _Checks:
        prefix = keys.upload(view.namespace, tag)
        open_range = RangeKey(prefix, prefix_end(prefix), limit=MAX_REPLACED)
        view.need_together(
            governed=[keys.node(view.namespace, file_id) for file_id in prefix_ids],
            fresh_ranges=(open_range,),
        )
        wanted: dict[bytes | RangeKey, None] = {}
        files: list[_Checked | MoorageError] = []
        for update in updates:
            try:
                files.append(_check(view, update))
            except NotLoaded as missing:
                wanted.update(dict.fromkeys(missing.wanted))
            except MoorageError as refusal:
                files.append(refusal)
        ranges = [(kv, _first_stored(view, kv)) for kv in view.fresh_range(open_range)]
        wanted.update(dict.fromkeys(key for _, key in ranges if key not in view.fresh_ranges))
        if wanted:
            raise NotLoaded(wanted)
        return _Checks(files, [kv for kv, key in ranges if not view.fresh_range(key)])

    return plan


def _first_stored(view: View, upload: KeyValue) -> RangeKey:
    return RangeKey(*keys.stored_range(view.namespace, keys.parse_upload_id(upload.key)), limit=1)


def _check(view: View, update: FileUpdate) -> _Checked:
    """The file as the upload's record will hold it, and in the short form what its current list is."""
    file_id, base = update.file_id, update.base
    is_planned, entries = update.planned is not None, list(update.planned or ())
    if tree.observe_node(view, file_id) is None:
        if base:
            raise NotFoundError(f"There is no {file_id!r}.")
        parent, name = update.parent or root_id(view.namespace), update.name or file_id
        tree.refuse_unplaceable(view, file_id, parent, name)
        return _Checked(UploadFile(file_id, base, parent, name, is_planned, entries=entries), None, {})
    observe_base(view, file_id, base)
    file = UploadFile(file_id, base, planned=is_planned, entries=entries)
    return _Checked(file, None, {}) if is_planned else _observe_current(view, file)


def _observe_current(view: View, file: UploadFile) -> _Checked:
    manifest = observe_manifest(view, file.file_id, file.base)
    if manifest is None or manifest.segments:
        return _Checked(file, manifest, {})
    return _Checked(file, manifest, observe_meanings(view, _names(manifest.entries)))


def _plan_current(updates: Sequence[FileUpdate]) -> Plan[list[_Checked]]:
    def plan(view: View) -> list[_Checked]:
        view.need(keys.manifest(view.namespace, update.file_id, update.base) for update in updates)
        return [_observe_current(view, UploadFile(update.file_id, update.base)) for update in updates]

    return plan


def _names(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(name for name, _, _ in entries if name is not None))


# --- what is to be sent? --------------------------------------------------------------------------------------


async def _read_held(server: L1, namespace: str, digests: set[bytes]) -> dict[bytes, int]:
    """The sizes of those chunks that the namespace holds for good. One that the collector has condemned is asked
    for again: it may be gone before it is pinned.
    """
    wanted = {keys.chunk(namespace, digest): digest for digest in digests}
    held: dict[bytes, int] = {}
    for key, kv in (await read_keys(server.store, list(wanted))).items():
        chunk = records.decode(Chunk, kv.value)
        if chunk.state in {CHUNK_LIVE, CHUNK_SOFT_DELETED}:
            held[wanted[key]] = chunk.size
    return held


async def _list_required(
    server: L1,
    namespace: str,
    updates: Sequence[FileUpdate],
    found: Sequence[Found],
    current: Sequence[_Checked | None],
) -> list[list[str] | MoorageError]:
    required: list[list[str] | MoorageError] = []
    for update, each, checked in zip(updates, found, current, strict=True):
        if isinstance(each, MoorageError):
            required.append(each)
        elif each is None:
            assert checked is not None
            required.append(await _list_current(server, namespace, checked))
        else:
            assert update.planned is not None
            required.append([format_id(update.planned[place]) for place in each])
    return required


def _find_missing(planned: Sequence[Entry], held: Mapping[bytes, int]) -> list[int]:
    """The place of each missing chunk, the first one that it has in the list."""
    missing: dict[bytes, int] = {}
    for place, (_, digest, size) in enumerate(planned):
        known = held.get(digest)
        if known is None:
            missing.setdefault(digest, place)
        elif known != size:
            raise InvalidFieldError(
                f"The chunk {format_hash(digest)} has {known} bytes, not {size}.",
                field=f"chunks[{place}].size",
            )
    return list(missing.values())


async def _list_current(server: L1, namespace: str, checked: _Checked) -> list[str]:
    """The current list as L2 tells it: where a name has moved on, the hash."""
    manifest = checked.manifest
    if manifest is None:
        return []
    entries: Sequence[Entry] = manifest.entries
    names: Mapping[str, bytes | None] = checked.names
    if manifest.segments:
        entries = await read_segments(server.store, namespace, manifest.segments, manifest.count)
        names = await read_names(server.store, namespace, _names(entries))
    return [
        format_hash(digest) if name is None or names.get(name) != digest else name
        for name, digest, _ in entries
    ]


# --- the record ------------------------------------------------------------------------------------------------


async def _place_plans(
    server: L1, namespace: str, upload_id: str, files: Sequence[UploadFile]
) -> list[UploadFile]:
    """The files with their plans where they fit: in the record, else in segments that are written here."""
    placed, lists = plan_places(upload_id, files)
    await write_segments(server.store, namespace, lists, server.incarnation.encode())
    return placed


def plan_places(
    upload_id: str, files: Sequence[UploadFile]
) -> tuple[list[UploadFile], dict[str, Sequence[Entry]]]:
    """The files as the record will hold them, and the plans that go to segments, by their bases: long ones, and
    the longest of many until the rest is at most `MAX_RECORD_BYTES`.
    """
    weights = [sum(44 + len(name or "") for name, _, _ in file.entries) for file in files]
    left = sum(weights)
    placed = list(files)
    lists: dict[str, Sequence[Entry]] = {}
    for place in sorted(range(len(files)), key=lambda place: -weights[place]):
        file, base = files[place], f"{upload_id}.{place}"
        count = len(file.entries)
        if count <= INLINE_ENTRIES and left <= MAX_RECORD_BYTES:
            placed[place] = msgspec.structs.replace(file, count=count)
            continue
        placed[place] = msgspec.structs.replace(file, count=count, segments=base, entries=[])
        lists[base] = file.entries
        left -= weights[place]
    return placed, lists


async def _put_upload(
    server: L1, namespace: str, upload_id: str, upload: Upload, unused: Sequence[KeyValue]
) -> None:
    """Put the record, and end those uploads in whose place it comes, if they are still as they were."""
    if unused:
        await server.namespaces.change(namespace, lambda view: put_in_place(view, upload_id, upload, unused))
        return
    key = keys.upload(namespace, upload_id)
    if not await server.namespaces.write_aside(namespace, [absent(key)], [Put(key, records.encode(upload))]):
        raise StoreUnavailableError("The upload could not be begun; try again.")


def choose_write_pool(server: L1) -> str:
    """The pool that new bytes should go to; StoreUnavailableError when there is none."""
    cluster = server.routing.value.cluster(server.cluster.server_key)
    if cluster is None or not cluster.write_pools:
        raise StoreUnavailableError("No block pool of this cluster takes new bytes now; try again later.")
    return cluster.write_pools[0]
