"""The block servers' routes (PROTOCOL.md, Files and Update)."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

import msgspec
import pybase64
from starlette.responses import Response

from moorage.core.errors import ForbiddenError, MalformedError, NotFoundError
from moorage.core.ids import MAX_CHUNK_BYTES, MAX_VERSION, parse_chunk_id, parse_hash, parse_id
from moorage.core.wire import DownloadChunkAnswer, DownloadMetadata, StoreChunk, StoreChunkAnswer
from moorage_nodes.blocks.access import READERS, STORERS, Access, Reader
from moorage_nodes.blocks.budget import ByteBudget, Room
from moorage_nodes.blocks.collecting import copy_chunks, delete_objects, list_page, parse_object
from moorage_nodes.blocks.content import Content
from moorage_nodes.blocks.packing import PACKED_OBJECT_BYTES
from moorage_nodes.blocks.places import Places
from moorage_nodes.blocks.ranges import plan_read
from moorage_nodes.blocks.reading import Buffer, Reading
from moorage_nodes.blocks.receiving import receive_calls, receive_chunk, verify_calls, verify_chunk
from moorage_nodes.blocks.responses import BytesAnswer, content_disposition
from moorage_nodes.blocks.storing import Storing
from moorage_nodes.blocks.verifying import verify_chunks
from moorage_nodes.peer_api import (
    CopyObjectAnswer,
    CopyObjectRequest,
    DeleteChunksAnswer,
    DeleteChunksRequest,
    ListObjectsAnswer,
    ListObjectsRequest,
    ManifestAnswer,
    MarkAnswer,
    MarkRequest,
    Place,
    VerifyAnswer,
    VerifyRequest,
)
from moorage_nodes.peers import PeerDirectory
from moorage_nodes.stores.contracts import ObjectStore
from moorage_nodes.tokens import Allow, Audience
from moorage_nodes.web import Call, Routes

DELETERS = Allow(frozenset({Audience.SERVICE_BLOCK, Audience.COLLECTOR}))
COLLECTORS = Allow(frozenset({Audience.COLLECTOR}))
DELETE_CHUNKS_LIMIT = 256 * 1024  # bytes: 1,024 of the longest names are 135 kB
COPY_LIMIT = 1024 * 1024  # bytes: 4,096 chunks are 500 kB
CHECKERS = Allow(frozenset({Audience.CHECKER}))
LISTERS = Allow(frozenset({Audience.COLLECTOR, Audience.CHECKER}))
VERIFY_LIMIT = 1024 * 1024  # bytes: 1,024 chunks are 350 kB
HASH_HEADER = "x-chunk-hash"


@dataclass(slots=True)
class Block:
    """One block server."""

    access: Access
    budget: ByteBudget
    storing: Storing
    places: Places
    reading: Reading
    content: Content
    objects: ObjectStore
    peers: PeerDirectory


public: Routes[Block] = Routes()
internal: Routes[Block] = Routes()


@public.post("/store_chunk", allow=STORERS, body=list[StoreChunk], answer=StoreChunkAnswer, raw=True)
async def store_chunk(call: Call[Block]) -> StoreChunkAnswer:
    """Store chunks that come as base64 in JSON: all of them, or none."""
    server = call.server
    async with server.access.destination(call.claims, call.request) as destination:
        with server.budget.room(destination.namespace) as room:
            chunks = verify_calls(await receive_calls(call.request, room))
            return StoreChunkAnswer(chunks=await server.storing.store(destination, chunks))


@public.put("/chunks/{chunk_id}", allow=STORERS, answer=StoreChunkAnswer, raw=True)
async def put_chunk(call: Call[Block]) -> StoreChunkAnswer:
    """Store one chunk that comes as raw bytes."""
    server = call.server
    chunk_id = parse_chunk_id(call.path("chunk_id"))
    if "content-range" in call.request.headers:
        raise MalformedError("A chunk is put as a whole: there is no partial PUT (`Content-Range`).")
    expected = call.request.headers.get(HASH_HEADER)
    if expected is not None:
        parse_hash(expected, "X-Chunk-Hash")
    async with server.access.destination(call.claims, call.request) as destination:
        with server.budget.room(destination.namespace) as room:
            chunk = verify_chunk(chunk_id, expected, await receive_chunk(call.request, room))
            return StoreChunkAnswer(chunks=await server.storing.store(destination, [chunk]))


@public.get("/download_chunk/{chunk_id}", allow=READERS, answer=DownloadChunkAnswer)
async def download_chunk(call: Call[Block]) -> Response:
    """One chunk as base64 in JSON."""
    reader, chunk = await _find(call)
    frame = msgspec.json.encode(
        DownloadChunkAnswer(metadata=DownloadMetadata(size=chunk.size, hash=chunk.hash), data=b"")
    )
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(frame) + (chunk.size + 2) // 3 * 4),
    }

    async def pieces(room: Room) -> AsyncGenerator[Buffer, None]:
        return _as_json(frame, await call.server.reading.read_or_stream(reader, chunk, 0, chunk.size, room))

    return await _answer(call, 200, headers, pieces)


@public.get("/chunks/{chunk_id}", allow=READERS)
async def get_chunk(call: Call[Block]) -> Response:
    """One chunk, or a range of it, as raw bytes."""
    reader, chunk = await _find(call)
    plan = plan_read(call.request.headers, size=chunk.size, etag=chunk.hash)
    if not plan.length:
        return BytesAnswer(plan.status, plan.headers, None)

    async def pieces(room: Room) -> AsyncGenerator[Buffer, None]:
        return await call.server.reading.read_or_stream(reader, chunk, plan.first, plan.length, room)

    return await _answer(call, plan.status, plan.headers, pieces)


@public.add("HEAD", "/chunks/{chunk_id}", allow=READERS)
async def head_chunk(call: Call[Block]) -> Response:
    """What `GET` would answer, without the bytes."""
    _, chunk = await _find(call)
    plan = plan_read(call.request.headers, size=chunk.size, etag=chunk.hash)
    return BytesAnswer(plan.status, plan.headers, None)


@public.get("/files/{file_id}/content", allow=READERS)
async def get_content(call: Call[Block]) -> Response:
    """A whole file, or a range of it."""
    reader, file_id, page = await _open(call)
    plan = plan_read(call.request.headers, size=page.size, etag=page.hash)
    headers = {**plan.headers, **_file_headers(page)}
    if not plan.length:
        return BytesAnswer(plan.status, headers, None)
    pieces = await call.server.content.open(reader, file_id, page, plan.first, plan.length)
    return BytesAnswer(plan.status, headers, pieces)


@public.add("HEAD", "/files/{file_id}/content", allow=READERS)
async def head_content(call: Call[Block]) -> Response:
    """What `GET` would answer, without the bytes."""
    _, _, page = await _open(call)
    plan = plan_read(call.request.headers, size=page.size, etag=page.hash)
    return BytesAnswer(plan.status, {**plan.headers, **_file_headers(page)}, None)


@internal.post(
    "/delete_chunks",
    allow=DELETERS,
    body=DeleteChunksRequest,
    answer=DeleteChunksAnswer,
    limit=DELETE_CHUNKS_LIMIT,
)
async def delete_chunks(call: Call[Block]) -> DeleteChunksAnswer:
    """Mark chunks that a deletion let go, at the L3 of their cluster: the pool does not matter. For the collector:
    delete objects that nothing names any more.
    """
    body = call.body
    if (call.claims.audience is Audience.COLLECTOR) != (body.deletion_mode == "hard"):
        raise ForbiddenError("Only the collector deletes the bytes of chunks, and it does nothing else.")
    if body.deletion_mode == "hard":
        await delete_objects(call.server.objects, body.namespace, body.objects)
        return DeleteChunksAnswer(status="chunks_deleted")
    await call.server.peers.l3(parse_id(body.server_key, "server_key")).post(
        "/internal/mark", MarkRequest(namespace=body.namespace, ids=body.chunk_ids), MarkAnswer
    )
    return DeleteChunksAnswer(status="chunks_marked_for_deletion")


@internal.post("/internal/list_objects", allow=LISTERS, body=ListObjectsRequest, answer=ListObjectsAnswer)
async def list_objects(call: Call[Block]) -> ListObjectsAnswer:
    """A page of a namespace's objects in this pool."""
    found, more = await list_page(call.server.objects, call.body.namespace, call.body.after)
    return ListObjectsAnswer(objects=found, more=more)


@internal.post(
    "/internal/copy_object",
    allow=COLLECTORS,
    body=CopyObjectRequest,
    answer=CopyObjectAnswer,
    limit=COPY_LIMIT,
)
async def copy_object(call: Call[Block]) -> CopyObjectAnswer:
    """Copy what lives of a packed object into a new one."""
    body: CopyObjectRequest = call.body
    chunks = [(chunk.hash, chunk.offset, chunk.size) for chunk in body.chunks]
    with call.server.budget.room() as room:
        await room.grow(PACKED_OBJECT_BYTES)
        size = await copy_chunks(call.server.objects, body.namespace, body.source, body.target, chunks)
    return CopyObjectAnswer(size=size)


@internal.post(
    "/internal/verify", allow=CHECKERS, body=VerifyRequest, answer=VerifyAnswer, limit=VERIFY_LIMIT
)
async def verify(call: Call[Block]) -> VerifyAnswer:
    """Read chunks again where they lie, and say whether they are what they should be."""
    namespace = parse_id(call.body.namespace, "namespace")
    for number, chunk in enumerate(call.body.chunks):
        if chunk.object or chunk.size:
            parse_object(chunk.object, f"chunks[{number}].object")
    with call.server.budget.room() as room:
        await room.grow(MAX_CHUNK_BYTES)
        return VerifyAnswer(verdicts=await verify_chunks(call.server.objects, namespace, call.body.chunks))


async def _find(call: Call[Block]) -> tuple[Reader, Place]:
    reader = call.server.access.reader(call.claims, call.request)
    return reader, await call.server.places.find(reader, parse_chunk_id(call.path("chunk_id")))


async def _open(call: Call[Block]) -> tuple[Reader, str, ManifestAnswer]:
    """The version that is asked for, with its first page of chunks."""
    reader = call.server.access.reader(call.claims, call.request)
    file_id = parse_id(call.path("file_id"), "file_id")
    version = call.query_int("version", low=0, high=MAX_VERSION)
    if reader.version is not None:
        opened, opened_version = reader.version
        if file_id != opened or version not in {None, opened_version}:
            raise NotFoundError("This token is for another file or version.")
        version = opened_version
    return reader, file_id, await call.server.places.manifest(reader, file_id, version)


def _file_headers(page: ManifestAnswer) -> dict[str, str]:
    return {
        "Content-Disposition": content_disposition(page.name),
        "Last-Modified": format_datetime(datetime.fromtimestamp(page.modified / 1000, UTC), usegmt=True),
    }


async def _answer(
    call: Call[Block],
    status: int,
    headers: Mapping[str, str],
    pieces: Callable[[Room], Awaitable[AsyncGenerator[Buffer, None]]],
) -> BytesAnswer:
    """An answer whose bytes are held in room of its own until they are sent."""
    room = call.server.budget.room()
    try:
        return BytesAnswer(status, headers, await pieces(room), room)
    except BaseException:
        room.close()
        raise


async def _as_json(frame: bytes, pieces: AsyncIterator[Buffer]) -> AsyncGenerator[Buffer, None]:
    """`frame` with the bytes as base64 in the place of its empty string, which ends it."""
    yield frame[:-2]
    rest = b""
    async for piece in pieces:
        data = rest + bytes(piece)
        whole = len(data) // 3 * 3  # base64 knows groups of three
        rest = data[whole:]
        yield pybase64.b64encode(memoryview(data)[:whole])
    yield pybase64.b64encode(rest) + frame[-2:]
