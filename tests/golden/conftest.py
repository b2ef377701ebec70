"""Builders' output compared with files beside the tests; `UPDATE_GOLDEN=1` writes them anew for review."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage_operator.spec.load import parse_realm
from moorage_operator.spec.realm import Realm

HERE = Path(__file__).parent


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Asserts that a text is what the file of this name holds."""

    def compare(name: str, text: str) -> None:
        path = HERE / name
        if os.environ.get("UPDATE_GOLDEN") == "1":
            path.write_text(text)
        assert text == path.read_text(), f"{name} differs; UPDATE_GOLDEN=1 writes it anew"

    return compare


@pytest.fixture
def two_clusters() -> Realm:
    """A realm with two clusters, a shared pool, one pool to read only, external stores and a second URL."""
    path = HERE / "two-clusters.yaml"
    return parse_realm([(path.name, path.read_text())])
