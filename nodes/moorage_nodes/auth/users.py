"""The user directory in etcd: who exists, where they live, and the life of each.

A user is two keys, the record by name and the index by id, written and removed in one transaction; every change
compares the record it was computed from. So a server killed anywhere leaves either the old state or the new one.
"""

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from moorage.core.errors import InvalidFieldError, NotFoundError, StoreUnavailableError, UserExistsError
from moorage_nodes.auth import keys
from moorage_nodes.auth.keys import RealmRecord, UserIdRecord, UserRecord
from moorage_nodes.auth.passwords import Passwords, parse_password
from moorage_nodes.stores.contracts import (
    Delete,
    KeyValue,
    MetadataStore,
    Op,
    Put,
    Txn,
    absent,
    unchanged,
)

MAX_CONFLICTS = 16  # changes of one user that were faster than ours, in a row
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 20  # 100 bits


@dataclass(frozen=True, slots=True)
class User:
    """A user as read: `revision` is the record's mod revision, for the compare of a change."""

    username: str
    record: UserRecord
    revision: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What an administrator asks a user to be; None: as it is, or as is usual."""

    password: str | None = None
    server_key: str | None = None
    disabled: bool | None = None


def new_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def parse_user(kv: KeyValue) -> User:
    return User(keys.parse_user_key(kv.key), keys.decode(UserRecord, kv.value), kv.mod_revision)


class UserDirectory:
    """`place` chooses the cluster of a new user; `clock` is Unix seconds."""

    def __init__(
        self,
        store: MetadataStore,
        passwords: Passwords,
        *,
        place: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._place = place
        self._clock = clock

    async def find(self, username: str) -> User | None:
        kv = await self._store.get(keys.user(username))
        return parse_user(kv) if kv is not None else None

    async def get(self, username: str) -> User:
        """NotFoundError when there is no such user."""
        user = await self.find(username)
        if user is None:
            raise NotFoundError(f"There is no user `{username}`; if you have just deleted it, that is done.")
        return user

    async def find_by_id(self, user_id: str) -> User | None:
        """Two reads; a user removed and made anew in between is found as None, not as the namesake."""
        index = await self._store.get(keys.user_id(user_id))
        if index is None:
            return None
        user = await self.find(keys.decode(UserIdRecord, index.value).username)
        return user if user is not None and user.record.user_id == user_id else None

    async def list(self, after: str | None, limit: int) -> tuple[list[User], bool]:
        """Up to `limit` users behind the name `after` in byte order, and whether there are more."""
        start, end = keys.users_range(after)
        page, _ = await self._store.range(start, end, limit=limit)
        return [parse_user(kv) for kv in page.kvs], page.more

    async def put(self, username: str, wish: Wish) -> User:
        """Make the user, or bring an existing one to the wish; the same wish again changes nothing.

        InvalidFieldError: a new user without a password, or with one against the rules. UserExistsError: the user
        is there with another password or on another cluster (neither is changed by this call). A change of
        `disabled` ends the user's tokens.
        """
        for _ in range(MAX_CONFLICTS):
            user = await self.find(username)
            if user is None:
                made = await self._create(username, wish)
            else:
                await self._check_same(user, wish)
                made = await self._disable(user, wish.disabled)
            if made is not None:
                return made
        raise _contended(username)

    async def set_password(self, username: str, password: str) -> User:
        """A new password, which ends the user's tokens; the one that is set already changes nothing."""
        parse_password(password)
        for _ in range(MAX_CONFLICTS):
            user = await self.get(username)
            if await self._passwords.verify(user.record.password_hash, password):
                return user
            changed = msgspec.structs.replace(
                user.record,
                password_hash=await self._passwords.hash(password),
                generation=user.record.generation + 1,
            )
            replaced = await self._replace(user, changed)
            if replaced is not None:
                return replaced
        raise _contended(username)

    async def remove(self, username: str) -> User:
        """Remove the user and answer who it was; tokens end within a minute. What the user stored stays where it
        is, under the user's id, for an operator to keep or to remove. NotFoundError when there is none: also the
        answer to a retry of a removal that was carried out.
        """
        for _ in range(MAX_CONFLICTS):
            user = await self.get(username)
            index = keys.user_id(user.record.user_id)
            result = await self._store.transact(
                Txn(
                    compares=(unchanged(keys.user(username), user.revision),),
                    then=(Delete(keys.user(username)), Delete(index)),
                )
            )
            if result.succeeded:
                return user
        raise _contended(username)

    async def _create(self, username: str, wish: Wish) -> User | None:
        """None when somebody else made the user meanwhile."""
        if wish.password is None:
            raise InvalidFieldError("`password` is required for a new user.", field="password")
        record = UserRecord(
            schema=keys.SCHEMA[UserRecord],
            user_id=new_id("u"),
            password_hash=await self._passwords.hash(parse_password(wish.password)),
            generation=1,
            server_key=wish.server_key or self._place(),
            disabled=bool(wish.disabled),
            created=int(self._clock() * 1000),
        )
        by_name, by_id = keys.user(username), keys.user_id(record.user_id)
        index = UserIdRecord(keys.SCHEMA[UserIdRecord], username)
        writes: tuple[Op, ...] = (Put(by_name, keys.encode(record)), Put(by_id, keys.encode(index)))
        result = await self._store.transact(Txn((absent(by_name), absent(by_id)), writes))
        return User(username, record, result.revision) if result.succeeded else None

    async def _check_same(self, user: User, wish: Wish) -> None:
        if wish.server_key is not None and wish.server_key != user.record.server_key:
            raise UserExistsError(f"User `{user.username}` lives on another cluster and stays there.")
        if wish.password is not None and not await self._passwords.verify(
            user.record.password_hash, wish.password
        ):
            raise UserExistsError(
                f"User `{user.username}` exists with another password; "
                f"POST /auth/users/{user.username}/password changes it."
            )

    async def _disable(self, user: User, disabled: bool | None) -> User | None:
        if disabled is None or disabled == user.record.disabled:
            return user
        changed = msgspec.structs.replace(
            user.record, disabled=disabled, generation=user.record.generation + 1
        )
        return await self._replace(user, changed)

    async def _replace(self, user: User, record: UserRecord) -> User | None:
        """None when the user was changed meanwhile."""
        key = keys.user(user.username)
        txn = Txn((unchanged(key, user.revision),), (Put(key, keys.encode(record)),))
        result = await self._store.transact(txn)
        return (
            dataclasses.replace(user, record=record, revision=result.revision) if result.succeeded else None
        )


async def open_realm(store: MetadataStore) -> str:
    """The realm's id: made by the first server that asks, the same for all ever after. One compare-and-swap."""
    mine = RealmRecord(keys.SCHEMA[RealmRecord], new_id("r"))
    result = await store.transact(Txn((absent(keys.REALM),), (Put(keys.REALM, keys.encode(mine)),)))
    if result.succeeded:
        return mine.realm_id
    kv = await store.get(keys.REALM)
    if kv is None:
        raise StoreUnavailableError("The realm's id was there and is gone.")
    return keys.decode(RealmRecord, kv.value).realm_id


def _contended(username: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"User `{username}` is being changed by others; try again.")
