"""Every key that the auth servers keep in their etcd, and the values behind them (docs/metadata-keys.md, Auth).

Values are msgpack arrays whose first element is the schema version. Fields are only ever appended, with defaults:
a reader ignores those it does not know, and refuses a record whose schema is newer than its own.
"""

import hashlib
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from moorage.core.errors import FormatError
from moorage_nodes.stores.contracts import prefix_end

REALM = b"a/realm"
_USERS = b"a/u/"

R = TypeVar("R", bound="_Record")


class _Record(Struct, array_like=True, frozen=True):
    schema: int


class UserRecord(_Record, frozen=True):
    """`generation` rises with every change that ends the user's tokens. `created` is Unix milliseconds."""

    user_id: str
    password_hash: str  # Argon2's encoded form: parameters, salt and hash
    generation: int
    server_key: str
    disabled: bool
    created: int


class UserIdRecord(_Record, frozen=True):
    username: str


class RealmRecord(_Record, frozen=True):
    realm_id: str


class ThrottleRecord(_Record, frozen=True):
    """Attempts since `first` (Unix milliseconds, for `Retry-After` only: the lease decides when they are forgotten)."""

    attempts: int
    first: int


SCHEMA: dict[type[_Record], int] = {UserRecord: 1, UserIdRecord: 1, RealmRecord: 1, ThrottleRecord: 1}


def user(username: str) -> bytes:
    return _USERS + username.encode()


def users_range(after: str | None) -> tuple[bytes, bytes]:
    """All users whose name is behind `after` in byte order; all of them for None."""
    return (_USERS if after is None else user(after) + b"\0"), prefix_end(_USERS)


def parse_user_key(key: bytes) -> str:
    return key[len(_USERS) :].decode()


def user_id(identifier: str) -> bytes:
    return b"a/i/" + identifier.encode()


def throttle(username: str) -> bytes:
    """Hashed: the name is whatever somebody typed, of any length, perhaps a password."""
    return b"a/t/" + hashlib.sha256(username.encode()).hexdigest()[:16].encode()


def encode(record: _Record) -> bytes:
    return msgspec.msgpack.encode(record)


def decode(kind: type[R], data: bytes) -> R:
    """FormatError when the record is of a newer schema than this server knows."""
    version: Any = msgspec.msgpack.decode(data, type=_Record).schema
    if version > SCHEMA[kind]:
        raise FormatError(f"A record of schema {version} was written by a newer server.")
    return msgspec.msgpack.decode(data, type=kind)
