"""The chart of the definitions: the same as `crds/`, and never deleted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

CRDS = Path(__file__).resolve().parents[3] / "crds"


def test_it_holds_every_definition_and_keeps_it(render: Callable[..., Any]):
    rendered = {each["metadata"]["name"]: each for each in render(chart="moorage-crds")}
    wished = {}
    for path in CRDS.glob("*.yaml"):
        definition = yaml.safe_load(path.read_text())
        definition["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
        wished[definition["metadata"]["name"]] = definition
    assert len(wished) == 4
    assert rendered == wished


def test_the_operators_chart_brings_them_when_it_is_told(render: Callable[..., Any]):
    def definitions(values: dict[str, Any]) -> int:
        return sum(each["kind"] == "CustomResourceDefinition" for each in render(values))

    assert definitions({}) == 0
    assert definitions({"crds": {"enabled": True}}) == 4
