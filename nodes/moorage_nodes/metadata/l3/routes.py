"""L3's routes: a chunk's metadata for users, the registry for block servers (PROTOCOL.md, Files)."""

from dataclasses import dataclass

from moorage.core.errors import StoreUnavailableError
from moorage.core.ids import MAX_VERSION, parse_chunk_id, parse_id
from moorage.core.routing import RoutingTable, block_prefix, choose_host
from moorage.core.wire import ChunkMetadataAnswer
from moorage_nodes.generation import GenerationCache, UserState
from moorage_nodes.livefile import LiveFile
from moorage_nodes.metadata.admission import refuse_other_cluster
from moorage_nodes.metadata.l3.registry import Registry
from moorage_nodes.peer_api import (
    LocateAnswer,
    LocateRequest,
    MarkAnswer,
    MarkRequest,
    OpenUploadsAnswer,
    OpenUploadsRequest,
    RegisterAnswer,
    RegisterRequest,
)
from moorage_nodes.tokens import USER, Allow, Audience
from moorage_nodes.web import Call, Routes

PEERS = Allow(frozenset({Audience.SERVICE_L3}))
REGISTER_LIMIT = 4 * 1024 * 1024  # bytes: 4,096 chunks with the longest names are 2.5 MB
LOCATE_LIMIT = 256 * 1024


@dataclass(slots=True)
class L3:
    """One L3 server. `generations` is None only where no auth server is configured."""

    server_key: str
    registry: Registry
    routing: LiveFile[RoutingTable]
    generations: GenerationCache | None


public: Routes[L3] = Routes()
internal: Routes[L3] = Routes()


@public.get("/chunks/{chunk_id}/metadata", allow=USER, answer=ChunkMetadataAnswer)
async def chunk_metadata(call: Call[L3]) -> ChunkMetadataAnswer:
    """What is known of a chunk, by its hash or by the caller's name for it."""
    server, host = call.server, call.request.headers.get("host")
    refuse_other_cluster(call.claims, server.server_key, server.routing.value, host)
    chunk_id = parse_chunk_id(call.path("chunk_id"))
    chunk = await server.registry.find(call.claims.subject, chunk_id)
    return ChunkMetadataAnswer(
        size=chunk.size,
        hash=chunk.hash,
        state=chunk.state,
        block_server=choose_host(server.routing.value, host) + block_prefix(chunk.pool),
    )


@internal.post(
    "/internal/register", allow=PEERS, body=RegisterRequest, answer=RegisterAnswer, limit=REGISTER_LIMIT
)
async def register(call: Call[L3]) -> RegisterAnswer:
    """Record what one call stored; 410 `upload_ended`."""
    await call.server.registry.register(call.body)
    return RegisterAnswer(registered=len(call.body.chunks))


@internal.post("/internal/open_uploads", allow=PEERS, body=OpenUploadsRequest, answer=OpenUploadsAnswer)
async def open_uploads(call: Call[L3]) -> OpenUploadsAnswer:
    """Up to two open uploads of a user."""
    return OpenUploadsAnswer(uploads=await call.server.registry.open_uploads(call.body.namespace))


@internal.post("/internal/locate", allow=PEERS, body=LocateRequest, answer=LocateAnswer, limit=LOCATE_LIMIT)
async def locate(call: Call[L3]) -> LocateAnswer:
    """Where chunks lie."""
    return LocateAnswer(chunks=await call.server.registry.locate(call.body.namespace, call.body.ids))


@internal.post("/internal/mark", allow=PEERS, body=MarkRequest, answer=MarkAnswer, limit=LOCATE_LIMIT)
async def mark(call: Call[L3]) -> MarkAnswer:
    """Mark chunks that a deletion let go."""
    return MarkAnswer(marked=await call.server.registry.mark_soft(call.body.namespace, call.body.ids))


@internal.get("/internal/users/{user_id}", allow=PEERS, answer=UserState)
async def user_state(call: Call[L3]) -> UserState:
    """A user's generation, as far as this server knows it, for block servers."""
    if call.server.generations is None:
        raise StoreUnavailableError("This server knows no auth servers.")
    return await call.server.generations.state_of(
        parse_id(call.path("user_id"), "user_id"),
        call.server.server_key,
        generation=call.query_int("generation", low=0, high=MAX_VERSION) or 0,
    )
