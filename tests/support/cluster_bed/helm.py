"""`helm` on the charts of this checkout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster_bed.commands import run

CHARTS = Path(__file__).resolve().parents[3] / "charts"


class Helm:
    """Releases in one namespace of one cluster."""

    def __init__(self, binary: Path, kubeconfig: Path, namespace: str) -> None:
        self._base = (binary, "--kubeconfig", kubeconfig, "--namespace", namespace)

    def install(
        self, release: str, chart: str | Path, values: Mapping[str, Any], seconds: float = 300
    ) -> str:
        """Install or upgrade, and wait until what it holds is ready and its hooks have ended.

        `chart`: the name of one of ours, or a folder.
        """
        wait = ("--wait", "--timeout", f"{int(seconds)}s", "--values", "-")
        command = ("upgrade", "--install", "--create-namespace", release, CHARTS / chart, *wait)
        return run(*self._base, *command, seconds=seconds + 30, stdin=json.dumps(dict(values)))

    def upgrade(self, release: str, chart: str, *options: str, seconds: float = 300) -> str:
        """As the documents say it: everything as it was but for what the options name."""
        wait = ("--wait", "--timeout", f"{int(seconds)}s")
        command: tuple[str | Path, ...] = (
            "upgrade",
            release,
            CHARTS / chart,
            "--reuse-values",
            *options,
            *wait,
        )
        return run(*self._base, *command, seconds=seconds + 30)

    def test(self, release: str, seconds: float = 180) -> str:
        timeout = f"{int(seconds)}s"
        return run(*self._base, "test", release, "--logs", "--timeout", timeout, seconds=seconds + 30)

    def uninstall(self, release: str, seconds: float = 120) -> str:
        wait = ("--wait", "--timeout", f"{int(seconds)}s")
        return run(*self._base, "uninstall", release, *wait, seconds=seconds + 30)
