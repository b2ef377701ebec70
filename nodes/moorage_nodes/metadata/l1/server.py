"""The L1 server: one cluster's namespaces, and the realm's `/get_servers`."""

import asyncio
from typing import Any

from moorage.core.errors import InvalidFieldError, StoreUnavailableError
from moorage.core.routing import meta_prefix
from moorage_nodes.metadata.cluster import open_identity
from moorage_nodes.metadata.l1 import (
    routes_changes,
    routes_deletion,
    routes_directories,
    routes_files,
    routes_internal,
    routes_servers,
    routes_update,
)
from moorage_nodes.metadata.l1.context import L1
from moorage_nodes.metadata.l1.deletions import Deletions, Mark
from moorage_nodes.metadata.l1.hints import Hints
from moorage_nodes.metadata.l1.notifying import Notifying
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata_store import open_over_etcd
from moorage_nodes.peer_api import DeleteChunksAnswer, DeleteChunksRequest
from moorage_nodes.realm import fetch_realm
from moorage_nodes.server import Server, Shared
from moorage_nodes.settings import Settings
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.stores.group import TransactionGroup
from moorage_nodes.stores.observer import Observer
from moorage_nodes.web import Routes

PUBLIC_ROUTES = (
    routes_directories.routes,
    routes_files.routes,
    routes_update.routes,
    routes_deletion.routes,
    routes_changes.routes,
)


async def open_server(settings: Settings, shared: Shared) -> Server[L1]:
    """InvalidFieldError when the settings lack `etcd` or `cluster`; StoreUnavailableError when etcd or the auth
    servers cannot be reached; WrongRealmError and FormatError when this server must not run on that etcd.
    """

    async def over(store: MetadataStore) -> Server[L1]:
        realm_id = await fetch_realm(shared.peers.auth())
        return await open_on(store, realm_id, settings, shared, shared.metrics.store("etcd"))

    return await open_over_etcd("An L1 server", settings, shared, over)


async def open_on(
    store: MetadataStore, realm_id: str, settings: Settings, shared: Shared, observer: Observer
) -> Server[L1]:
    """The server over a store that is open; it closes the store."""
    cluster = settings.cluster
    if cluster is None:
        raise InvalidFieldError("An L1 server needs `cluster` in its settings.", field="settings.cluster")
    identity = await open_identity(store, realm_id, shared.rng, writes=True)
    notifier = shared.peers.notify()
    hints = Hints(notifier, identity.incarnation) if notifier is not None else None
    namespaces = Namespaces(
        store,
        TransactionGroup(store, observer),
        incarnation=identity.incarnation.encode(),
        clock=shared.clock,
        rng=shared.rng,
        on_change=hints.tell if hints is not None else None,
    )

    async def status() -> dict[str, Any]:
        return {"realm_id": identity.realm_id, "incarnation": identity.incarnation}

    deletions = Deletions(
        store,
        namespaces,
        _marking(shared, cluster.server_key),
        Notifying(store, notifier, cluster.server_key) if notifier is not None else None,
    )
    scanning = asyncio.create_task(deletions.run())

    async def close() -> None:
        scanning.cancel()
        await asyncio.gather(scanning, return_exceptions=True)
        await deletions.close()
        await namespaces.close()
        if hints is not None:
            await hints.close()
        await store.close()

    return Server(
        context=L1(
            cluster=cluster,
            incarnation=identity.incarnation,
            store=store,
            namespaces=namespaces,
            deletions=deletions,
            routing=shared.routing,
            signer=shared.signer,
            verifier=shared.verifier,
            clock=shared.clock,
            rng=shared.rng,
        ),
        prefix=meta_prefix(cluster.server_key),
        public=Routes([endpoint for routes in PUBLIC_ROUTES for endpoint in routes]),
        internal=routes_internal.routes,
        unprefixed=routes_servers.routes,
        checks={"etcd": store.check},
        status=status,
        close=close,
    )


def _marking(shared: Shared, server_key: str) -> Mark:
    """Chunks are marked through a block server of any of the cluster's pools: the mark is kept by L3."""

    async def mark(namespace: str, hashes: list[str]) -> None:
        cluster = shared.routing.value.cluster(server_key)
        if cluster is None or not cluster.pools:
            raise StoreUnavailableError("The routing table has no block pool of this cluster.")
        request = DeleteChunksRequest(
            namespace=namespace, server_key=server_key, chunk_ids=hashes, deletion_mode="soft"
        )
        await shared.peers.block(cluster.pools[0]).post("/delete_chunks", request, DeleteChunksAnswer)

    return mark
