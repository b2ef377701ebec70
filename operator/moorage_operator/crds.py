"""CustomResourceDefinitions from the models: structural schemas, as `kubectl explain` shows them. Pure.

What pydantic writes is JSON Schema with references; the API server wants one tree without them. A field that may be
None in Python may be left out there. Defaults are written for values, not for what is empty by itself, so that stored
objects stay readable.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from moorage_operator.spec.base import API_VERSION, GROUP
from moorage_operator.spec.load import KINDS
from moorage_operator.spec.status import (
    AccessPointStatus,
    BlockPoolStatus,
    MetadataClusterStatus,
    NotifierStatus,
    Status,
)

Schema = dict[str, Any]

_DROPPED = ("title", "additionalProperties", "default", "$defs")
_FIRST = ("type", "description", "default")
_READY = {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'}
_REASON = {
    "name": "Reason",
    "type": "string",
    "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
    "priority": 1,
}
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


@dataclass(frozen=True, slots=True)
class Definition:
    """What a CRD says of a kind beside its schema. `columns`: printed before Ready, Reason and Age."""

    plural: str
    short: str
    status: type[Status]
    columns: tuple[Mapping[str, str], ...]
    scaled: bool = False


DEFINITIONS: Mapping[str, Definition] = {
    "AccessPoint": Definition(
        "accesspoints",
        "ap",
        AccessPointStatus,
        (
            {"name": "URL", "type": "string", "jsonPath": ".spec.publicURL"},
            {"name": "Exposure", "type": "string", "jsonPath": ".spec.exposure.type"},
        ),
    ),
    "MetadataCluster": Definition(
        "metadataclusters",
        "mc",
        MetadataClusterStatus,
        (
            {"name": "Key", "type": "string", "jsonPath": ".spec.serverKey"},
            {"name": "Etcd", "type": "string", "jsonPath": ".spec.etcd.type"},
        ),
    ),
    "BlockPool": Definition(
        "blockpools",
        "bp",
        BlockPoolStatus,
        (
            {"name": "Servers", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "Store", "type": "string", "jsonPath": ".spec.store.type"},
        ),
        scaled=True,
    ),
    "Notifier": Definition(
        "notifiers",
        "nf",
        NotifierStatus,
        ({"name": "Servers", "type": "integer", "jsonPath": ".spec.replicas"},),
        scaled=True,
    ),
}


def build_crds() -> dict[str, dict[str, Any]]:
    """File name → CustomResourceDefinition."""
    return {f"{GROUP}_{definition.plural}.yaml": build_crd(kind) for kind, definition in DEFINITIONS.items()}


def build_crd(kind: str) -> dict[str, Any]:
    definition = DEFINITIONS[kind]
    subresources: dict[str, Any] = {"status": {}}
    if definition.scaled:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    version = {
        "name": API_VERSION.removeprefix(f"{GROUP}/"),
        "served": True,
        "storage": True,
        "subresources": subresources,
        "additionalPrinterColumns": [*map(dict, definition.columns), _READY, _REASON, _AGE],
        "schema": {"openAPIV3Schema": build_kind_schema(kind)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{definition.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": definition.plural,
                "singular": kind.lower(),
                "shortNames": [definition.short],
                "categories": ["moorage"],
            },
            "versions": [version],
        },
    }


def build_kind_schema(kind: str) -> Schema:
    """The structural schema of a kind: its spec and status, and of the metadata what we narrow."""
    model = KINDS[kind]
    whole = model.model_json_schema()
    inlined = _Inliner(whole["$defs"])
    name = whole["$defs"]["ObjectMeta"]["properties"]["name"]
    return {
        "type": "object",
        "description": whole["description"],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": whole["properties"]["apiVersion"]["description"]},
            "kind": {"type": "string", "description": whole["properties"]["kind"]["description"]},
            "metadata": {
                "type": "object",
                "properties": {
                    "name": {key: name[key] for key in ("type", "pattern", "maxLength")},
                },
            },
            "spec": inlined.build(whole["properties"]["spec"]),
            "status": build_model_schema(DEFINITIONS[kind].status) | {"description": "The observed state."},
        },
    }


def build_model_schema(model: type[Status]) -> Schema:
    whole = model.model_json_schema()
    return _Inliner(whole.get("$defs", {})).build(whole)


@dataclass(frozen=True, slots=True)
class _Inliner:
    """References replaced by what they name; `defs` is pydantic's `$defs`."""

    defs: Mapping[str, Schema]

    def build(self, field: Schema) -> Schema:
        schema = self._resolve(field)
        default = schema.get("default")
        found = {key: copy.deepcopy(value) for key, value in schema.items() if key not in _DROPPED}
        if "const" in found:
            found["enum"] = [found.pop("const")]
        if "enum" in found and "type" not in found:
            found["type"] = "integer" if isinstance(found["enum"][0], int) else "string"
        if "properties" in found:
            found["properties"] = {name: self.build(value) for name, value in found["properties"].items()}
            if isinstance(default, dict) and (filled := _collect_defaults(found)):
                found["default"] = filled
        elif isinstance(schema.get("additionalProperties"), dict):
            found["additionalProperties"] = self.build(schema["additionalProperties"])
        elif "items" in found:
            found["items"] = self.build(found["items"])
        elif default is not None:
            found["default"] = default
        return {key: found[key] for key in (*_FIRST, *sorted(found.keys() - set(_FIRST))) if key in found}

    def _resolve(self, field: Schema) -> Schema:
        """The field with its reference, or the one member of a union with null, merged in; the field's words win."""
        if "anyOf" in field:
            (member,) = (member for member in field["anyOf"] if member.get("type") != "null")
            field = {**member, **{key: value for key, value in field.items() if key != "anyOf"}}
        if "$ref" in field:
            target = self._resolve(self.defs[field["$ref"].rpartition("/")[2]])
            field = {**target, **{key: value for key, value in field.items() if key != "$ref"}}
        return field


def _collect_defaults(schema: Schema) -> Schema:
    """An object of this schema as it is when nothing is said; the API server judges a default before filling it."""
    return {name: field["default"] for name, field in schema["properties"].items() if "default" in field}


def render_crd(crd: Mapping[str, Any]) -> str:
    """The text of a file in `crds/`."""
    text: str = yaml.safe_dump(dict(crd), sort_keys=False, width=110, allow_unicode=True)
    return f"# Generated from the models by `make crds`; changes by hand are lost.\n{text}"
