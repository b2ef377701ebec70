"""Who may store and read what on this block server (DESIGN.md, Security)."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from moorage.core.errors import ForbiddenError, NotFoundError, UploadTokenRequiredError, WrongClusterError
from moorage.core.routing import RoutingTable, block_prefix, choose_host
from moorage_nodes.generation import GenerationCache
from moorage_nodes.livefile import LiveFile
from moorage_nodes.peer_api import OpenUploadsAnswer, OpenUploadsRequest
from moorage_nodes.peers import PeerDirectory
from moorage_nodes.tokens import Allow, Audience, Claims, TokenExpiredError, Verifier, upload_too_old

STORERS = Allow(frozenset({Audience.UPLOAD, Audience.ACCESS}))
READERS = Allow(frozenset({Audience.ACCESS, Audience.DOWNLOAD}))
UPLOAD_HEADER = "x-upload-token"


@dataclass(frozen=True, slots=True)
class Destination:
    """The open upload that new bytes belong to."""

    namespace: str
    upload: str
    server_key: str


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads. `version` is set for the holder of a download token: one version of one file, nothing else.
    `host` is the one of ours that the reader reaches.
    """

    namespace: str
    server_key: str
    version: tuple[str, int] | None
    host: str


class Access:
    """`pool` is this server's. `generations` is None only where no L3 tells users' generations."""

    def __init__(
        self,
        pool: str,
        routing: LiveFile[RoutingTable],
        peers: PeerDirectory,
        verifier: Verifier,
        generations: GenerationCache | None,
    ) -> None:
        self._pool = pool
        self._routing = routing
        self._peers = peers
        self._verifier = verifier
        self._generations = generations
        self._storing: Counter[str] = Counter()

    def takes(self) -> set[str]:
        """The clusters (server keys) that this server takes new bytes of, or is still storing some of."""
        allowed = {one.server_key for one in self._routing.value.clusters if self._pool in one.write_pools}
        return allowed | self._storing.keys()

    @contextlib.asynccontextmanager
    async def destination(self, claims: Claims, request: Request) -> AsyncIterator[Destination]:
        """The upload that the bearer's token names: itself, in `X-Upload-Token`, or the user's only open one. It is
        to be stored to within the block alone.

        `UploadTokenRequiredError` (409) when that is none or not the only one; `ForbiddenError` for another
        user's upload; `TokenRefusedError` for what is no upload token, `UploadEndedError` (410) for one that is too
        old; `WrongClusterError` (421) when this pool
        takes no new bytes of the user's cluster.
        """
        named = request.headers.get(UPLOAD_HEADER)
        if claims.audience is not Audience.UPLOAD and named is not None:
            holder = claims
            try:
                claims = self._verifier.verify(named, Audience.UPLOAD)
            except TokenExpiredError:
                raise upload_too_old() from None
            if claims.subject != holder.subject:
                raise ForbiddenError("This upload is another user's.")
            if self._generations is not None:
                await self._generations.check(claims)
        server_key = claims.text("server_key")
        self._refuse_other_pool(server_key, request, writes=True)
        self._storing[server_key] += 1
        try:
            yield await self._find_upload(claims, server_key)
        finally:
            self._storing[server_key] -= 1
            if not self._storing[server_key]:
                del self._storing[server_key]

    async def _find_upload(self, claims: Claims, server_key: str) -> Destination:
        if claims.audience is Audience.UPLOAD:
            return Destination(claims.text("ns"), claims.text("upload"), server_key)
        question = OpenUploadsRequest(namespace=claims.subject)
        answer = await self._peers.l3(server_key).post("/internal/open_uploads", question, OpenUploadsAnswer)
        if len(answer.uploads) != 1:
            raise UploadTokenRequiredError(
                "Which upload is meant? Send the upload token of /update, as bearer or in X-Upload-Token: "
                f"there {'is no open upload' if not answer.uploads else 'are several open uploads'}."
            )
        return Destination(claims.subject, answer.uploads[0], server_key)

    def reader(self, claims: Claims, request: Request) -> Reader:
        """`WrongClusterError` (421) when this pool is none of the user's cluster."""
        server_key = claims.text("server_key")
        self._refuse_other_pool(server_key, request, writes=False)
        host = choose_host(self._routing.value, request.headers.get("host"))
        if claims.audience is not Audience.DOWNLOAD:
            return Reader(claims.subject, server_key, None, host)
        version = claims.data.get("version")
        if not isinstance(version, int):
            raise NotFoundError("This token names no version.")
        return Reader(claims.text("ns"), server_key, (claims.text("file"), version), host)

    def _refuse_other_pool(self, server_key: str, request: Request, *, writes: bool) -> None:
        cluster = self._routing.value.cluster(server_key)
        pools: tuple[str, ...] = ()
        if cluster is not None:
            pools = cluster.write_pools if writes else cluster.pools
        if self._pool in pools:
            return
        host = choose_host(self._routing.value, request.headers.get("host"))
        raise WrongClusterError(
            f"The block pool {self._pool!r} {'takes no new bytes' if writes else 'holds no bytes'} of the metadata "
            f"cluster {server_key!r}; ask the block servers named here.",
            server_key=server_key,
            block_servers=[host + block_prefix(pool) for pool in pools],
        )
