"""The metadata store that a server's settings name."""

from pathlib import Path

from moorage_nodes.settings import Etcd
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.etcd_channel import Tls
from moorage_nodes.stores.observer import Observer


def open_etcd(settings: Etcd, observer: Observer) -> EtcdStore:
    """Reads the certificate files (OSError when one is missing); etcd itself may be down. Call it in a loop."""
    return EtcdStore.open(
        settings.endpoints, prefix=settings.prefix, tls=read_tls(settings), observer=observer
    )


def read_tls(settings: Etcd) -> Tls | None:
    """The certificate files as they are now; None where there is no TLS of ours. OSError when one is missing."""
    if settings.ca_file is None:
        return None
    return Tls(_read(settings.ca_file), _read(settings.cert_file), _read(settings.key_file))


def _read(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path is not None else None
