"""Others' own definitions of the resources that we make for them, from their Go modules: what their controllers read."""

import dataclasses
import json
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

from moorage_operator.local.build_cache import Progress, make_once
from moorage_operator.local.tools import _ensure_go, _tools_dir, build_go_environment

OLDEST_GO = (1, 26, 0)


@dataclasses.dataclass(frozen=True)
class Module:
    """`sum` is the module's line of a go.sum, `file` the path of a definition in it, `{}` standing for the plural."""

    path: str
    version: str
    sum: str
    file: str


GATEWAY_API = Module(
    "sigs.k8s.io/gateway-api",
    "v1.6.2",
    "h1:vh5YzKlbdBivEaLX61+APKLGRq4tZ7Fj4XfGkv08xB4=",
    "config/crd/standard/gateway.networking.k8s.io_{}.yaml",
)
PROMETHEUS_OPERATOR = Module(
    "github.com/prometheus-operator/prometheus-operator",
    "v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
    "example/prometheus-operator-crd/monitoring.coreos.com_{}.yaml",
)


def read_definition(module: Module, plural: str, progress: Progress) -> Any:
    """The CustomResourceDefinition of the resources with this plural; fetched once per user."""

    def make(folder: Path) -> None:
        progress(f"downloading {module.path} {module.version} (only this once)…")
        go, own_caches = _ensure_go(OLDEST_GO, progress)
        environment = build_go_environment(os.environ, own_caches) | {"GOFLAGS": "-mod=mod"}
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch, "go.mod").write_text("module scratch\n\ngo 1.26.0\n")
            said = subprocess.run(
                [go, "mod", "download", "-json", f"{module.path}@{module.version}"],
                check=True,
                cwd=scratch,
                env=environment,
                stdout=subprocess.PIPE,
                timeout=300,
            ).stdout
        found = json.loads(said)
        assert found["Sum"] == module.sum, found
        with zipfile.ZipFile(found["Zip"]) as files:
            name = f"{module.path}@{module.version}/{module.file.format(plural)}"
            (folder / "definition.yaml").write_bytes(files.read(name))

    folder = make_once(_tools_dir() / f"{plural}-{module.version}", make, progress)
    return yaml.safe_load((folder / "definition.yaml").read_text())
