"""Every etcd key of a metadata cluster: builders and parsers (docs/metadata-keys.md has sizes and writers).

All keys of a namespace start with `n/<namespace>/`, but for those of the cluster's work (`w/`, `p/`). Ids hold no `/`, so
every key parses one way only.
Which keys the head governs: `h j i c m x b e t d v` change only in transactions that compare and move the head, so what
was read of them is valid while the head stands. `k` and `g` are *added* without moving the head, and removed or
condemned only by moving it: a record seen is valid while the head stands, an absence is not. So it is with `u`, which a
change of the head may end as well. `s` is read anew for each use. `l` and `o` are the collector's own.
"""

from functools import lru_cache

from moorage_nodes.stores.contracts import prefix_end

KEPT = 2048
"""A plan builds the same keys of nodes and children several times: those built last are kept, about 0.5 MB."""

# The letters of the kinds of keys, as bytes of a key at `kind_at`.
TOLD = frozenset(b"icm")  # change only as a journal entry of the same transaction tells (view.told_keys)
UNTOLD = frozenset(b"xbetdv")  # change with the head, and no entry says which
ADDED = frozenset(b"kg")
UPLOADS = frozenset(b"u")  # made without the head; change and end with it
ASIDE = frozenset(b"s")

INCARNATION = b"meta/incarnation"
REALM = b"meta/realm"
FORMAT = b"meta/format"
COLLECTOR_TENURE = b"gc/tenure"  # under a lease: exists while a collector works
COLLECTOR_STATE = b"gc/state"
COLLECTOR_POOLS = b"gc/pools"
SCRUB_STATE = b"scrub/state"


def namespace_prefix(namespace: str) -> bytes:
    return b"n/%s/" % namespace.encode()


def kind_at(namespace: str) -> int:
    """Where in a key of this namespace the letter of its kind stands."""
    return len(namespace) + 3


def kind_range(namespace: str, kind: str) -> tuple[bytes, bytes]:
    """All keys of one letter of a namespace."""
    prefix = b"n/%s/%s/" % (namespace.encode(), kind.encode())
    return prefix, prefix_end(prefix)


def head(namespace: str) -> bytes:
    return b"n/%s/h" % namespace.encode()


def journal(namespace: str, sequence: int) -> bytes:
    """12 hex digits: byte order is numeric order up to 2^48 changes of one namespace."""
    return b"n/%s/j/%012x" % (namespace.encode(), sequence)


def journal_range(namespace: str, after: int) -> tuple[bytes, bytes]:
    """All entries with a sequence above `after`."""
    return journal(namespace, after + 1), prefix_end(b"n/%s/j/" % namespace.encode())


@lru_cache(KEPT)
def node(namespace: str, node_id: str) -> bytes:
    return b"n/%s/i/%s" % (namespace.encode(), node_id.encode())


@lru_cache(KEPT)
def child(namespace: str, parent_id: str, name: str) -> bytes:
    return b"n/%s/c/%s/%s" % (namespace.encode(), parent_id.encode(), name.encode())


def children_range(namespace: str, parent_id: str, after: str | None = None) -> tuple[bytes, bytes]:
    """The children of a directory in byte order of their names, those behind the name `after`."""
    prefix = child(namespace, parent_id, "")
    return (prefix if after is None else child(namespace, parent_id, after) + b"\0"), prefix_end(prefix)


def parse_child_name(namespace: str, parent_id: str, key: bytes) -> str:
    return key[len(child(namespace, parent_id, "")) :].decode()


def manifest(namespace: str, file_id: str, version: int) -> bytes:
    return b"n/%s/m/%s/%012x" % (namespace.encode(), file_id.encode(), version)


def manifests_range(namespace: str, file_id: str) -> tuple[bytes, bytes]:
    prefix = b"n/%s/m/%s/" % (namespace.encode(), file_id.encode())
    return prefix, prefix_end(prefix)


def parse_manifest(key: bytes) -> tuple[str, int]:
    """(file id, version)"""
    _, file_id, version = key.rsplit(b"/", 2)
    return file_id.decode(), int(version, 16)


def parse_manifest_version(key: bytes) -> int:
    return int(key[-12:], 16)


def segments_range(namespace: str, base: str) -> tuple[bytes, bytes]:
    """All segments of one list."""
    prefix = b"n/%s/g/%s/" % (namespace.encode(), base.encode())
    return prefix, prefix_end(prefix)


def parse_segment_base(key: bytes) -> str:
    return key.rsplit(b"/", 2)[1].decode()


def segment(namespace: str, base: str, index: int) -> bytes:
    """One segment of a long list of chunks; `base` is `<upload>.<file index>[.<random>]`."""
    return b"n/%s/g/%s/%06x" % (namespace.encode(), base.encode(), index)


def upload(namespace: str, upload_id: str) -> bytes:
    """Exists exactly while the upload is open."""
    return b"n/%s/u/%s" % (namespace.encode(), upload_id.encode())


def uploads_range(namespace: str) -> tuple[bytes, bytes]:
    prefix = b"n/%s/u/" % namespace.encode()
    return prefix, prefix_end(prefix)


def parse_upload_id(key: bytes) -> str:
    return key.rpartition(b"/")[2].decode()


def stored(namespace: str, upload_id: str, call_id: str) -> bytes:
    """What one accepted call stored under an upload; create revisions order the calls."""
    return b"n/%s/s/%s/%s" % (namespace.encode(), upload_id.encode(), call_id.encode())


def stored_range(namespace: str, upload_id: str) -> tuple[bytes, bytes]:
    prefix = b"n/%s/s/%s/" % (namespace.encode(), upload_id.encode())
    return prefix, prefix_end(prefix)


def parse_stored_upload(key: bytes) -> str:
    return key.rsplit(b"/", 2)[1].decode()


def chunk(namespace: str, digest: bytes) -> bytes:
    """The L3 record of a chunk; the key ends in the 32 raw bytes of its SHA-256."""
    return b"n/%s/k/%s" % (namespace.encode(), digest)


def chunk_name(namespace: str, chunk_id: str) -> bytes:
    """What a client's name for a chunk means now; only names that are not the hash have one."""
    return b"n/%s/x/%s" % (namespace.encode(), chunk_id.encode())


def bound(namespace: str, binding: str) -> bytes:
    """Exists once the commit is done that bound many names beforehand (metadata/names.py)."""
    return b"n/%s/b/%s" % (namespace.encode(), binding.encode())


def parse_binding(key: bytes) -> str:
    return key.rpartition(b"/")[2].decode()


def idempotency(namespace: str, key: str) -> bytes:
    return b"n/%s/e/%s" % (namespace.encode(), key.encode())


def nodes_range(namespace: str, after: str | None = None) -> tuple[bytes, bytes]:
    """All nodes in byte order of their ids, those behind the id `after`."""
    prefix = node(namespace, "")
    return (prefix if after is None else node(namespace, after) + b"\0"), prefix_end(prefix)


def parse_node_id(key: bytes) -> str:
    return key.rpartition(b"/")[2].decode()


def parse_journal_sequence(key: bytes) -> int:
    return int(key[-12:], 16)


def deletion(namespace: str, notification_id: str) -> bytes:
    """Exists exactly while the deletion is pending."""
    return b"n/%s/d/%s" % (namespace.encode(), notification_id.encode())


def trash(namespace: str, node_id: str) -> bytes:
    return b"n/%s/t/%s" % (namespace.encode(), node_id.encode())


def trash_range(namespace: str, after: str | None = None) -> tuple[bytes, bytes]:
    """What is in the trash in byte order of the ids, that behind the id `after`."""
    prefix = trash(namespace, "")
    return (prefix if after is None else trash(namespace, after) + b"\0"), prefix_end(prefix)


def letting_go(namespace: str, node_id: str) -> bytes:
    """A directory that the trash has let go, while the collector takes away what was below it."""
    return b"n/%s/l/%s" % (namespace.encode(), node_id.encode())


def unnamed_list(namespace: str, base: str) -> bytes:
    """A long list that the collector has found without a name: its segments go after the grace."""
    return b"n/%s/o/%s" % (namespace.encode(), base.encode())


def parse_unnamed_list(key: bytes) -> str:
    return key.rpartition(b"/")[2].decode()


def device(namespace: str, client_id: str) -> bytes:
    return b"n/%s/v/%s" % (namespace.encode(), client_id.encode())


def devices_range(namespace: str) -> tuple[bytes, bytes]:
    prefix = device(namespace, "")
    return prefix, prefix_end(prefix)


def parse_client_id(key: bytes) -> str:
    return key.rpartition(b"/")[2].decode()


def work(namespace: str, notification_id: str) -> bytes:
    """Exists while the deletion waits for a server of ours, not for its clients (`parked`).

    Notification ids begin with `n`, which stands here where other keys have the letter of their kind, and is none
    of those: what plans write there belongs to no namespace's state.
    """
    return b"w/%s/%s" % (namespace.encode(), notification_id.encode())


def work_range() -> tuple[bytes, bytes]:
    return b"w/", prefix_end(b"w/")


def parked(namespace: str, notification_id: str) -> bytes:
    """Exists while the deletion waits for its clients: the notifier has it."""
    return b"p/%s/%s" % (namespace.encode(), notification_id.encode())


def parked_range() -> tuple[bytes, bytes]:
    return b"p/", prefix_end(b"p/")


def parse_work(key: bytes) -> tuple[str, str]:
    """(namespace, notification id) of a key of work, or of one that is parked"""
    _, namespace, notification_id = key.decode().split("/")
    return namespace, notification_id
