"""The cluster under test: the one that KUBECONFIG names, else one made with kind for this run."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster_bed.commands import CommandFailedError, Kubectl, missing, run

NAME = "moorage-e2e"
NODE_PORT = 30080
DOOR = f"http://127.0.0.1:{NODE_PORT}"
"""Where the node port is published on this machine; a cluster that is given must have it so, too."""


class NoClusterError(Exception):
    """There is no cluster to test on; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`kind_name`: the name that kind knows it by; None for a cluster of another kind."""

    kubeconfig: Path
    kind_name: str | None

    def kubectl(self, namespace: str = "default") -> Kubectl:
        return Kubectl(self.kubeconfig, namespace)

    def load(self, *images: str) -> None:
        """Bring images of the local engine to the nodes; another kind of cluster pulls them by itself."""
        if self.kind_name is not None:
            run("kind", "load", "docker-image", "--name", self.kind_name, *images, seconds=300)


@contextlib.contextmanager
def open_cluster(workers: int = 0) -> Iterator[Cluster]:
    """NoClusterError when there is none and none can be made. `workers`: nodes beside the first, if it is made."""
    given = os.environ.get("KUBECONFIG")
    needed = missing("docker", "kubectl", *(() if given else ("kind",)))
    if needed:
        raise NoClusterError(f"not on PATH: {', '.join(needed)}")
    if given:
        cluster = Cluster(Path(given), _kind_name(Path(given)))
        cluster.kubectl()("get", "--raw", "/readyz")
        yield cluster
        return
    with tempfile.TemporaryDirectory(prefix="moorage-e2e-") as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        mapping = {"hostPort": NODE_PORT, "containerPort": NODE_PORT, "listenAddress": "127.0.0.1"}
        node = {"role": "control-plane", "extraPortMappings": [mapping]}
        config = {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [node, *[{"role": "worker"}] * workers],
        }
        image = os.environ.get("KIND_NODE_IMAGE")
        create: list[str | Path] = [
            "kind",
            "create",
            "cluster",
            "--name",
            NAME,
            "--kubeconfig",
            kubeconfig,
            "--config",
            "-",
        ]
        create += ["--wait", "180s", *(["--image", image] if image else [])]
        try:
            run(*create, seconds=400, stdin=json.dumps(config))
            yield Cluster(kubeconfig, NAME)
        finally:
            with contextlib.suppress(CommandFailedError):
                run("kind", "delete", "cluster", "--name", NAME, "--kubeconfig", kubeconfig)


def _kind_name(kubeconfig: Path) -> str | None:
    context = run("kubectl", "--kubeconfig", kubeconfig, "config", "current-context").strip()
    return context.removeprefix("kind-") if context.startswith("kind-") else None
