"""The auth server: users, logins, tokens. State is in the realm's auth etcd alone."""

from pathlib import Path
from typing import Any

from moorage.core.errors import InvalidFieldError
from moorage_nodes.auth.census import Census
from moorage_nodes.auth.login import Login
from moorage_nodes.auth.passwords import Passwords
from moorage_nodes.auth.placement import plan_placement
from moorage_nodes.auth.routes import AuthContext, internal, public
from moorage_nodes.auth.throttle import Throttle
from moorage_nodes.auth.users import UserDirectory, open_realm
from moorage_nodes.livefile import LiveFile
from moorage_nodes.metadata_store import open_over_etcd
from moorage_nodes.server import Server, Shared
from moorage_nodes.settings import Settings
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.tokens import parse_admin_token


async def open_server(settings: Settings, shared: Shared) -> Server[AuthContext]:
    """InvalidFieldError when the settings lack `etcd` or `auth`, or the admin token file is bad;
    StoreUnavailableError when etcd cannot be reached.
    """
    return await open_over_etcd(
        "An auth server", settings, shared, lambda store: open_on(store, settings, shared)
    )


async def open_on(store: MetadataStore, settings: Settings, shared: Shared) -> Server[AuthContext]:
    """The server over a store that is open; it closes the store."""
    auth = settings.auth
    if auth is None:
        raise InvalidFieldError("An auth server needs `auth` in its settings.", field="settings.auth")
    admin = LiveFile(Path(auth.admin_token_file), parse_admin_token)
    shared.verifier.replace_admin_digest(admin.value)
    admin.subscribe(shared.verifier.replace_admin_digest)
    shared.follow(admin)
    realm_id = await open_realm(store)
    passwords = Passwords()
    users = UserDirectory(
        store,
        passwords,
        place=lambda: plan_placement(auth.clusters, shared.rng),
        clock=shared.clock,
    )
    throttle = Throttle(store, limit=auth.throttle_failures, window=auth.throttle_window, clock=shared.clock)
    login = Login(
        store,
        users,
        passwords,
        throttle,
        signer=shared.signer,
        verifier=shared.verifier,
        token_ttl=auth.token_ttl,
        refresh_ttl=auth.refresh_ttl,
        clock=shared.clock,
    )

    census = Census(users)

    async def status() -> dict[str, Any]:
        counted = await census.ask()
        return {
            "realm_id": realm_id,
            "clusters": [cluster.server_key for cluster in auth.clusters],
            "users": None if counted is None else {"of": counted[0], "age_seconds": round(counted[1], 3)},
        }

    async def close() -> None:
        await census.close()
        passwords.close()
        await store.close()

    return Server(
        context=AuthContext(shared, auth, users, login, realm_id),
        prefix="",
        public=public,
        internal=internal,
        checks={"etcd": store.check},
        status=status,
        close=close,
    )
