"""The auth servers' parts over a store in memory and over real etcd."""

import contextlib
import itertools
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from realm import Realm
from serving import Serving, serving

from moorage_nodes.auth.login import Login
from moorage_nodes.auth.passwords import Passwords
from moorage_nodes.auth.server import open_on
from moorage_nodes.auth.throttle import Throttle
from moorage_nodes.auth.users import UserDirectory
from moorage_nodes.server import open_shared
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.tokens import Verifier

NOW = 1_800_000_000.0
_numbers = itertools.count()


@pytest.fixture
def realm(tmp_path: Path) -> Realm:
    return Realm(tmp_path)


@pytest.fixture(params=["memory", "etcd"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[MetadataStore]:
    opened: MetadataStore
    if request.param == "memory":
        opened = MemoryStore()
    else:
        endpoint: str = request.getfixturevalue("etcd_endpoint")
        opened = EtcdStore.open([endpoint], prefix=f"/auth-{secrets.token_hex(4)}-{next(_numbers)}/")
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def passwords() -> Passwords:
    return Passwords()


@pytest.fixture
def users(store: MetadataStore, passwords: Passwords) -> UserDirectory:
    return UserDirectory(store, passwords, place=lambda: "c1", clock=lambda: NOW)


@pytest.fixture
def login(store: MetadataStore, users: UserDirectory, passwords: Passwords, realm: Realm) -> Login:
    return Login(
        store,
        users,
        passwords,
        Throttle(store, limit=5, window=60, clock=lambda: NOW),
        signer=realm.signer("auth", lambda: NOW),
        verifier=Verifier(realm.trust(), lambda: NOW),
        token_ttl=900,
        refresh_ttl=3600,
        clock=lambda: NOW,
    )


@pytest.fixture
async def serve(realm: Realm, etcd_endpoint: str) -> AsyncIterator[Callable[..., Awaitable[Serving]]]:
    """Starts auth servers on real sockets and one real etcd: each call is one more replica."""
    prefix = f"/auth-{secrets.token_hex(4)}/"
    started: list[Serving] = []
    async with contextlib.AsyncExitStack() as stack:

        async def start(**auth: object) -> Serving:
            section = {
                "admin_token_file": str(realm.folder / "admin-token"),
                "clusters": [{"server_key": "c1"}, {"server_key": "c2", "accept_new_users": False}],
                **auth,
            }
            settings = realm.settings("auth", auth=section)
            shared = open_shared(settings)
            shared.rng = random.Random(7)
            store = EtcdStore.open([etcd_endpoint], prefix=prefix, observer=shared.metrics.store("etcd"))
            server = await open_on(store, settings, shared)
            started.append(await stack.enter_async_context(serving(shared, server)))
            return started[-1]

        yield start
        for running in started:  # all at once; the stack then waits for each
            running.process.stop()
