"""A server's metadata store, with certificates that are renewed while it runs."""

from pathlib import Path

from moorage_nodes.livefile import LiveFile
from moorage_nodes.server import Shared
from moorage_nodes.settings import Etcd
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.opening import open_etcd, read_tls


def open_metadata_store(settings: Etcd, shared: Shared) -> EtcdStore:
    """The etcd of the settings. OSError when a certificate file is missing; etcd itself may be down. Call it in a
    running event loop.
    """
    store = open_etcd(settings, shared.metrics.store("etcd"))
    if settings.ca_file is not None:
        # Of a mounted Secret one file is followed for all: they change together.
        followed = LiveFile(Path(settings.cert_file or settings.ca_file), lambda _: read_tls(settings))
        followed.subscribe(store.renew_tls)
        shared.follow(followed)
    return store
