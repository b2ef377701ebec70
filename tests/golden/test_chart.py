"""What `helm install` with no value of one's own puts into a cluster. Objects are sorted: Helm's order is its own."""

import subprocess
from pathlib import Path

import yaml

from moorage_operator.local.tools import ensure_helm

CHARTS = Path(__file__).resolve().parents[2] / "charts"


def test_the_default_release_is_the_reviewed_one(golden):
    command = [ensure_helm(print), "template", "moorage", "moorage", "--namespace", "moorage"]
    rendered = subprocess.run(command, check=True, cwd=CHARTS, capture_output=True, text=True, timeout=100)
    objects = [document for document in yaml.safe_load_all(rendered.stdout) if document]
    objects.sort(
        key=lambda each: (each["kind"], each["metadata"]["name"], each["metadata"].get("namespace", ""))
    )
    golden("chart.yaml", yaml.safe_dump_all(objects, sort_keys=False))
