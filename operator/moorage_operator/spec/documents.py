"""YAML text into plain data with the line of every field; duplicate keys are refused as the API server does.

Values are what JSON can say: dates stay text, keys are text. Anchors work; what they expand to is bounded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from moorage_operator.spec.problems import FieldPath, Problem

MAX_VALUES = 100_000
_PLAIN_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


class _Loader(yaml.SafeLoader):
    """The safe loader without dates, which Kubernetes' manifests do not know either."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: `data` as JSON knows it, and the line (from 1) of each field's path."""

    file: str
    number: int
    data: Any
    lines: dict[FieldPath, int]

    def line(self, path: FieldPath) -> int:
        """The line of the field, or of the nearest one around it that is written down."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _RefusedError(Exception):
    def __init__(self, path: FieldPath, line: int, message: str) -> None:
        super().__init__(message)
        self.path, self.line, self.message = path, line, message


@dataclass(slots=True)
class _Reader:
    loader: _Loader
    lines: dict[FieldPath, int] = field(default_factory=dict)
    duplicates: list[tuple[FieldPath, int]] = field(default_factory=list)
    open_nodes: set[int] = field(default_factory=set)

    def read(self, node: yaml.Node, path: FieldPath) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if len(self.lines) > MAX_VALUES:
            raise _RefusedError((), line, f"holds more than {MAX_VALUES} values")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in _PLAIN_TAGS:
            raise _RefusedError(path, line, f"expected plain data, not {node.tag}")
        if id(node) in self.open_nodes:
            raise _RefusedError(path, line, "an alias refers to what it is part of")
        self.open_nodes.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            return [self.read(item, (*path, place)) for place, item in enumerate(node.value)]
        finally:
            self.open_nodes.discard(id(node))

    def _scalar(self, node: yaml.ScalarNode, path: FieldPath) -> Any:
        value = self.loader.construct_object(node)
        if value is None or isinstance(value, str | bool | int | float):
            return value
        raise _RefusedError(path, node.start_mark.line + 1, f"expected plain data, not {node.tag}")

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise _RefusedError(path, line, "merge keys (<<) are not supported; write the fields out")
            key = self.read(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise _RefusedError(path, line, "expected text as the name of a field")
            here = (*path, key)
            if key in data:
                self.duplicates.append((here, line))
                continue
            self.lines[here] = line
            data[key] = self.read(value_node, here)
        return data


def read_documents(file: str, text: str) -> tuple[list[Document], list[Problem]]:
    """The documents of a file that could be read, empty ones left out, and what is wrong with the others."""
    documents: list[Document] = []
    problems: list[Problem] = []
    loader = _Loader(text) if _readable(text) else None
    if loader is None:
        return [], [Problem(file, 1, "", (), "holds characters that YAML does not allow")]
    try:
        for number, node in enumerate(_nodes(loader), 1):
            reader = _Reader(loader)
            name = f"document {number}"
            try:
                data = reader.read(node, ())
            except _RefusedError as error:
                problems.append(Problem(file, error.line, name, error.path, error.message))
                continue
            if data is not None:
                documents.append(Document(file, number, data, reader.lines))
            problems += [
                Problem(file, line, name, path, "is written twice") for path, line in reader.duplicates
            ]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problems.append(Problem(file, line, "", (), f"not YAML: {error.problem or error.context}"))
    except RecursionError:
        problems.append(Problem(file, 1, "", (), "nested too deeply"))
    return documents, problems


def _readable(text: str) -> bool:
    return yaml.reader.Reader.NON_PRINTABLE.search(text) is None


def _nodes(loader: _Loader) -> Iterator[yaml.Node]:
    while loader.check_node():
        node = loader.get_node()
        assert node is not None  # check_node said so
        yield node
