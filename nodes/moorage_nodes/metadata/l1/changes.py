"""The change feed: what is there, then every change in the order of the namespace (PROTOCOL.md, Clients and changes).

A cursor names a place in one namespace of one incarnation of the cluster: behind a journal entry, or within the
snapshot that a client without a cursor begins with. All pages of a snapshot are read at the one revision of its
start, and the journal goes on from the head that stood there. A client can forge no more than another place in its
own feed.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from moorage.core.errors import CompactedError, InvalidFieldError, RequestRefusedError
from moorage.core.ids import root_id
from moorage.core.wire import ChangeEntry, ChangesAnswer
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import KIND_NAMES, LIVE, STATE_NAMES, Head, JournalEntry, Node
from moorage_nodes.stores.contracts import KeyValue, MetadataStore, Range

MAX_CURSOR_CHARS = 1024
MAX_PLACE = 1 << 47
RESTORED = "restored"  # the cluster is another incarnation: delete nothing, offer again
EXPIRED = "expired"  # the feed, or the store's past, does not reach back so far


@dataclass(frozen=True, slots=True)
class Cursor:
    """Behind the journal entry `sequence`. With a `revision`, in the snapshot read there, behind the id `after`."""

    incarnation: str
    sequence: int
    revision: int = 0
    after: str = ""


def build_cursor(namespace: str, cursor: Cursor) -> str:
    data = msgspec.msgpack.encode(
        (1, namespace, cursor.incarnation, cursor.sequence, cursor.revision, cursor.after)
    )
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def parse_cursor(text: str, namespace: str) -> Cursor:
    """422 for what no feed of this namespace has answered."""
    error = _no_cursor()
    if len(text) > MAX_CURSOR_CHARS:
        raise error
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        schema, of_namespace, incarnation, sequence, revision, after = msgspec.msgpack.decode(
            data, type=tuple[int, str, str, int, int, str]
        )
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise error from None
    if schema != 1 or of_namespace != namespace or min(sequence, revision) < 0:
        raise error
    if max(sequence, revision) > MAX_PLACE or "/" in after:
        raise error
    return Cursor(incarnation, sequence, revision, after)


def _no_cursor() -> InvalidFieldError:
    return InvalidFieldError("`cursor` must be one that /changes answered to this user.", field="cursor")


async def read_changes(
    store: MetadataStore, namespace: str, incarnation: str, cursor: Cursor | None, limit: int
) -> ChangesAnswer:
    """Up to `limit` entries behind the cursor; without one, the start of a snapshot. Linearizable.

    `reset` when the cursor is of another incarnation or older than what is kept; 422 for one of the future.
    """
    if cursor is None:
        return await _read_snapshot(store, namespace, Cursor(incarnation, 0), limit)
    if cursor.incarnation != incarnation:
        return _reset(RESTORED)
    if cursor.revision:
        return await _read_snapshot(store, namespace, cursor, limit)
    return await _read_journal(store, namespace, cursor, limit)


def _reset(reason: str) -> ChangesAnswer:
    return ChangesAnswer(reset=True, reason=reason)


# --- the journal -----------------------------------------------------------------------------------------------


async def _read_journal(store: MetadataStore, namespace: str, cursor: Cursor, limit: int) -> ChangesAnswer:
    head_key = keys.head(namespace)
    entries = Range(*keys.journal_range(namespace, cursor.sequence), limit)
    snapshot = await store.get_many([head_key, entries])
    newest = _sequence_of(snapshot.found.get(head_key))
    found = snapshot.ranges[entries].kvs
    if cursor.sequence > newest:
        raise _no_cursor()
    if cursor.sequence < newest and not _follows(found, cursor.sequence):
        return _reset(EXPIRED)
    last = cursor.sequence + len(found)
    return ChangesAnswer(
        changes=[_of_entry(records.decode(JournalEntry, kv.value)) for kv in found],
        cursor=build_cursor(namespace, Cursor(cursor.incarnation, last)),
        more=last < newest,
    )


def _follows(found: tuple[KeyValue, ...], sequence: int) -> bool:
    return bool(found) and keys.parse_journal_sequence(found[0].key) == sequence + 1


def _sequence_of(head: KeyValue | None) -> int:
    return 0 if head is None else records.decode(Head, head.value).sequence


def _of_entry(entry: JournalEntry) -> ChangeEntry:
    return ChangeEntry(
        type=entry.type,
        id=entry.id,
        parent_dir_id=entry.parent,
        name=entry.name,
        version=entry.version,
        state=STATE_NAMES[entry.state],
        node=KIND_NAMES[entry.kind],
    )


# --- the snapshot ----------------------------------------------------------------------------------------------


async def _read_snapshot(store: MetadataStore, namespace: str, cursor: Cursor, limit: int) -> ChangesAnswer:
    """Everything that can be read, in byte order of the ids: what is below comes before or behind its directory."""
    head_key = keys.head(namespace)
    nodes = Range(*keys.nodes_range(namespace, cursor.after or None), limit + 1)
    try:
        snapshot = await store.get_many([head_key, nodes], revision=cursor.revision)
        found = snapshot.ranges[nodes].kvs
        page = {keys.parse_node_id(kv.key): records.decode(Node, kv.value) for kv in found[:limit]}
        ancestors = await _read_ancestors(store, namespace, page, snapshot.revision)
    except CompactedError:
        return _reset(EXPIRED)
    except RequestRefusedError:
        raise _no_cursor() from None  # of a revision that is yet to come
    sequence = _sequence_of(snapshot.found.get(head_key))
    following = Cursor(cursor.incarnation, sequence)
    if len(found) > limit:
        last = keys.parse_node_id(found[limit - 1].key)
        following = Cursor(cursor.incarnation, sequence, snapshot.revision, last)
    readable = _Readable(namespace, ancestors)
    return ChangesAnswer(
        changes=[_of_node(node_id, node) for node_id, node in page.items() if readable(node_id)],
        cursor=build_cursor(namespace, following),
        # What came since the snapshot began stands in the journal.
        more=bool(following.revision or cursor.revision),
    )


async def _read_ancestors(
    store: MetadataStore, namespace: str, page: Mapping[str, Node], revision: int
) -> Mapping[str, Node]:
    """The nodes of a page and all directories above them, as they were at the revision."""
    known = dict(page)
    above = _parents(page.values(), known)
    while above:
        wanted = {
            keys.node(namespace, node_id): node_id for node_id in above if node_id != root_id(namespace)
        }
        found = (await store.get_many(list(wanted), revision=revision)).found if wanted else {}
        read = {wanted[key]: records.decode(Node, kv.value) for key, kv in found.items()}
        known.update(read)
        above = _parents(read.values(), known)
    return known


def _parents(nodes: Iterable[Node], known: Mapping[str, Node]) -> set[str]:
    return {node.parent for node in nodes if node.state == LIVE} - known.keys()


class _Readable:
    """Whether a node is live, and so is all above it."""

    def __init__(self, namespace: str, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._known = {root_id(namespace): True}

    def __call__(self, node_id: str) -> bool:
        way: list[str] = []
        answer = False
        while node_id not in self._known:
            node = self._nodes.get(node_id)
            way.append(node_id)
            if node is None or node.state != LIVE or len(way) > len(self._nodes):
                break
            node_id = node.parent
        else:
            answer = self._known[node_id]
        self._known.update(dict.fromkeys(way, answer))
        return answer


def _of_node(node_id: str, node: Node) -> ChangeEntry:
    return ChangeEntry(
        type="create",
        id=node_id,
        parent_dir_id=node.parent,
        name=node.name,
        version=node.version,
        state=STATE_NAMES[node.state],
        node=KIND_NAMES[node.kind],
    )
