"""Files as L1 tells of them: making empty ones, and what is known of a version (PROTOCOL.md, Files)."""

import hashlib
from collections.abc import Sequence

from moorage.core.errors import GoneError, InvalidFieldError, NotADirectoryInTheWayError, NotFoundError
from moorage.core.ids import format_hash
from moorage.core.times import format_time
from moorage.core.wire import FileMetadataAnswer, NodeAnswer
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.directories import build_node_answer, make_directories
from moorage_nodes.metadata.l1.tree import (
    locate,
    need_place,
    observe_changeable,
    observe_live_directory,
    observe_live_file,
    observe_node,
    plan_create_file_node,
    put_node,
    refuse_too_deep,
    resolve_path,
)
from moorage_nodes.metadata.records import FILE, LIVE, STATE_NAMES, Manifest, Node
from moorage_nodes.metadata.view import View

EMPTY_DIGEST = hashlib.sha256().digest()  # of no chunks: a file of version 0, and an empty one


def plan_create_file(
    view: View, file_id: str, parent_id: str, parts: Sequence[str], id_base: str
) -> NodeAnswer:
    """An empty file, version 0, at the path `parts` below `parent_id`; directories missing on the way are made.

    Idempotent: the file that stands there under that id is answered as it is now. Refusals as
    `plan_create_file_node`, and 409 `not_a_directory` for a file in the way.
    """
    *way, name = parts
    need_place(view, file_id, parent_id, parts[0])
    directory_id = parent_id
    if way:
        parent = observe_live_directory(view, parent_id, to_change=True)
        resolved = resolve_path(view, parent_id, way)
        if resolved.kind == FILE:
            raise NotADirectoryInTheWayError(
                f"There is a file in the way of {'/'.join(parts)!r}.", id=resolved.id
            )
        refuse_too_deep(len(parent.ancestors) + len(parts))
        directory_id = make_directories(view, resolved.id, resolved.missing, id_base=id_base)
    if not _stands(observe_node(view, file_id), directory_id, name):
        put_node(view, "create", file_id, plan_create_file_node(view, file_id, directory_id, name))
        return build_node_answer(locate(view, file_id))
    return build_node_answer(observe_changeable(view, file_id))


def _stands(node: Node | None, parent_id: str, name: str) -> bool:
    """Whether this is what an earlier request of the same arguments made."""
    return (
        node is not None
        and node.kind == FILE
        and node.state == LIVE
        and (node.parent, node.name) == (parent_id, name)
    )


def plan_file_metadata(view: View, file_id: str, version: int | None, l2_name: str) -> FileMetadataAnswer:
    """A file's current version, or a retained one; 404 for one that is yet to come, 410 for one dropped."""
    node = observe_live_file(view, file_id)
    if version is None or version == node.version:
        size, digest, modified, attrs = node.size, node.digest, node.modified, node.attrs
    else:
        manifest = observe_retained(view, file_id, node, version)
        size, digest, modified, attrs = manifest.size, manifest.digest, manifest.modified, manifest.attrs
    return FileMetadataAnswer(
        l2_metadata_server=l2_name,
        version=node.version if version is None else version,
        name=node.name,
        size=size,
        modified=format_time(modified),
        state=STATE_NAMES[node.state],
        hash=format_hash(digest or EMPTY_DIGEST),
        attrs=attrs,
    )


def observe_retained(view: View, file_id: str, node: Node, version: int) -> Manifest:
    """The manifest of an older version of a file."""
    if version > node.version:
        raise NotFoundError(f"{file_id!r} has no version {version}; its newest is {node.version}.")
    manifest = view.record(Manifest, keys.manifest(view.namespace, file_id, version))
    if manifest is None:
        raise GoneError(f"The content of version {version} of {file_id!r} is not kept any more.")
    return manifest


def parse_place(
    parent: str | None, name: tuple[str, ...] | None, path: tuple[str, ...] | None, root: str
) -> tuple[str, tuple[str, ...]]:
    """Where a new file goes, as (parent id, path below it): by parent and name, or by path."""
    if (name is None) == (path is None):
        raise InvalidFieldError("Give either `parent_dir_id` and `name`, or `path`.", field="path")
    if name is not None and parent is None:
        raise InvalidFieldError("`name` needs `parent_dir_id`.", field="parent_dir_id")
    parts = name if name is not None else path
    if not parts:
        raise InvalidFieldError("`path` must name a file, not the root directory.", field="path")
    return parent or root, parts
