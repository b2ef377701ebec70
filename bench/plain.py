"""What Moorage's servers are compared to: FastAPI routes that do nothing, on the same uvicorn, loop and parser.

`python bench/plain.py PORT [FILE]`: any path answers an empty object; with FILE, GETs answer that file's bytes.
"""

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response


async def _nothing(path: str) -> dict[str, str]:
    return {}


def build_app(payload: bytes | None) -> FastAPI:
    app = FastAPI(openapi_url=None)

    if payload is None:
        app.add_api_route("/{path:path}", _nothing, methods=["GET", "POST", "PUT"], response_model=None)
    else:

        async def constant(path: str) -> Response:
            return Response(payload, media_type="application/json")

        app.add_api_route("/{path:path}", constant, methods=["GET"], response_model=None)
    return app


if __name__ == "__main__":
    uvicorn.run(
        build_app(Path(sys.argv[2]).read_bytes() if len(sys.argv) > 2 else None),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="error",
    )
