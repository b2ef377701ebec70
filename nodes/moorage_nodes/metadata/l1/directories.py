"""Directories: making, listing, finding. Each plan is one request's rules, pure on a view (PROTOCOL.md, Directories)."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from moorage.core.errors import (
    DamagedTreeError,
    IdTakenError,
    InvalidFieldError,
    NotADirectoryInTheWayError,
    NotFoundError,
)
from moorage.core.ids import root_id
from moorage.core.times import format_time
from moorage.core.wire import DirectoryEntry, FileEntry, ListDirectoryAnswer, NodeAnswer
from moorage_nodes.lru import Lru
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.tree import (
    Located,
    locate,
    name_taken,
    need_place,
    observe_live_directory,
    observe_node,
    observe_readable,
    path_of,
    put_node,
    refuse_reserved_id,
    refuse_too_deep,
    resolve_path,
)
from moorage_nodes.metadata.records import (
    DIRECTORY,
    FILE,
    KIND_NAMES,
    LIVE,
    STATE_NAMES,
    Child,
    Node,
)
from moorage_nodes.metadata.view import RangeKey, View
from moorage_nodes.stores.contracts import KeyValue

RANGE_KEYS = 4096  # children that one range read asks for
MAX_CURSOR_CHARS = 1024
LISTING_OVERHEAD = 500  # bytes that a kept listing costs beside its answer


def build_node_answer(located: Located) -> NodeAnswer:
    node = located.node
    answer = NodeAnswer(
        id=located.id,
        type=KIND_NAMES[node.kind],
        name=node.name,
        parent_dir_id=node.parent or None,
        path=path_of(located),
        state=STATE_NAMES[node.state],
        meta_version=node.meta_version,
        modified=format_time(node.modified),
    )
    if node.kind == FILE:
        answer.version, answer.size = node.version, node.size
    return answer


# --- making ---------------------------------------------------------------------------------------------------


def make_directories(
    view: View, parent_id: str, names: Sequence[str], *, id_base: str, last_id: str | None = None
) -> str:
    """Make directories one below the other in an existing one, each with its journal entry; the id of the last.

    Ids are `<id_base>.<place>`, which must be new; the last one's is `last_id` where given.
    """
    for place, name in enumerate(names):
        is_last = place == len(names) - 1
        directory_id = last_id if is_last and last_id is not None else f"{id_base}.{place}"
        view.put(keys.child(view.namespace, parent_id, name), Child(1, DIRECTORY, directory_id))
        put_node(view, "create", directory_id, Node(1, DIRECTORY, parent_id, name, LIVE, 0, view.now))
        parent_id = directory_id
    return parent_id


def plan_create_directory(
    view: View, directory_id: str, parent_id: str, parts: Sequence[str], id_base: str
) -> NodeAnswer:
    """Make what is missing on the path `parts` below `parent_id`; the last part gets `directory_id`.

    Idempotent: what stands there under that id already is answered as it is. Refused, with nothing made: 409
    `id_taken`, `name_taken` (a directory of another id), `not_a_directory` (a file in the way), `too_deep`.
    """
    refuse_reserved_id(view, directory_id, "dir_id")
    need_place(view, directory_id, parent_id, parts[0])
    parent = observe_live_directory(view, parent_id, to_change=True)
    resolved = resolve_path(view, parent_id, parts)
    if resolved.kind == FILE:
        raise NotADirectoryInTheWayError(f"There is a file in the way of {_joined(parts)!r}.", id=resolved.id)
    if resolved.missing:
        if observe_node(view, directory_id) is not None:
            raise IdTakenError(f"The id {directory_id!r} is in use elsewhere.")
        refuse_too_deep(len(parent.ancestors) + len(parts))
        make_directories(view, resolved.id, resolved.missing, id_base=id_base, last_id=directory_id)
    elif resolved.id != directory_id:
        raise name_taken(parts[-1], Child(1, DIRECTORY, resolved.id))
    return build_node_answer(locate(view, directory_id))


def _joined(parts: Sequence[str]) -> str:
    return "/" + "/".join(parts)


# --- finding --------------------------------------------------------------------------------------------------


def plan_resolve(view: View, parts: Sequence[str]) -> NodeAnswer:
    """The node at a path from the root; 404."""
    resolved = resolve_path(view, root_id(view.namespace), parts)
    if resolved.missing:
        raise NotFoundError(f"There is nothing at {_joined(parts)!r}.")
    return build_node_answer(observe_readable(view, resolved.id))


def plan_get_node(view: View, node_id: str) -> NodeAnswer:
    """A node with its path; 404, or 410 once it is deleted."""
    return build_node_answer(observe_readable(view, node_id))


# --- listing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """Up to `limit` entries (None: all) behind the name `after`, in byte order of the names."""

    limit: int | None = None
    after: str | None = None


def build_cursor(directory_id: str, after: str) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((1, directory_id, after))).decode().rstrip("=")


def parse_cursor(text: str | None, directory_id: str) -> str | None:
    """The name that a cursor of this directory's listing stands behind; 422 for anything else."""
    if text is None:
        return None
    error = InvalidFieldError(
        "`cursor` must be the `next_cursor` of an earlier page of this directory.", field="cursor"
    )
    if len(text) > MAX_CURSOR_CHARS:
        raise error
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        schema, of_directory, after = msgspec.msgpack.decode(data, type=tuple[int, str, str])
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise error from None
    if schema != 1 or of_directory != directory_id or "\0" in after or "/" in after:
        raise error
    return after


Listings = Lru[tuple[str, str, Page], tuple[int, bytes]]
"""Encoded listings by (namespace, directory, page), each with the revision of the head that it was made at."""


def plan_list_directory(view: View, directory_id: str, page: Page, known: Listings) -> bytes:
    """One page of a live directory's listing as encoded JSON (`ListDirectoryAnswer`), all of it at one head.

    What is `known` of the same head is the answer: nothing in the namespace has changed since.
    """
    question = (view.namespace, directory_id, page)
    kept = known.get(question)
    if kept is not None and kept[0] == view.state.head_revision:
        return kept[1]
    observe_live_directory(view, directory_id)
    answer = msgspec.json.encode(_build_listing(view, directory_id, page))
    known.put(question, (view.state.head_revision, answer), len(answer) + LISTING_OVERHEAD)
    return answer


def _build_listing(view: View, directory_id: str, page: Page) -> ListDirectoryAnswer:
    found = _observe_children(view, directory_id, page)
    listing = ListDirectoryAnswer(directories=[], files=[])
    if page.limit is not None:
        more = len(found) > page.limit
        found = found[: page.limit]
        last = keys.parse_child_name(view.namespace, directory_id, found[-1].key) if more else None
        listing.next_cursor = None if last is None else build_cursor(directory_id, last)
    children = [records.decode(Child, kv.value) for kv in found]
    node_keys = [keys.node(view.namespace, child.id) for child in children]
    view.need(node_keys)
    for child, key in zip(children, node_keys, strict=True):
        node = view.record(Node, key)
        if node is None:
            raise DamagedTreeError(f"The record of {child.id!r} is missing.")
        modified, state = format_time(node.modified), STATE_NAMES[node.state]
        if child.kind == DIRECTORY:
            entry = DirectoryEntry(id=child.id, name=node.name, modified=modified, state=state)
            listing.directories.append(entry)
        else:
            listing.files.append(
                FileEntry(
                    id=child.id,
                    name=node.name,
                    modified=modified,
                    state=state,
                    version=node.version,
                    size=node.size,
                )
            )
    return listing


def _observe_children(view: View, directory_id: str, page: Page) -> list[KeyValue]:
    """Up to one more than the page holds, so that one knows whether there are more."""
    wanted = None if page.limit is None else page.limit + 1
    found: list[KeyValue] = []
    after = page.after
    while wanted is None or len(found) < wanted:
        asked = RANGE_KEYS if wanted is None else min(RANGE_KEYS, wanted - len(found))
        start, end = keys.children_range(view.namespace, directory_id, after)
        part = view.range(RangeKey(start, end, asked))
        found.extend(part)
        if len(part) < asked:
            break
        after = keys.parse_child_name(view.namespace, directory_id, part[-1].key)
    return found
