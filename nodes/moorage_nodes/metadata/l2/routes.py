"""L2's routes: the chunks of a file, for users and for block servers (PROTOCOL.md, Files)."""

from dataclasses import dataclass

from starlette.responses import Response

from moorage.core.errors import InvalidFieldError, StoreUnavailableError
from moorage.core.ids import MAX_VERSION, parse_id
from moorage.core.routing import RoutingTable, choose_host, l3_prefix
from moorage.core.wire import ChunksAnswer
from moorage_nodes.livefile import LiveFile
from moorage_nodes.metadata.admission import refuse_other_cluster
from moorage_nodes.metadata.l2.contents import Contents, Version
from moorage_nodes.metadata.l2.listing import Listing, ServerNames, parse_cursor
from moorage_nodes.peer_api import ManifestAnswer, ManifestRequest
from moorage_nodes.tokens import USER, Allow, Audience, Claims, Signer
from moorage_nodes.web import Call, Routes

PEERS = Allow(frozenset({Audience.SERVICE_L2}))
DOWNLOAD_TTL = 300  # seconds
DEFAULT_PAGE = 1000
MAX_PAGE = 10_000


@dataclass(slots=True)
class L2:
    """One L2 server."""

    server_key: str
    incarnation: str
    contents: Contents
    listing: Listing
    routing: LiveFile[RoutingTable]
    signer: Signer

    def names_for(self, asked_host: str | None) -> ServerNames:
        """Servers as the caller reaches them."""
        table = self.routing.value
        cluster = table.cluster(self.server_key)
        if cluster is None:
            raise StoreUnavailableError("The routing table does not have this cluster yet.")
        host = choose_host(table, asked_host)
        return ServerNames(host, host + l3_prefix(self.server_key), cluster)


public: Routes[L2] = Routes()
internal: Routes[L2] = Routes()


@public.get("/files/{file_id}/chunks", allow=USER, answer=ChunksAnswer)
async def list_chunks(call: Call[L2]) -> Response:
    """The chunks of a file's newest version, or of `?version=`, in file order: all of them, or with `?limit=` in
    pages.
    """
    server, claims, host = call.server, call.claims, call.request.headers.get("host")
    refuse_other_cluster(claims, server.server_key, server.routing.value, host)
    file_id = parse_id(call.path("file_id"), "file_id")
    number = call.query_int("version", low=0, high=MAX_VERSION)
    limit = call.query_int("limit", low=1, high=MAX_PAGE)
    first = 0
    if text := call.query("cursor"):
        cursor = parse_cursor(text)
        if number not in {None, cursor.version}:
            raise InvalidFieldError("`cursor` is of another version.", field="cursor")
        number, first, limit = cursor.version, cursor.index, limit or DEFAULT_PAGE
    version = await server.contents.find(claims.subject, file_id, number)
    answer = await server.listing.chunks_answer(
        version, first, limit, server.names_for(host), _download_token(server, claims, version)
    )
    return Response(answer, media_type="application/json")


@internal.post("/internal/manifest", allow=PEERS, body=ManifestRequest, answer=ManifestAnswer)
async def manifest(call: Call[L2]) -> ManifestAnswer:
    """A page of a version's chunks and where their bytes lie."""
    request: ManifestRequest = call.body
    version = await call.server.contents.find(
        parse_id(request.namespace, "namespace"), parse_id(request.file_id, "file_id"), request.version
    )
    return await call.server.listing.manifest_answer(version, request)


def _download_token(server: L2, claims: Claims, version: Version) -> str:
    """A capability to read the chunks of this one version. It ends with the generation of its user's tokens."""
    return server.signer.sign(
        Audience.DOWNLOAD,
        claims.subject,
        DOWNLOAD_TTL,
        ns=version.namespace,
        server_key=server.server_key,
        file=version.file_id,
        version=version.number,
        inc=server.incarnation,
        gen=claims.data.get("gen"),
    )
