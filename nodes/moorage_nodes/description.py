"""What a server says of its routes: an OpenAPI document, made by FastAPI from the same declarations.

FastAPI and pydantic take 15 MiB of a process, and few are ever asked: they are loaded when the first question comes
(docs/adr/0003-direct-dispatch.md).
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from moorage_nodes.web import Endpoint, Mount


async def _described_only(_request: Request) -> Response:
    raise RuntimeError("requests do not come this way")


def build_description(mounts: Sequence[Mount[Any]], title: str) -> dict[str, Any]:
    """The routes of one plane as an OpenAPI document. The first call loads FastAPI, which takes a second."""
    from fastapi import FastAPI  # noqa: PLC0415 see above

    app = FastAPI(title=title, openapi_url=None, docs_url=None, redoc_url=None)
    endpoints = [endpoint for mount in mounts for endpoint in mount.routes]
    types = [kind for e in endpoints for kind in (e.body, e.answer) if kind is not None]
    schemas, definitions = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    components = dict(zip(types, schemas, strict=True))
    for mount in mounts:
        for endpoint in mount.routes:
            app.add_api_route(
                mount.prefix + endpoint.path,
                _described_only,
                methods=[endpoint.method],
                name=endpoint.handler.__name__,
                summary=(endpoint.handler.__doc__ or "").strip().split("\n")[0] or None,
                response_model=None,
                openapi_extra=_openapi_of(endpoint, components),
            )
    document = app.openapi()
    parts = document.setdefault("components", {})
    parts.setdefault("schemas", {}).update(definitions)
    parts["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    return document


def _openapi_of(endpoint: Endpoint[Any], components: dict[type, dict[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {"security": [] if endpoint.allow.public else [{"bearer": []}]}
    if endpoint.body is not None:
        schema = components[endpoint.body]
        described["requestBody"] = {
            "required": not endpoint.body_optional,
            "content": {"application/json": {"schema": schema}},
        }
    elif endpoint.raw:
        described["requestBody"] = {
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        }
    if endpoint.answer is not None:
        schema = components[endpoint.answer]
        described["responses"] = {
            "200": {"description": "Done", "content": {"application/json": {"schema": schema}}}
        }
    return described
