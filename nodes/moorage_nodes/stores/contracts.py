"""What Moorage asks of a metadata store and of an object store. One contract suite runs on every implementation.

Metadata store: etcd's model (https://etcd.io/docs, API; semantics of nested transactions as read in etcd 3.7.3):
one revision for the whole store, ordered byte keys, transactions that compare and then write atomically.
Object store: S3's model: immutable whole-object writes, conditional create, ranged reads, ordered listing.

Errors (moorage.core.errors): `StoreUnavailableError` nothing was written; `OutcomeUnknownError` a write may have
been applied (once or not at all); `CompactedError`; `RequestRefusedError` the store refused the request as such.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from msgspec import Struct

from moorage.core.errors import RangeError

# The values here are msgspec Structs, not dataclasses: they are made thousands of times a second, and a frozen
# dataclass costs ten times as much to make. Values that cannot hold a cycle are kept out of the collector.

MAX_TXN_OPS = 128  # etcd's default --max-txn-ops: compares + operations along one path of nesting
MAX_REQUEST_BYTES = 1536 * 1024  # etcd's default --max-request-bytes


class KeyValue(Struct, frozen=True, gc=False):
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int  # number of writes since creation, 1 for a new key
    lease: int = 0


class Target(Enum):
    VERSION = "version"  # 0: the key does not exist
    MOD = "mod"
    CREATE = "create"
    VALUE = "value"


class Compare(Struct, frozen=True, gc=False):
    """`key`'s target equals `operand`. An absent key has version, mod and create revision 0, and no value: a
    compare of its value never holds.
    """

    key: bytes
    target: Target
    operand: int | bytes


def absent(key: bytes) -> Compare:
    return Compare(key, Target.VERSION, 0)


def unchanged(key: bytes, mod_revision: int) -> Compare:
    """Last written at `mod_revision`; 0 means absent."""
    return Compare(key, Target.MOD, mod_revision)


class Put(Struct, frozen=True, gc=False):
    key: bytes
    value: bytes
    lease: int = 0


class Delete(Struct, frozen=True, gc=False):
    """Delete `key`, or every key in [`key`, `end`) when `end` is given."""

    key: bytes
    end: bytes | None = None


class Range(Struct, frozen=True, gc=False):
    """Read `key`, or every key in [`key`, `end`); sees the writes that stand before it in its transaction."""

    key: bytes
    end: bytes | None = None
    limit: int = 0
    keys_only: bool = False
    descending: bool = False


class Txn(Struct, frozen=True):
    """If all compares hold, `then` else `orelse`, atomically at one revision.

    As in etcd: **all compares of a nested tree are evaluated before any write**; a key put twice, or put and
    deleted, anywhere in the tree is refused; `MAX_TXN_OPS` is the most of the sum, along one path of nesting, of
    each level's greatest of (number of compares, of `then`, of `orelse`).

    `scope` is for who sends transactions together and means nothing to a store: no key that a transaction of one scope
    writes is touched by those of another one. Empty: nothing is promised.
    """

    compares: tuple[Compare, ...] = ()
    then: "tuple[Op, ...]" = ()
    orelse: "tuple[Op, ...]" = ()
    scope: str = ""


Op = Put | Delete | Range | Txn


class RangeResult(Struct, frozen=True):
    kvs: tuple[KeyValue, ...]
    more: bool


class DeleteResult(Struct, frozen=True, gc=False):
    deleted: int


class TxnResult(Struct, frozen=True):
    """`results` has one entry per operation of the branch taken; None for a put. `revision` is the store's after
    the transaction (one more than before if it wrote anything), the same in the results of nested ones.
    """

    succeeded: bool
    revision: int
    results: "tuple[OpResult, ...]" = ()


OpResult = RangeResult | DeleteResult | TxnResult | None


class Snapshot(Struct, frozen=True):
    """The values of some keys and ranges at one revision; absent keys are not in `found`."""

    revision: int
    found: Mapping[bytes, KeyValue]
    ranges: Mapping[Range, RangeResult] = {}


class Event(Struct, frozen=True, gc=False):
    """A change of `kv.key`; when `deleted`, `kv.value` is empty and `kv.mod_revision` the deletion's."""

    kv: KeyValue
    deleted: bool


class WatchBatch(Struct, frozen=True):
    """All events of the watched range up to `revision`, in order, each revision whole. `resync` means events
    were lost to compaction: read the range again at `revision`; what follows begins behind it.
    """

    revision: int
    events: tuple[Event, ...] = ()
    resync: bool = False


class MetadataStore(Protocol):
    """All reads without a revision are linearizable. Safe for concurrent use by tasks of one event loop.

    A read at a revision raises `CompactedError` when that is compacted and `RequestRefusedError` when it is yet
    to come. A range [key, end) with `end` not above `key` is empty.
    """

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None: ...

    async def get_many(self, keys: Sequence[bytes | Range], *, revision: int = 0) -> Snapshot:
        """Any number of keys and bounded ranges, all at one revision (returned). One request for up to
        MAX_TXN_OPS of them. When nothing is asked for at a revision, that revision is not looked at.
        """
        ...

    async def range(
        self,
        key: bytes,
        end: bytes,
        *,
        revision: int = 0,
        limit: int = 0,
        keys_only: bool = False,
        descending: bool = False,
        by_create_revision: bool = False,
    ) -> tuple[RangeResult, int]:
        """Keys in [key, end) and the revision they were read at. For bounded ranges; else `scan`.

        In byte order of the keys, or by create revision (ties in no order to rely on); `descending` turns either
        round. With `keys_only` the values are empty. `limit` 0 is none.
        """
        ...

    def scan(
        self, key: bytes, end: bytes, *, revision: int = 0, keys_only: bool = False
    ) -> AsyncIterator[Sequence[KeyValue]]:
        """Every key in [key, end) in order at one revision, in batches of bounded memory (RangeStream
        where the server has it, pages elsewhere). Raises CompactedError if the revision goes meanwhile.
        """
        ...

    async def transact(self, txn: Txn) -> TxnResult:
        """One atomic transaction. `OutcomeUnknownError` when it was sent and no answer came; never re-sent.
        `RequestRefusedError` (limits, a key put twice, an ended lease): nothing was written.
        """
        ...

    def watch(
        self, key: bytes, end: bytes, *, from_revision: int
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchBatch]]:
        """Changes of [key, end) from `from_revision` on (inclusive), gapless or with `resync`; reconnects
        by itself; also yields empty batches (progress) so that a silent stream can be told from a dead one.
        `from_revision` is at least 1 and may be in the future.
        """
        ...

    async def grant_lease(self, ttl: int) -> int:
        """A lease of `ttl` seconds; keys put under it vanish when it ends."""
        ...

    async def keep_alive(self, lease: int) -> bool:
        """Renew once for its whole time; False when the lease has ended."""
        ...

    async def revoke_lease(self, lease: int) -> None:
        """End it and delete its keys. Idempotent: an ended lease is no error."""
        ...

    async def check(self) -> None:
        """Raise StoreUnavailableError unless a linearizable read succeeds within a second or two."""
        ...

    async def close(self) -> None: ...


class ObjectInfo(Struct, frozen=True, gc=False):
    name: str
    size: int
    etag: str | None = None


@dataclass(slots=True)
class ObjectStream:
    """Bytes of an object (or a range of it) as they arrive."""

    size: int  # of the whole object
    chunks: AsyncIterator[bytes]


class ObjectStore(Protocol):
    """Names are keys below the pool's bucket and prefix: segments of [A-Za-z0-9_.:-] with `/` between them.
    Objects are written whole, once.
    """

    async def put(self, name: str, data: bytes | memoryview | Sequence[bytes]) -> None:
        """Create. `ObjectExistsError` when the name is taken (S3: If-None-Match). After `OutcomeUnknownError`
        the object may exist. Durable when it returns. Parts are sent as one object, without joining them first.
        """
        ...

    async def put_stream(self, name: str, chunks: AsyncIterator[bytes]) -> int:
        """Create or replace from a stream of any length with bounded memory; the size. Not conditional. Nothing
        is kept when `chunks` raises.
        """
        ...

    async def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes | memoryview:
        """The object or `length` bytes of it from `offset` on, not copied once more. `ObjectNotFoundError`; `RangeError` when the
        object is shorter than asked, or when a rest from an offset above 0 would be empty.
        """
        ...

    async def get_stream(self, name: str, *, offset: int = 0, length: int | None = None) -> ObjectStream:
        """As `get`, with the bytes as they come: bounded memory, and no limit on how long the reader takes."""
        ...

    async def head(self, name: str) -> ObjectInfo:
        """`ObjectNotFoundError` when there is none."""
        ...

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        """All objects whose name starts with `prefix` (empty, or with `/` at its end), in pages.

        In byte order, and `start_after` by it, as long as no segment of a name is the beginning of another one
        beside it: SeaweedFS lists `a/x` before `a-b`.
        """
        ...

    async def delete(self, names: Sequence[str]) -> None:
        """Idempotent: an absent name is no error."""
        ...

    async def check(self) -> None:
        """Raise StoreUnavailableError unless the bucket answers within a second or two."""
        ...

    async def close(self) -> None: ...


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that start with `prefix` (which must not be all 0xFF)."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        raise ValueError("a prefix of only 0xFF has no end")
    return stripped[:-1] + bytes([stripped[-1] + 1])


def check_range(size: int, offset: int, length: int | None) -> None:
    """Raise `RangeError` when an object of `size` bytes does not hold the range (`ObjectStore.get`)."""
    holds = offset + length <= size if length is not None else offset < size or offset == 0
    if not holds:
        raise RangeError(f"The object has {size} bytes; the range ends behind them.")
