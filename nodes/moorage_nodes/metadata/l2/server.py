"""The L2 server: one cluster's manifests, to be read. Commits are written by L1 (DESIGN.md, Parts)."""

from typing import Any

from moorage.core.errors import InvalidFieldError
from moorage.core.routing import l2_prefix
from moorage_nodes.metadata.cluster import open_identity
from moorage_nodes.metadata.l2.contents import Contents
from moorage_nodes.metadata.l2.listing import Listing
from moorage_nodes.metadata.l2.routes import L2, internal, public
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata_store import open_over_etcd
from moorage_nodes.realm import fetch_realm
from moorage_nodes.server import Server, Shared
from moorage_nodes.settings import Settings
from moorage_nodes.stores.contracts import MetadataStore, Txn, TxnResult


class _NoWrites:
    """Where the namespace engine would send changes."""

    async def submit(self, txn: Txn) -> TxnResult:  # noqa: ARG002 the signature is the engine's
        raise AssertionError("L2 changes nothing")


async def open_server(settings: Settings, shared: Shared) -> Server[L2]:
    """InvalidFieldError when the settings lack `etcd` or `cluster`; StoreUnavailableError when etcd or the auth
    servers cannot be reached; WrongRealmError and FormatError when this server must not run on that etcd.
    """

    async def over(store: MetadataStore) -> Server[L2]:
        realm_id = await fetch_realm(shared.peers.auth())
        return await open_on(store, realm_id, settings, shared)

    return await open_over_etcd("An L2 server", settings, shared, over)


async def open_on(store: MetadataStore, realm_id: str, settings: Settings, shared: Shared) -> Server[L2]:
    """The server over a store that is open; it closes the store."""
    cluster = settings.cluster
    if cluster is None:
        raise InvalidFieldError("An L2 server needs `cluster` in its settings.", field="settings.cluster")
    identity = await open_identity(store, realm_id, shared.rng, writes=False)
    namespaces = Namespaces(
        store,
        _NoWrites(),
        incarnation=identity.incarnation.encode(),
        clock=shared.clock,
        rng=shared.rng,
    )
    contents = Contents(store, namespaces)

    async def status() -> dict[str, Any]:
        return {"realm_id": identity.realm_id, "incarnation": identity.incarnation}

    return Server(
        context=L2(
            server_key=cluster.server_key,
            incarnation=identity.incarnation,
            contents=contents,
            listing=Listing(store, contents),
            routing=shared.routing,
            signer=shared.signer,
        ),
        prefix=l2_prefix(cluster.server_key),
        public=public,
        internal=internal,
        checks={"etcd": store.check},
        status=status,
        close=store.close,
    )
