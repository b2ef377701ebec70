"""Moorage in a real cluster, from the image to the uninstall: what a platform team does, in that order.

`make e2e` sets MOORAGE_E2E_IMAGE (the image that is built and run) and MOORAGE_E2E_BASE (what it is built from).
MOORAGE_E2E_ETCD_IMAGE and MOORAGE_E2E_MINIO_IMAGE stand in for the default images of etcd and MinIO where a cluster
cannot pull those; all three are brought to the nodes of a kind cluster. KUBECONFIG names a cluster that is there.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_bed.commands import run
from cluster_bed.kind import Cluster, NoClusterError, open_cluster

from moorage_operator.local.tools import ensure_helm

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 1500
NODES = Path(__file__).parent / "nodes"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What wants several nodes runs when it is asked for by name (`make e2e-nodes`)."""
    asked = any("nodes" in argument for argument in config.args)
    return True if collection_path == NODES and not asked else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS), append=False)


@pytest.fixture(scope="session")
def image() -> str:
    """The image, built from this checkout."""
    name = os.environ.get("MOORAGE_E2E_IMAGE", "moorage:dev")
    if shutil.which("docker") is None:
        pytest.fail("no `docker` on PATH: the tests on a cluster need a Docker engine", pytrace=False)
    engine = subprocess.run(["docker", "info"], check=False, capture_output=True, text=True)
    if engine.returncode != 0:
        pytest.fail(f"no Docker engine answers: {engine.stderr.strip()}", pytrace=False)
    base = os.environ.get("MOORAGE_E2E_BASE", "python:3.11-slim")
    run("make", "-C", REPOSITORY, "image", f"IMAGE={name}", f"BASE={base}", seconds=BUILD_SECONDS)
    return name


@pytest.fixture(scope="session")
def workers() -> int:
    """How many nodes a cluster that is made has beside the first."""
    return 0


@pytest.fixture(scope="session")
def cluster(image: str, workers: int) -> Iterator[Cluster]:
    """With the image on its nodes."""
    try:
        with open_cluster(workers) as opened:
            others = [os.environ.get(f"MOORAGE_E2E_{part}_IMAGE") for part in ("ETCD", "MINIO")]
            opened.load(image, *filter(None, others))
            yield opened
    except NoClusterError as error:
        pytest.fail(f"no cluster to test on: {error}", pytrace=False)


@pytest.fixture(scope="session")
def helm_binary() -> Path:
    return ensure_helm(print)
