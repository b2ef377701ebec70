"""Black-box tests over real HTTP through NGINX: what they expect stands in PROTOCOL.md.

`store` is shared by all of them, so each makes users of its own and breaks nothing; who stops or kills servers
takes `frail_store`. With MOORAGE_URL and MOORAGE_ADMIN_TOKEN_FILE set, `store` is the one at that address, and what
needs the processes or files of a store of this machine (`local_store`, `frail_store`, `folder`) is skipped.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from black_box.http_client import server_errors
from black_box.plain import PlainClient
from black_box.store import GivenStore, RunningStore, Store
from black_box.user import User, new_user

from moorage_operator.local.tools import ensure_minio

GIVEN_URL = os.environ.get("MOORAGE_URL", "")

STARTS_SERVERS = 600
"""Seconds for a test whose fixtures may have to build MinIO or etcd first."""


GROUPS = {
    "minio": {"minio_store", "minio"},
    "frail": {"frail_store"},
    "protocol": {"store", "local_store", "seaweedfs"},
}
"""Tests of one process, by the store that they need: as a fixture, or named by a parameter."""


def group_of(item: pytest.Item) -> str:
    """A module with a store of its own is one by itself."""
    call = getattr(item, "callspec", None)
    needs = {*getattr(item, "fixturenames", ()), *map(str, call.params.values() if call else ())}
    return next((group for group, stores in GROUPS.items() if needs & stores), item.path.stem)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One store of each kind, also where tests are spread over processes; what reads the logs of a run comes last."""
    here = Path(__file__).parent
    ours = [item for item in items if item.path.parent == here]
    for item in ours:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
        item.add_marker(pytest.mark.timeout(STARTS_SERVERS), append=False)
    items.sort(key=lambda item: item.path == here / "test_secrets.py")


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """For the data of local stores; a short path, since sockets have to fit in 107 bytes."""
    if GIVEN_URL:
        pytest.skip(f"needs a store of this machine; the one under test is {GIVEN_URL}")
    path = Path(tempfile.mkdtemp(prefix="moorage-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if not GIVEN_URL:
        yield request.getfixturevalue("local_store")
        return
    given = GivenStore(GIVEN_URL, Path(os.environ["MOORAGE_ADMIN_TOKEN_FILE"]))
    yield given
    given.http.close()


@pytest.fixture(scope="session")
def local_store(folder: Path) -> Iterator[RunningStore]:
    """The shared store, for what asks its servers past NGINX or looks into its files."""
    running = RunningStore(folder / "shared")
    running.start()
    yield running
    running.end()


@pytest.fixture(scope="session")
def minio_store(folder: Path) -> Iterator[RunningStore]:
    running = RunningStore(folder / "minio", minio=ensure_minio(print))
    running.start()
    yield running
    running.end()


@pytest.fixture(scope="session")
def frail_store(folder: Path) -> Iterator[RunningStore]:
    """One to stop, kill and start again."""
    running = RunningStore(folder / "frail")
    running.start()
    yield running
    running.end()


@pytest.fixture
def user(store: Store) -> User:
    return new_user(store)


@pytest.fixture
def stranger(store: Store) -> User:
    return new_user(store, "stranger")


@pytest.fixture
def plain(store: Store) -> Iterator[Callable[..., PlainClient]]:
    """Opens plain clients: each for a new user unless one is given."""
    opened: list[PlainClient] = []

    def open_client(user: User | None = None, **options: str) -> PlainClient:
        owner = user or new_user(store, "plain")
        opened.append(PlainClient(owner.store.url, owner.username, owner.password, **options))
        return opened[-1]

    yield open_client
    for client in opened:
        client.close()


def logged_reasons() -> list[str]:
    """What the servers' logs say under the request ids of the errors."""
    ids = {found for error in server_errors for found in re.findall(r'"request_id":"([^"]+)"', error)}
    folders = [path for path in Path(tempfile.gettempdir()).glob("moorage-*/*/logs") if path.is_dir()]
    return [
        line
        for log in (path for folder in folders for path in folder.rglob("*") if path.is_file())
        for line in log.read_text(errors="replace").splitlines()
        if any(request_id in line for request_id in ids)
    ]


@pytest.fixture(autouse=True)
def no_server_error() -> Iterator[None]:
    """Whatever a test does, no server may answer 500."""
    server_errors.clear()
    yield
    assert not server_errors, "\n".join([*server_errors, *logged_reasons()])
