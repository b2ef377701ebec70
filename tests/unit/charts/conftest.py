"""The charts as Helm renders them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from moorage_operator.local.tools import ensure_helm

CHARTS = Path(__file__).resolve().parents[3] / "charts"

Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def helm() -> Callable[..., subprocess.CompletedProcess[str]]:
    binary = ensure_helm(print)

    def helm(*arguments: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        given = ("--values", "-") if values is not None else ()
        return subprocess.run(
            [binary, *arguments, *given],
            check=False,
            cwd=CHARTS,
            capture_output=True,
            text=True,
            input=json.dumps(values) if values is not None else None,
            timeout=100,
        )

    return helm


@pytest.fixture(scope="session")
def render(helm: Callable[..., subprocess.CompletedProcess[str]]) -> Render:
    """Every object of a release, its hooks included."""

    def render(values: dict[str, Any] | None = None, chart: str = "moorage") -> list[dict[str, Any]]:
        done = helm("template", "try", chart, "--namespace", "harbour", values=values or {})
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return render
