"""Moorage in a real cluster, from the image to the uninstall: what a platform team does, in that order.

MOORAGE_E2E_IMAGE names the image and MOORAGE_E2E_BASE what it is built from (`make e2e` sets both).
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 900


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
    build = ["make", "--no-print-directory", "image", f"IMAGE={name}", f"BASE={base}"]
    built = subprocess.run(build, check=False, cwd=REPOSITORY, capture_output=True, text=True)
    if built.returncode != 0:
        pytest.fail(f"`make image` failed:\n{built.stdout[-3000:]}{built.stderr[-3000:]}", pytrace=False)
    return name
