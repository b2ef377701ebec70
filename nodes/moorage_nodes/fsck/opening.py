"""What fsck and scrub open: the cluster's etcd, and its pools through their block servers."""

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from moorage.core.errors import InvalidFieldError, StoreUnavailableError
from moorage_nodes.fsck.pools import BlockServers, Pool
from moorage_nodes.metadata import keys
from moorage_nodes.metrics import Metrics
from moorage_nodes.peers import PeerDirectory
from moorage_nodes.settings import CheckSettings
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.stores.opening import open_etcd
from moorage_nodes.tokens import Signer

ISSUER = "check"


@dataclass(frozen=True, slots=True)
class Checked:
    """A cluster that is open. `incarnation` is what it was when it was opened."""

    store: MetadataStore
    pools: Mapping[str, Pool]
    incarnation: bytes


@contextlib.asynccontextmanager
async def open_cluster(settings: CheckSettings) -> AsyncIterator[Checked]:
    """Closed at the end of the block. OSError and InvalidFieldError for bad files, StoreUnavailableError."""
    if not settings.peers.block:
        raise InvalidFieldError("The settings name no block servers.", field="settings.peers.block")
    metrics = Metrics()
    signer = _open_signer(settings)
    peers = PeerDirectory(settings.peers, signer, metrics)
    store = open_etcd(settings.etcd, metrics.store("etcd"))
    try:
        kv = await store.get(keys.INCARNATION)
        if kv is None:
            raise StoreUnavailableError("This etcd has no metadata cluster under the prefix of the settings.")
        pools = {name: BlockServers(peers.checked(name)) for name in settings.peers.block}
        yield Checked(store, pools, kv.value)
    finally:
        peers.close()
        await store.close()


def _open_signer(settings: CheckSettings) -> Signer:
    return Signer(Path(settings.signing_key_file).read_bytes(), ISSUER, time.time)
