"""The quickstart's documents, to be broken in one place at a time."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from moorage_operator.spec.load import parse_realm
from moorage_operator.spec.problems import ManifestError

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart.yaml"


class Manifests:
    """Documents by kind and name; `set` and `drop` change one field, `problems` is what the reader says."""

    def __init__(self, documents: list[dict[str, Any]]) -> None:
        self.documents = documents

    def document(self, title: str) -> dict[str, Any]:
        kind, _, name = title.partition("/")
        return next(d for d in self.documents if d["kind"] == kind and d["metadata"]["name"] == name)

    def set(self, title: str, path: str, value: Any) -> "Manifests":
        parent, last = self._parent(title, path)
        parent[last] = value
        return self

    def drop(self, title: str, path: str) -> "Manifests":
        parent, last = self._parent(title, path)
        del parent[last]
        return self

    def add(self, title: str, name: str) -> dict[str, Any]:
        """A copy of a document under another name."""
        twin = copy.deepcopy(self.document(title))
        twin["metadata"]["name"] = name
        self.documents.append(twin)
        return twin

    def _parent(self, title: str, path: str) -> tuple[Any, Any]:
        at: Any = self.document(title)
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        for step in steps:
            at = at[step] if isinstance(step, int) else at.setdefault(step, {})
        return at, last

    def text(self) -> str:
        return yaml.safe_dump_all(self.documents, sort_keys=False)

    def problems(self) -> list[str]:
        """Each problem as `document: path: message`."""
        with pytest.raises(ManifestError) as caught:
            parse_realm([("m.yaml", self.text())])
        return [str(problem).split(": ", 1)[1] for problem in caught.value.problems]


@pytest.fixture
def manifests() -> Manifests:
    return Manifests(list(yaml.safe_load_all(QUICKSTART.read_text())))


@pytest.fixture
def problems_of() -> Callable[[str], list[str]]:
    """All that is wrong with a text, as printed."""

    def read(text: str) -> list[str]:
        with pytest.raises(ManifestError) as caught:
            parse_realm([("m.yaml", text)])
        return [str(problem) for problem in caught.value.problems]

    return read
