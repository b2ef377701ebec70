"""Manifests into a validated `Realm`: read, check each against its model, resolve the references. Pure.

Every error of every document is found in one go, so that a person corrects a file once.
"""

import difflib
import json
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from moorage_operator.spec.accesspoint import AccessPoint
from moorage_operator.spec.base import API_VERSION, to_field_name
from moorage_operator.spec.blockpool import BlockPool
from moorage_operator.spec.documents import Document, read_documents
from moorage_operator.spec.metadatacluster import MetadataCluster
from moorage_operator.spec.notifier import Notifier
from moorage_operator.spec.problems import FieldPath, ManifestError, Problem
from moorage_operator.spec.realm import Identity, Loaded, Manifest, Realm, resolve_realm

KINDS: dict[str, type[Manifest]] = {
    "AccessPoint": AccessPoint,
    "MetadataCluster": MetadataCluster,
    "BlockPool": BlockPool,
    "Notifier": Notifier,
}


def parse_realm(sources: Iterable[tuple[str, str]]) -> Realm:
    """The one realm that the files (name, text) describe. ManifestError with everything that is wrong."""
    manifests: list[Loaded] = []
    broken: set[Identity] = set()
    problems: list[Problem] = []
    places: dict[str, int] = {}
    holes: list[str] = []
    for file, text in sources:
        places.setdefault(file, len(places))
        documents, unreadable = read_documents(file, text)
        problems += unreadable
        for document in documents:
            manifest, wrong = parse_manifest(document)
            problems += wrong
            if manifest is not None:
                manifests.append(Loaded(manifest, document))
            else:
                broken |= _identity_of(document.data)
        if unreadable:
            holes.append(file)
    # References into a file with unreadable documents cannot be told from missing ones.
    realm, unresolved = (None, []) if holes else resolve_realm(manifests, broken)
    problems += unresolved
    if realm is None or problems:
        raise ManifestError(sorted(problems, key=lambda one: (places.get(one.file, 0), one.line)))
    return realm


def parse_manifest(document: Document) -> tuple[Manifest | None, list[Problem]]:
    """The document as the resource it says it is, or None and every field that is wrong."""
    data = document.data

    def problem(path: FieldPath, message: str) -> Problem:
        return Problem(document.file, document.line(path), _title(document), path, message)

    if not isinstance(data, dict):
        return None, [problem((), f"expected a mapping with apiVersion and kind, got {_shown(data)}")]
    model = KINDS.get(data["kind"]) if isinstance(data.get("kind"), str) else None
    wrong = []
    if data.get("apiVersion") != API_VERSION:
        wrong.append(
            problem(("apiVersion",), f"expected {API_VERSION}, got {_shown(data.get('apiVersion'))}")
        )
    if model is None:
        wrong.append(problem(("kind",), f"expected {_listed(KINDS)}, got {_shown(data.get('kind'))}"))
        return None, wrong
    # `kubectl get -o yaml` shows a status, which is no wish.
    wished = {name: value for name, value in data.items() if name not in {"status", "apiVersion"}}
    try:
        text = json.dumps(_without_nulls({"apiVersion": API_VERSION, **wished}, model))
        manifest = model.model_validate_json(text)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
                continue  # pydantic counts the valid entries; the others are reported themselves
            path, message = _explain(detail, model)
            wrong.append(problem(path, message))
        return None, wrong
    return (None if wrong else manifest), wrong


def _identity_of(data: Any) -> set[Identity]:
    """Who a broken document would have been, as far as that can be read."""
    metadata = data.get("metadata") if isinstance(data, dict) else None
    if not isinstance(metadata, dict):
        return set()
    return {(str(data.get("kind")), str(metadata.get("namespace", "default")), str(metadata.get("name")))}


def _title(document: Document) -> str:
    data = document.data
    if isinstance(data, dict) and isinstance(data.get("kind"), str):
        metadata = data.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if isinstance(name, str):
            return f"{data['kind']}/{name}"
    return f"document {document.number}"


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> tuple[FieldPath, str]:
    """Path and sentence of one of pydantic's errors, in the words of the manifest."""
    path = detail["loc"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return path, "required"
        case "extra_forbidden":
            return path, _unknown_field(str(path[-1]), _model_at(model, path[:-1]))
        case "field":
            return (*path, to_field_name(context["field"])), context["message"]
        case "twice":
            return path, context["message"]
        case "expected":
            message = f"expected {context['expected']}"
        case "literal_error":
            message = f"expected {context['expected']}"
        case "greater_than_equal":
            message = f"expected at least {context['ge']}"
        case "less_than_equal":
            message = f"expected at most {context['le']}"
        case "too_short":
            message = f"expected {context['min_length']} or more entries"
        case "too_long":
            message = f"expected {context['max_length']} entries at most"
        case "string_too_short":
            message = f"expected at least {context['min_length']} characters"
        case "string_too_long":
            message = f"expected at most {context['max_length']} characters"
        case kind:
            message = f"expected {_EXPECTED_TYPES.get(kind, detail['msg'])}"
    return path, f"{message}, got {_shown(detail['input'])}"


_EXPECTED_TYPES = {
    "bool_type": "true or false",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:76]}…"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _unknown_field(name: str, model: type[BaseModel] | None) -> str:
    known = sorted(field.alias or key for key, field in model.model_fields.items()) if model else []
    alike = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {alike[0]}?" if alike else f"expected one of {', '.join(known)}"
    return f"unknown field; {hint}"


def _model_at(model: type[BaseModel] | None, path: FieldPath) -> type[BaseModel] | None:
    """The model of the object at `path`; None where the path leaves the models."""
    for step in path:
        if model is None:
            return None
        if isinstance(step, int):
            continue
        fields = {field.alias: field for field in model.model_fields.values()}
        model = _model_of(fields[step].annotation) if step in fields else None
    return model


def _without_nulls(value: Any, model: type[BaseModel] | None) -> Any:
    """A field that is null counts as absent, as for the API server, which prunes nulls before it fills in defaults."""
    if isinstance(value, list):
        return [_without_nulls(each, model) for each in value]
    if not isinstance(value, dict) or model is None:
        return value
    models = {field.alias: _model_of(field.annotation) for field in model.model_fields.values()}
    return {
        name: _without_nulls(field, models.get(name))
        for name, field in value.items()
        if field is not None or name not in models
    }


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_of, get_args(annotation))), None)
