"""Running the tools of a cluster: each call has a deadline, and says what the tool said when it fails."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SECONDS = 120


class CommandFailedError(AssertionError):
    """A tool ended with an error, or did not end in time."""


def run(
    *command: str | Path,
    seconds: float = SECONDS,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    check: bool = True,
) -> str:
    """What the tool wrote on stdout. CommandFailedError with all it said."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(f"not within {seconds} s: {' '.join(words)}") from error
    if check and done.returncode != 0:
        raise CommandFailedError(f"{' '.join(words)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def missing(*tools: str) -> list[str]:
    return [tool for tool in tools if shutil.which(tool) is None]


def wait_until(condition: Callable[[], object], seconds: float, what: str, step: float = 1.0) -> None:
    """Fail with `what` unless the condition holds within the time. A condition may say no by a failed command."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
            reason = ""
        except CommandFailedError as error:
            reason = f"\n{error}"
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}{reason}")
        time.sleep(step)


class Kubectl:
    """`kubectl` on one cluster, in one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace

    def __call__(self, *arguments: str, seconds: float = SECONDS, stdin: str | None = None) -> str:
        base = ("kubectl", "--kubeconfig", self.kubeconfig, "--namespace", self.namespace)
        return run(*base, *arguments, seconds=seconds, stdin=stdin)

    def within(self, namespace: str) -> "Kubectl":
        return Kubectl(self.kubeconfig, namespace)

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--output", "json"))

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("get", *arguments)["items"]
        return found

    def apply(self, *manifests: Mapping[str, Any]) -> str:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        return self("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=text)

    def pods(self, selector: str) -> list[str]:
        """Names of the pods that run and are not on their way out."""
        return [
            pod["metadata"]["name"]
            for pod in self.items("pods", "--selector", selector)
            if "deletionTimestamp" not in pod["metadata"]
        ]
