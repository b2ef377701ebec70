"""A server's metadata store, with certificates that are renewed while it runs."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from moorage.core.errors import InvalidFieldError
from moorage_nodes.livefile import LiveFile
from moorage_nodes.server import Server, Shared
from moorage_nodes.settings import Etcd, Settings
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.opening import open_etcd, read_tls

T = TypeVar("T")


async def open_over_etcd(
    who: str, settings: Settings, shared: Shared, open_on: Callable[[EtcdStore], Awaitable[Server[T]]]
) -> Server[T]:
    """A server over the etcd of its settings, which it closes at its end; so does a failure here. `who` is named when
    the settings lack `etcd` (`InvalidFieldError`).
    """
    if settings.etcd is None:
        raise InvalidFieldError(f"{who} needs `etcd` in its settings.", field="settings.etcd")
    store = open_metadata_store(settings.etcd, shared)
    try:
        return await open_on(store)
    except BaseException:
        await store.close()
        raise


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
