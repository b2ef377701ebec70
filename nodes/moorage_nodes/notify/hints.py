"""Change hints, from one process to the clients of all: through etcd, as many as come together in one transaction."""

from collections.abc import Sequence

from moorage_nodes.notify import keys
from moorage_nodes.notify.keys import Hint
from moorage_nodes.peer_api import Change
from moorage_nodes.stores.contracts import MetadataStore, Put, Txn

PUT_TOGETHER = 100  # etcd takes 128 operations at one level


async def put_hints(store: MetadataStore, changes: Sequence[Change]) -> None:
    """The newest cursor of each namespace. A hint that is lost harms nobody: clients also ask now and then."""
    newest = {change.namespace: change.cursor for change in changes}
    puts = [Put(keys.hint(namespace), keys.encode(Hint(1, cursor))) for namespace, cursor in newest.items()]
    for start in range(0, len(puts), PUT_TOGETHER):
        await store.transact(Txn(then=tuple(puts[start : start + PUT_TOGETHER])))
