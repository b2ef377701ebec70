"""`docs/resources.md` from the same schemas as the CRDs: every field with its type, default and sentence. Pure."""

import json
from collections.abc import Iterator
from typing import Any

from moorage_operator.crds import DEFINITIONS, Schema, build_kind_schema
from moorage_operator.spec.base import API_VERSION

_INTRODUCTION = f"""\
# Resources

Generated from the models by `make crds`. Group and version: `{API_VERSION}`; all kinds are namespaced and in the
category `moorage` (`kubectl get moorage`). References name a resource of the same namespace. A field without a default
may be left out unless it is *required*. `kubectl explain accesspoint.spec --recursive` shows the same.

Durations are written as `90s`, `15m`, `1h30m` or `30d`; quantities as Kubernetes writes them (`500m`, `8Gi`).
"""

_TEMPLATES = """\
## Templates

Every running part has a `template` at its own path. Parts whose image is named elsewhere (a managed store) have no
`image` in it.
"""


def build_reference() -> str:
    parts = [_INTRODUCTION]
    for kind, definition in DEFINITIONS.items():
        schema = build_kind_schema(kind)
        parts.append(f"## {kind}\n\n{schema['description']} Short name: `{definition.short}`.\n")
        for name in ("spec", "status"):
            rows = "\n".join(_rows(schema["properties"][name], name))
            parts.append(
                f"### {kind} {name}\n\n| field | type | default | what |\n|---|---|---|---|\n{rows}\n"
            )
        if rules := sorted(set(_messages(schema["properties"]["spec"], "spec"))):
            listed = "\n".join(f"- {path}: {message}." for path, message in rules)
            parts.append(f"Refused by the API server besides:\n\n{listed}\n")
    template = build_kind_schema("BlockPool")["properties"]["spec"]["properties"]["template"]
    rows = "\n".join(_rows(template, "template"))
    parts.append(f"{_TEMPLATES}\n| field | type | default | what |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def _rows(schema: Schema, path: str) -> Iterator[str]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        default = "*required*" if name in required else _default(field)
        words = field["description"].replace("|", "\\|") + (" See Templates." if name == "template" else "")
        yield f"| `{here}` | {_type(field)} | {default} | {words} |"
        if name != "template":
            yield from _rows(field.get("items", field), here + ("[]" if "items" in field else ""))


def _type(field: Schema) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return "map of text"
    bounds = [f"{field[key]}" for key in ("minimum", "maximum") if key in field]
    word = "text" if field["type"] == "string" else str(field["type"])
    return f"{word} {' to '.join(bounds)}" if len(bounds) == 2 else word


def _default(field: Schema) -> str:
    default: Any = field.get("default")
    return "" if default is None or isinstance(default, dict) else f"`{json.dumps(default)}`"


def _messages(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", []):
        yield f"`{path}`", rule["message"]
    for name, field in schema.get("properties", {}).items():
        yield from _messages(field, f"{path}.{name}" if name != "template" else "template")
    if "items" in schema:
        yield from _messages(schema["items"], f"{path}[]")
