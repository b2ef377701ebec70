"""Taking in what a client sends: bounded, hashed on the way, wholly verified before any of it is kept."""

import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pybase64
from msgspec import Struct
from starlette.requests import Request

from moorage.core.errors import HashMismatchError, InvalidFieldError, TooLargeError
from moorage.core.ids import MAX_CHUNK_BYTES, format_hash, is_hash, parse_chunk_id, parse_hash
from moorage.core.wire import StoreChunk, StoreChunkMetadata
from moorage_nodes.blocks.budget import Room
from moorage_nodes.blocks.storing import NewChunk
from moorage_nodes.peer_api import MAX_CALL_CHUNKS
from moorage_nodes.web import decode_body, header_of, refuse_encoding

MAX_CALL_BYTES = 48 * 1024 * 1024  # of a JSON body
QUOTE = ord('"')
OBJECTS_PER_CHUNK = 2  # of JSON


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes as they came, and their hash."""

    parts: list[bytes]
    size: int
    digest: bytes


async def receive_chunk(request: Request, room: Room) -> Received:
    """The body as one chunk. `TooLargeError` as soon as it is known to be larger than a chunk may be;
    `ClientDisconnect` when it ends early.
    """
    parts: list[bytes] = []
    digest = hashlib.sha256()
    async for part in _receive(request, room, MAX_CHUNK_BYTES):
        digest.update(part)
        parts.append(part)
    return Received(parts, sum(map(len, parts)), digest.digest())


class _RawChunk(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`StoreChunk` before its base64 is decoded."""

    chunk_id: str
    metadata: StoreChunkMetadata
    data: msgspec.Raw


async def receive_calls(request: Request, room: Room) -> list[StoreChunk]:
    """The body of `store_chunk`: 413 before it is in memory, or decoded, when it is too large."""
    parts = [part async for part in _receive(request, room, MAX_CALL_BYTES)]
    size = sum(map(len, parts))
    await room.grow(size)
    body = b"".join(parts)
    parts.clear()
    room.shrink(size)
    if has_more_objects(body, OBJECTS_PER_CHUNK * MAX_CALL_CHUNKS):
        raise TooLargeError(f"A call stores at most {MAX_CALL_CHUNKS} chunks.", limit=MAX_CALL_CHUNKS)
    await room.grow(size * 3 // 4)
    chunks = [
        StoreChunk(
            chunk_id=raw.chunk_id, metadata=raw.metadata, data=decode_base64(raw.data, f"$[{index}].data")
        )
        for index, raw in enumerate(decode_body(body, list[_RawChunk]))
    ]
    room.shrink(size)
    return chunks


def decode_base64(raw: msgspec.Raw, field: str) -> bytes:
    """A JSON string of base64. `InvalidFieldError` for anything else; `TooLargeError` for more than a chunk.

    Of a call of 4 MiB msgspec alone takes 5.6 ms, this way it is 1.9 (docs/adr/0015-packing.md). msgspec has the
    last word where a string has escapes, or is wrong.
    """
    view = memoryview(raw)
    if len(view) > MAX_CHUNK_BYTES // 3 * 4 + 8:
        raise _too_large(MAX_CHUNK_BYTES)
    if view[0] == QUOTE:
        with contextlib.suppress(ValueError):
            return pybase64.b64decode(view[1:-1], validate=True)
    try:
        return msgspec.json.decode(raw, type=bytes)
    except msgspec.ValidationError as error:
        raise InvalidFieldError(f"{error}.", field=field) from None


def has_more_objects(body: bytes, limit: int) -> bool:
    """Whether JSON has more than `limit` objects (or braces in strings, which no chunk needs): what a body that is
    bounded in bytes may grow to when it is decoded is bounded as well.
    """
    place = -1
    for _ in range(limit + 1):
        place = body.find(b"{", place + 1)
        if place < 0:
            return False
    return True


def verify_chunk(chunk_id: str, expected: str | None, received: Received) -> NewChunk:
    """A raw chunk against its id, when that looks like a hash, and against the hash that was announced, if any."""
    parse_chunk_id(chunk_id)
    computed = format_hash(received.digest)
    for claimed in (expected, chunk_id if is_hash(chunk_id) else None):
        if claimed is not None and claimed != computed:
            raise HashMismatchError(
                "The bytes do not match the hash; nothing was stored.", chunk_id=chunk_id, hash=computed
            )
    return NewChunk(chunk_id, received.digest, received.size, received.parts)


def verify_calls(chunks: list[StoreChunk]) -> list[NewChunk]:
    """Each chunk of a call against its hash. When one does not match, nothing of the call is kept: a simple client
    that sends the same array again gets its chunks in the order of the array, and none twice.

    `HashMismatchError` carries `chunks`, what is the matter with each. `InvalidFieldError`; `TooLargeError`.
    """
    if not chunks:
        raise InvalidFieldError("The array holds no chunk.", field="$")
    verified: list[NewChunk] = []
    named: dict[str, bytes] = {}
    results: list[dict[str, Any]] = []
    wrong = 0
    for index, chunk in enumerate(chunks):
        if len(chunk.data) > MAX_CHUNK_BYTES:
            raise _too_large(MAX_CHUNK_BYTES)
        _check_fields(chunk, index)
        digest = hashlib.sha256(chunk.data).digest()
        computed = format_hash(digest)
        matches = computed == chunk.metadata.hash and (
            not is_hash(chunk.chunk_id) or chunk.chunk_id == computed
        )
        if matches and named.setdefault(chunk.chunk_id, digest) != digest:
            raise InvalidFieldError(
                "One `chunk_id` is given to different bytes.", field=f"$[{index}].chunk_id"
            )
        wrong += not matches
        results.append(
            {
                "chunk_id": chunk.chunk_id,
                "hash": computed,
                "status": "not_stored" if matches else "hash_mismatch",
            }
        )
        verified.append(NewChunk(chunk.chunk_id, digest, len(chunk.data), [chunk.data]))
    if wrong:
        raise HashMismatchError(
            f"{wrong} of {len(chunks)} chunks do not match their hash; nothing of this call was stored.",
            chunks=results,
        )
    return verified


def _check_fields(chunk: StoreChunk, index: int) -> None:
    parse_chunk_id(chunk.chunk_id, f"$[{index}].chunk_id")
    parse_hash(chunk.metadata.hash, f"$[{index}].metadata.hash")
    size = chunk.metadata.size
    if isinstance(size, int) and size != len(chunk.data):
        raise InvalidFieldError(
            f"`size` is {size}, but `data` holds {len(chunk.data)} bytes.", field=f"$[{index}].metadata.size"
        )


async def _receive(request: Request, room: Room, limit: int) -> AsyncIterator[bytes]:
    """The body in parts, each held in `room`; 413 before anything is read where its length says so."""
    refuse_encoding(request)
    declared = header_of(request, b"content-length") or ""
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        await room.grow(len(part))
        yield part


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"At most {limit} bytes are accepted here.", limit=limit)
