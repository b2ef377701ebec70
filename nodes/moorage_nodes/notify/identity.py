"""Which realm a notifier's etcd belongs to: written once, by whichever server comes first; a server of another realm
does not start (DESIGN.md, Custom resources).
"""

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.notify import keys
from moorage_nodes.notify.keys import RealmRecord
from moorage_nodes.realm import WrongRealmError
from moorage_nodes.stores.contracts import MetadataStore, Put, Txn, absent


async def open_realm(store: MetadataStore, realm_id: str) -> None:
    """`WrongRealmError` when the queues are another realm's. Idempotent."""
    mine = Put(keys.REALM, keys.encode(RealmRecord(1, realm_id)))
    await store.transact(Txn((absent(keys.REALM),), (mine,)))
    kv = await store.get(keys.REALM)
    if kv is None:
        raise StoreUnavailableError("The notifier's realm could not be written.")
    found = keys.decode(RealmRecord, kv.value).realm_id
    if found != realm_id:
        raise WrongRealmError(
            f"This etcd holds the queues of the realm {found}, but the auth servers are of the realm {realm_id}: "
            "give this notifier an etcd (or a prefix in it) of its own, or the auth servers that it belongs to."
        )
