"""The Gateway API's own definition of HTTPRoute, from its Go module: the schema that controllers are built for."""

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

MODULE, VERSION = "sigs.k8s.io/gateway-api", "v1.6.2"
SUM = "h1:vh5YzKlbdBivEaLX61+APKLGRq4tZ7Fj4XfGkv08xB4="
FILE = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"
OLDEST_GO = (1, 26, 0)


def read_http_route_definition(progress: Progress) -> Any:
    """The CustomResourceDefinition; fetched once per user."""

    def make(folder: Path) -> None:
        progress(f"downloading {MODULE} {VERSION} (only this once)…")
        go, own_caches = _ensure_go(OLDEST_GO, progress)
        environment = build_go_environment(os.environ, own_caches) | {"GOFLAGS": "-mod=mod"}
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch, "go.mod").write_text("module scratch\n\ngo 1.26.0\n")
            said = subprocess.run(
                [go, "mod", "download", "-json", f"{MODULE}@{VERSION}"],
                check=True,
                cwd=scratch,
                env=environment,
                stdout=subprocess.PIPE,
                timeout=300,
            ).stdout
        found = json.loads(said)
        assert found["Sum"] == SUM, found
        with zipfile.ZipFile(found["Zip"]) as module:
            (folder / "httproutes.yaml").write_bytes(module.read(f"{MODULE}@{VERSION}/{FILE}"))

    folder = make_once(_tools_dir() / f"gateway-api-{VERSION}", make, progress)
    return yaml.safe_load((folder / "httproutes.yaml").read_text())
