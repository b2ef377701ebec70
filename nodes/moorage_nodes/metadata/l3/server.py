"""The L3 server: one cluster's chunk registry."""

from typing import Any

from moorage.core.errors import InvalidFieldError
from moorage.core.routing import l3_prefix
from moorage_nodes.metadata.cluster import open_identity
from moorage_nodes.metadata.l3.pools import read_pools_left
from moorage_nodes.metadata.l3.registry import Registry
from moorage_nodes.metadata.l3.routes import L3, internal, public
from moorage_nodes.metadata_store import open_over_etcd
from moorage_nodes.realm import fetch_realm
from moorage_nodes.server import Server, Shared
from moorage_nodes.settings import Settings
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.stores.group import TransactionGroup
from moorage_nodes.stores.observer import Observer


async def open_server(settings: Settings, shared: Shared) -> Server[L3]:
    """InvalidFieldError when the settings lack `etcd` or `cluster`; StoreUnavailableError when etcd or the auth
    servers cannot be reached; WrongRealmError and FormatError when this server must not run on that etcd.
    """

    async def over(store: MetadataStore) -> Server[L3]:
        realm_id = await fetch_realm(shared.peers.auth())
        return await open_on(store, realm_id, settings, shared, shared.metrics.store("etcd"))

    return await open_over_etcd("An L3 server", settings, shared, over)


async def open_on(
    store: MetadataStore, realm_id: str, settings: Settings, shared: Shared, observer: Observer
) -> Server[L3]:
    """The server over a store that is open; it closes the store."""
    cluster = settings.cluster
    if cluster is None:
        raise InvalidFieldError("An L3 server needs `cluster` in its settings.", field="settings.cluster")
    identity = await open_identity(store, realm_id, shared.rng, writes=True)
    registry = Registry(
        store,
        TransactionGroup(store, observer),
        incarnation=identity.incarnation.encode(),
        clock=shared.clock,
        rng=shared.rng,
    )

    async def status() -> dict[str, Any]:
        left = await read_pools_left(store)
        return {"realm_id": identity.realm_id, "incarnation": identity.incarnation, **left}

    return Server(
        context=L3(
            server_key=cluster.server_key,
            registry=registry,
            routing=shared.routing,
            generations=shared.generations,
        ),
        prefix=l3_prefix(cluster.server_key),
        public=public,
        internal=internal,
        checks={"etcd": store.check},
        status=status,
        close=store.close,
    )
