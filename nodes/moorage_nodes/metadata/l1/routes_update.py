"""L1's routes for new versions of files (PROTOCOL.md, Update, and versions)."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from moorage.core.errors import InvalidFieldError, MoorageError
from moorage.core.ids import MAX_VERSION, parse_name
from moorage.core.routing import block_prefix, choose_host
from moorage.core.wire import (
    Attrs,
    BatchCommitAnswer,
    BatchCommitRequest,
    BatchUpdateAnswer,
    BatchUpdateRequest,
    CommitAnswer,
    CommitRequest,
    ManifestEntry,
    RestoreRequest,
    UpdateAnswer,
    UpdateRequest,
    VersionsAnswer,
)
from moorage_nodes.metadata.l1.batch import commit_file, commit_files
from moorage_nodes.metadata.l1.context import L1, Caller, caller_of, change, repeat_of
from moorage_nodes.metadata.l1.entries import Id, ManifestParser, parse_id_of_chunk
from moorage_nodes.metadata.l1.file_commit import FileCommit
from moorage_nodes.metadata.l1.upload_tokens import parse_upload_token, sign_upload_token
from moorage_nodes.metadata.l1.uploads import FileUpdate, begin_upload, choose_write_pool
from moorage_nodes.metadata.l1.versions import (
    MAX_PAGE_VERSIONS,
    PAGE_VERSIONS,
    plan_newest_version,
    plan_restore,
    read_versions,
)
from moorage_nodes.metadata.records import Entry
from moorage_nodes.tokens import USER
from moorage_nodes.web import Call, Routes

MANIFEST_LIMIT = 32 * 1024 * 1024  # bytes of a body that may hold long lists of chunks
PARSED_TOGETHER = 4096

routes: Routes[L1] = Routes()


@routes.post(
    "/files/{file_id}/update", allow=USER, body=UpdateRequest, answer=UpdateAnswer, limit=MANIFEST_LIMIT
)
async def update(call: Call[L1]) -> UpdateAnswer:
    """Begin an upload of a new version of a file."""
    caller, server, body = caller_of(call), call.server, call.body
    file_id = caller.node_id(call.path("file_id"), "file_id")
    begun = await begin_upload(
        server,
        caller.namespace,
        [await _parse_update(caller, file_id, body, "")],
        several_files=False,
        repeat=repeat_of(call, "update", file_id, body),
    )
    (required,) = begun.required
    if isinstance(required, MoorageError):
        raise required
    assert begun.upload_id is not None
    return UpdateAnswer(
        status="proceed",
        required_chunks=required,
        upload_token=sign_upload_token(server, caller, begun.upload_id),
        block_server=_block_server(call),
    )


@routes.post(
    "/files:batch_update",
    allow=USER,
    body=BatchUpdateRequest,
    answer=BatchUpdateAnswer,
    limit=MANIFEST_LIMIT,
)
async def batch_update(call: Call[L1]) -> BatchUpdateAnswer:
    """Begin one upload of new versions of up to 1,000 files."""
    caller, server, body = caller_of(call), call.server, call.body
    updates = []
    for place, file in enumerate(body.files):
        field = f"files[{place}]."
        file_id = caller.node_id(file.file_id, f"{field}file_id")
        updates.append(await _parse_update(caller, file_id, file, field))
    _refuse_twice([each.file_id for each in updates])
    begun = await begin_upload(
        server, caller.namespace, updates, several_files=True, repeat=repeat_of(call, "batch_update", body)
    )
    results: list[dict[str, Any]] = []
    all_required: dict[str, None] = {}
    for file, required in zip(body.files, begun.required, strict=True):
        if isinstance(required, MoorageError):
            results.append(_refused(file.file_id, required))
            continue
        results.append({"file_id": file.file_id, "status": "proceed", "required_chunks": required})
        all_required.update(dict.fromkeys(required))
    return BatchUpdateAnswer(
        files=results,
        required_chunks=list(all_required),
        upload_token=None if begun.upload_id is None else sign_upload_token(server, caller, begun.upload_id),
        block_server=_block_server(call),
    )


@routes.post(
    "/files/{file_id}/commit", allow=USER, body=CommitRequest, answer=CommitAnswer, limit=MANIFEST_LIMIT
)
async def commit(call: Call[L1]) -> CommitAnswer:
    """Make what was uploaded the file's next version."""
    caller, server, body = caller_of(call), call.server, call.body
    file_id = caller.node_id(call.path("file_id"), "file_id")
    upload_id = parse_upload_token(server, caller, body.upload_token)
    wanted = _parse_commit(file_id, body.new_version, body.chunks, body.attrs, "")
    repeat = repeat_of(call, "commit", file_id, body)
    version = await commit_file(server, caller, upload_id, wanted, repeat)
    return CommitAnswer(status="committed", version=version)


@routes.post(
    "/files:batch_commit",
    allow=USER,
    body=BatchCommitRequest,
    answer=BatchCommitAnswer,
    limit=MANIFEST_LIMIT,
)
async def batch_commit(call: Call[L1]) -> BatchCommitAnswer:
    """Make what was uploaded the next versions of up to 1,000 files, each by itself."""
    caller, server, body = caller_of(call), call.server, call.body
    upload_id = parse_upload_token(server, caller, body.upload_token)
    wanted = []
    for place, file in enumerate(body.files):
        field = f"files[{place}]."
        file_id = caller.node_id(file.file_id, f"{field}file_id")
        wanted.append(_parse_commit(file_id, file.new_version, file.chunks, file.attrs, field))
    _refuse_twice([each.file_id for each in wanted])
    results = await commit_files(server, caller, upload_id, wanted, repeat_of(call, "batch_commit", body))
    return BatchCommitAnswer(
        files=[
            _refused(file.file_id, result)
            if isinstance(result, MoorageError)
            else {"file_id": file.file_id, "status": "committed", "version": result}
            for file, result in zip(body.files, results, strict=True)
        ]
    )


@routes.get("/files/{file_id}/versions", allow=USER, answer=VersionsAnswer)
async def list_versions(call: Call[L1]) -> VersionsAnswer:
    """The kept versions of a file, newest first."""
    caller, server = caller_of(call), call.server
    file_id = caller.node_id(call.path("file_id"), "file_id")
    limit = call.query_int("limit", low=1, high=MAX_PAGE_VERSIONS) or PAGE_VERSIONS
    cursor = call.query_int("cursor", low=0, high=MAX_VERSION)
    newest = await server.namespaces.read(caller.namespace, plan_newest_version(file_id))
    versions, following = await read_versions(
        server.store, caller.namespace, file_id, newest if cursor is None else min(cursor, newest), limit
    )
    return VersionsAnswer(versions=versions, next_cursor=None if following is None else str(following))


@routes.post("/files/{file_id}/restore", allow=USER, body=RestoreRequest, answer=CommitAnswer)
async def restore(call: Call[L1]) -> CommitAnswer:
    """Make the content of a kept version the file's next version."""
    caller, body = caller_of(call), call.body
    file_id = caller.node_id(call.path("file_id"), "file_id")
    version = await change(
        call.server,
        caller,
        plan_restore(file_id, body.version, body.client_version),
        repeat_of(call, "restore", file_id, body),
        int,
    )
    return CommitAnswer(status="committed", version=version)


# --- requests and answers --------------------------------------------------------------------------------------


async def _parse_update(caller: Caller, file_id: str, body: Any, field: str) -> FileUpdate:
    """`body`: an UpdateRequest or BatchUpdateFile."""
    return FileUpdate(
        file_id,
        body.client_version,
        None if body.chunks is UNSET else await _parse_manifest(body.chunks, f"{field}chunks"),
        None if body.parent_dir_id is UNSET else caller.node_id(body.parent_dir_id, f"{field}parent_dir_id"),
        None if body.name is UNSET else parse_name(body.name, f"{field}name"),
    )


async def _parse_manifest(chunks: Sequence[ManifestEntry], field: str) -> list[Entry]:
    """In parts: a long manifest must not hold up everybody else."""
    parser = ManifestParser(field)
    for start in range(0, len(chunks), PARSED_TOGETHER):
        parser.feed(chunks[start : start + PARSED_TOGETHER])
        if len(chunks) > PARSED_TOGETHER:
            await asyncio.sleep(0)
    return parser.entries


def _parse_commit(
    file_id: str, new_version: int, chunks: list[str] | UnsetType, attrs: Attrs | UnsetType, field: str
) -> FileCommit:
    ids: tuple[Id, ...] | None = None
    if chunks is not UNSET:
        ids = tuple(parse_id_of_chunk(text, f"{field}chunks") for text in chunks)
    return FileCommit(file_id, new_version, ids, None if attrs is UNSET else msgspec.to_builtins(attrs))


def _refuse_twice(file_ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for place, file_id in enumerate(file_ids):
        if file_id in seen:
            raise InvalidFieldError(
                f"{file_id!r} stands twice in this batch.", field=f"files[{place}].file_id"
            )
        seen.add(file_id)


def _refused(file_id: str, error: MoorageError) -> dict[str, Any]:
    """A file's result as its own call would have answered; `status` is `conflict`, else `error`."""
    return {"file_id": file_id, "status": "error", **error.as_answer()}


def _block_server(call: Call[L1]) -> str:
    """The preferred server for new bytes, as this client reaches it."""
    server = call.server
    host = choose_host(server.routing.value, call.request.headers.get("host"))
    return host + block_prefix(choose_write_pool(server))
