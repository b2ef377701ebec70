"""Black-box tests over real HTTP through NGINX: what they expect stands in PROTOCOL.md.

`store` is shared by all of them, so each makes users of its own and breaks nothing; who stops or kills servers
takes `frail_store`.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from black_box.http_client import server_errors
from black_box.plain import PlainClient
from black_box.store import RunningStore
from black_box.user import User, new_user

from moorage_operator.local.tools import ensure_minio

STARTS_SERVERS = 600
"""Seconds for a test whose fixtures may have to build MinIO or etcd first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One store for all, also where tests are spread over processes; what reads the logs of a run comes last."""
    here = Path(__file__).parent
    ours = [item for item in items if item.path.parent == here]
    for item in ours:
        item.add_marker(pytest.mark.xdist_group("protocol"))
        item.add_marker(pytest.mark.timeout(STARTS_SERVERS), append=False)
    items.sort(key=lambda item: item.path == here / "test_secrets.py")


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A short path: sockets have to fit in 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="moorage-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def store(folder: Path) -> Iterator[RunningStore]:
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
def user(store: RunningStore) -> User:
    return new_user(store)


@pytest.fixture
def stranger(store: RunningStore) -> User:
    return new_user(store, "stranger")


@pytest.fixture
def plain(store: RunningStore) -> Iterator[Callable[..., PlainClient]]:
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
