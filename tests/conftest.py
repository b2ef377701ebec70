"""Fixtures that tests of every kind share. Real servers start once for a run, when the first test asks."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from real_servers.engines import S3, Etcd, run_etcd, run_minio, run_seaweedfs
from real_servers.kubernetes import ApiServer, run_api_server

# Tests start servers while gRPC's threads run: what gRPC does in the child of a fork (restart its threads) now and then
# killed the child before it became that server. Read when gRPC is first imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# In CI the same cases are tried each time, so that what lands does not depend on luck; elsewhere new ones are, and a
# failure prints what reproduces it. How long a case takes says more of the machine than of the code.
PATIENT = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("patient", **PATIENT)
hypothesis.settings.register_profile("ci", **PATIENT, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "patient")


ON_A_CLUSTER = Path(__file__).parent / "e2e"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests on a cluster run when they are asked for by name (`make e2e`), not with all the others."""
    asked = any("e2e" in argument for argument in config.args)
    return True if collection_path == ON_A_CLUSTER and not asked else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where tests are spread over processes, those of a group stay together: each group has servers of its own."""
    if getattr(session.config.option, "loadgroup", False):
        lost = [
            item.nodeid
            for item in session.items
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid
        ]
        if lost:
            raise pytest.UsageError(
                f"pytest-xdist does not see the groups of {len(lost)} tests, such as {lost[0]}"
            )


@pytest.fixture(autouse=True)
def log_levels_of_its_own() -> Iterator[None]:
    """What a command sets for its process does not reach the tests behind it, in whichever order they come."""
    root, ours = logging.root, logging.getLogger("moorage")
    disabled, level, our_level = root.manager.disable, root.level, ours.level
    yield
    logging.disable(disabled)
    root.setLevel(level)
    ours.setLevel(our_level)


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    """A real etcd that all tests share: use a key prefix of your own, and do not stop it."""
    with run_etcd() as running:
        yield running


@pytest.fixture(scope="session")
def etcd_endpoint(etcd: Etcd) -> str:
    """`host:port` of the shared etcd."""
    return etcd.endpoint


@pytest.fixture(scope="session")
def s3_seaweedfs() -> Iterator[S3]:
    """A real SeaweedFS that all tests share: use a bucket of your own, and do not stop it."""
    with run_seaweedfs() as running:
        yield running


@pytest.fixture(scope="session")
def s3_minio() -> Iterator[S3]:
    """A real MinIO that all tests share: use a bucket of your own, and do not stop it."""
    with run_minio() as running:
        yield running


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A real kube-apiserver that all tests share: use a namespace of your own, and do not stop it."""
    with run_api_server() as running:
        yield running
