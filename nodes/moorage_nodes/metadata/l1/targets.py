"""What an update or a commit finds of one file: the file, its lists of chunks, its chunks' records. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from moorage.core.errors import ConflictError, DamagedTreeError, IdTakenError, NotFoundError
from moorage.core.ids import root_id
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1 import tree
from moorage_nodes.metadata.l1.segments import observe_segments
from moorage_nodes.metadata.records import (
    CHUNK_CONDEMNED,
    CHUNK_LIVE,
    CHUNK_SOFT_DELETED,
    FILE,
    INLINE_ENTRIES,
    LIVE,
    Child,
    Chunk,
    Entry,
    Manifest,
    Node,
    UploadFile,
)
from moorage_nodes.metadata.view import View
from moorage_nodes.stores.contracts import KeyValue


class NotPreparedError(Exception):
    """The content is too long to be put together within a plan: preparation.py does it beforehand."""


def observe_target(view: View, file: UploadFile) -> Node | None:
    """The file as it stands, at the upload's base version; None: it is to be made."""
    node = tree.observe_node(view, file.file_id)
    if node is None:
        if file.base or not file.parent:
            raise NotFoundError(f"There is no {file.file_id!r}.")
        return None
    return observe_base(view, file.file_id, file.base)


def observe_base(view: View, file_id: str, base: int) -> Node:
    """A file that exists and may be changed, at version `base`; else what refuses it."""
    node = tree.observe_node(view, file_id)
    if node is not None and node.kind != FILE and base == 0:
        raise IdTakenError(f"{file_id!r} is a directory.")
    node = tree.observe_live_file(view, file_id, to_change=True)
    if node.version != base:
        raise ConflictError(
            f"Version {base} is not the newest: fetch version {node.version} and build on that.",
            server_version=node.version,
        )
    return node


def place_keys(namespace: str, file: UploadFile) -> list[bytes]:
    """What decides whether a new file may be made there, but for the way up to the root; none for a file that
    was there when its upload was begun.
    """
    if not file.parent:
        return []
    place = keys.child(namespace, file.parent, file.name)
    return [place] if file.parent == root_id(namespace) else [place, keys.node(namespace, file.parent)]


def refuse_taken_name(view: View, file: UploadFile) -> None:
    holder = tree.observe_child(view, file.parent, file.name)
    if holder is not None:
        raise tree.name_taken(file.name, holder)


def make_file(view: View, file: UploadFile) -> Node:
    """A new file at a place that was free before this plan: another file of it may have taken the name."""
    refuse_taken_name(view, file)
    view.put(keys.child(view.namespace, file.parent, file.name), Child(1, FILE, file.file_id))
    return Node(1, FILE, file.parent, file.name, LIVE, 0, view.now)


def observe_planned(view: View, file: UploadFile) -> Sequence[Entry] | None:
    if not file.planned:
        return None
    if file.count > INLINE_ENTRIES:
        raise NotPreparedError
    return observe_segments(view, file.segments, file.count) if file.segments else file.entries


def observe_current(view: View, file: UploadFile, *, required: bool) -> Sequence[Entry]:
    """The list of the version that the upload builds on; a long one only when it is `required`."""
    manifest = observe_manifest(view, file.file_id, file.base)
    if manifest is None:
        return ()
    if manifest.segments:
        if required:
            raise NotPreparedError
        return ()
    return manifest.entries


def observe_manifest(view: View, file_id: str, version: int) -> Manifest | None:
    """Of a file's current version, which always has one; None for version 0, which has no content."""
    if version == 0:
        return None
    manifest = view.record(Manifest, keys.manifest(view.namespace, file_id, version))
    if manifest is None:
        raise DamagedTreeError(f"The manifest of version {version} of {file_id!r} is missing.")
    return manifest


def observe_revivals(view: View, chunk_keys: Sequence[bytes]) -> list[tuple[KeyValue, Chunk]]:
    """Records of chunks that are held but marked, as they are right now: to be written live, comparing them."""
    if not chunk_keys:
        return []
    wanted = [key for key in chunk_keys if not view.touched(key)]
    view.need_fresh(wanted)
    found = [(kv, records.decode(Chunk, kv.value)) for key in wanted if (kv := view.fresh(key)) is not None]
    return [(kv, chunk) for kv, chunk in found if chunk.state in {CHUNK_SOFT_DELETED, CHUNK_CONDEMNED}]


def revive(view: View, revived: Iterable[tuple[KeyValue, Chunk]]) -> None:
    for kv, chunk in revived:
        view.require(kv)
        view.put(kv.key, msgspec.structs.replace(chunk, state=CHUNK_LIVE))
