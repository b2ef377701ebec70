"""Which cluster this is: its incarnation, its realm and the format of its data, as etcd has them.

Each is written once, by whichever server comes first, in a transaction that only ever creates; so servers may start
in any order and at once. A restore writes a new incarnation; nothing ever changes the realm.
"""

import random

import msgspec
from msgspec import Struct

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.records import FormatError
from moorage_nodes.realm import WrongRealmError
from moorage_nodes.stores.contracts import MetadataStore, Put, Txn, absent

FORMAT_VERSION = 1  # of the keys and records that this release reads and writes
_CREATION_ATTEMPTS = 4


class Format(Struct, array_like=True, frozen=True):
    """The oldest format version that a server must know to read this cluster's data, and to write it."""

    oldest_reader: int
    oldest_writer: int


class Identity(Struct, frozen=True, kw_only=True):
    """`incarnation` is new after every restore: part of cursors, of tokens, and of every transaction's compares."""

    incarnation: str
    realm_id: str


async def open_identity(store: MetadataStore, realm_id: str, rng: random.Random, *, writes: bool) -> Identity:
    """Find the cluster's identity, or give it one. `writes`: whether this server writes data.

    `WrongRealmError` and `FormatError`: this server must not run here. Idempotent; safe to run at once in many.
    """
    wanted = {
        keys.INCARNATION: rng.randbytes(16).hex().encode(),
        keys.REALM: realm_id.encode(),
        keys.FORMAT: msgspec.msgpack.encode(Format(FORMAT_VERSION, FORMAT_VERSION)),
    }
    for _ in range(_CREATION_ATTEMPTS):
        found = (await store.get_many(list(wanted))).found
        missing = [key for key in wanted if key not in found]
        if not missing:
            return _checked(
                realm_id,
                found[keys.REALM].value.decode(),
                found[keys.INCARNATION].value.decode(),
                msgspec.msgpack.decode(found[keys.FORMAT].value, type=Format),
                writes=writes,
            )
        # Whether or not we were first, what stands there now is read again.
        await store.transact(
            Txn(
                compares=tuple(absent(key) for key in missing),
                then=tuple(Put(key, wanted[key]) for key in missing),
            )
        )
    raise StoreUnavailableError("The cluster's identity could not be written.")


def _checked(realm_id: str, found_realm: str, incarnation: str, form: Format, *, writes: bool) -> Identity:
    if found_realm != realm_id:
        raise WrongRealmError(
            f"This etcd belongs to the realm {found_realm}, but the auth servers are of the realm {realm_id}: "
            "give this cluster an etcd (or a prefix in it) of its own, or the auth servers that it belongs to."
        )
    oldest = form.oldest_writer if writes else form.oldest_reader
    if oldest > FORMAT_VERSION:
        raise FormatError(
            f"The data of this cluster needs a server that knows format {oldest}; this one knows "
            f"{FORMAT_VERSION}. Upgrade this server."
        )
    return Identity(incarnation=incarnation, realm_id=realm_id)
