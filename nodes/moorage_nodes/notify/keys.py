"""Every key that a notifier keeps in its etcd, and the values behind them (docs/metadata-keys.md, Notifier).

What processes watch lies under `q/`; what waits for its time under `t/`. Values are msgpack arrays whose first element
is the schema version. Fields are only ever appended, with defaults.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from moorage.core.errors import FormatError
from moorage_nodes.stores.contracts import prefix_end

REALM = b"meta/realm"
WATCHED = b"q/", prefix_end(b"q/")
CLOCK = b"q/c"
NOTIFICATIONS = b"q/n/"
QUEUES = b"q/q/"
HINTS = b"q/h/"

R = TypeVar("R", bound="_Record")


class _Record(Struct, array_like=True, frozen=True):
    schema: int


class RealmRecord(_Record, frozen=True):
    realm_id: str


class Clock(_Record, frozen=True):
    """Milliseconds that have certainly passed since the notifier's first server started, and the most that the next
    writer may add at once (`moorage_nodes.notify.elapsed`).
    """

    elapsed: int
    step: int


class Notification(_Record, frozen=True):
    """A deletion that clients are told of: `node` of `kind` ("file" or "directory"), for L1 of `server_key`.

    `due` is in elapsed milliseconds and decides; `deadline` (Unix ms) is what clients are shown. `sequence` orders
    the notifications of a namespace. `settled`: L1 knows the outcome, and this is a memory of it under a lease.
    `skipped`: so many clients more are to start over instead of being told; they are waited for until the deadline.
    """

    server_key: str
    node: str
    kind: str
    deadline: int
    due: int
    sequence: int
    waiting: list[str]
    acknowledged: list[str] = []
    settled: bool = False
    skipped: int = 0


class Waiting(Struct, array_like=True, frozen=True):
    """One client of a namespace: how many notifications wait for it, beginning behind the sequence `behind`.
    `resync`: it is to be told to start over. `full`: its queue has run over, and takes nothing more until it has been
    told so.
    """

    count: int = 0
    behind: int = 0
    resync: bool = False
    full: bool = False


class Queues(_Record, frozen=True):
    """The queues of a namespace's clients. `sequence` of the newest notification, `open`: how many are not settled.

    Every transaction on a notification of the namespace compares and puts this one record.
    """

    sequence: int = 0
    open: int = 0
    clients: dict[str, Waiting] = {}


class Hint(_Record, frozen=True):
    cursor: str


SCHEMA: dict[type[_Record], int] = {RealmRecord: 1, Clock: 1, Notification: 1, Queues: 1, Hint: 1}


def notification(namespace: str, notification_id: str) -> bytes:
    return NOTIFICATIONS + f"{namespace}/{notification_id}".encode()


def notifications_range(namespace: str, after: str | None = None) -> tuple[bytes, bytes]:
    """The notifications of a namespace in byte order of their ids, those behind the id `after`."""
    prefix = notification(namespace, "")
    return (prefix if after is None else notification(namespace, after) + b"\0"), prefix_end(prefix)


def parse_notification(key: bytes) -> tuple[str, str]:
    """(namespace, notification id)"""
    namespace, notification_id = key[len(NOTIFICATIONS) :].decode().split("/")
    return namespace, notification_id


def queues(namespace: str) -> bytes:
    return QUEUES + namespace.encode()


def hint(namespace: str) -> bytes:
    return HINTS + namespace.encode()


def due(at: int, namespace: str, notification_id: str) -> bytes:
    """Exists exactly while the notification is not settled; `at` is its `due`."""
    return b"t/%012x/" % at + f"{namespace}/{notification_id}".encode()


def due_range(until: int) -> tuple[bytes, bytes]:
    """What is due at `until` or was before."""
    return b"t/", b"t/%012x/" % (until + 1)


def parse_due(key: bytes) -> tuple[int, str, str]:
    """(due, namespace, notification id)"""
    _, at, namespace, notification_id = key.decode().split("/")
    return int(at, 16), namespace, notification_id


def encode(record: _Record) -> bytes:
    return msgspec.msgpack.encode(record)


def decode(kind: type[R], data: bytes) -> R:
    record: R = _decoders[kind].decode(data)
    if record.schema > SCHEMA[kind]:
        raise FormatError(
            f"A {kind.__name__} record has schema {record.schema}; this server knows up to {SCHEMA[kind]}. "
            "Upgrade this server."
        )
    return record


_decoders: dict[type[_Record], msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in SCHEMA
}
