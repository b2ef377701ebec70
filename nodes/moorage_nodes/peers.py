"""Calls to other servers' internal ports: JSON over HTTP with a short-lived service token.

Every internal call is idempotent, so one that got no answer from a replica is sent to the next.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from moorage.core.errors import (
    ForbiddenError,
    MoorageError,
    StoreUnavailableError,
    UnauthenticatedError,
    error_from_answer,
)
from moorage_nodes.http_pool import HttpPool
from moorage_nodes.metrics import Metrics
from moorage_nodes.settings import Peers
from moorage_nodes.tokens import Audience, Signer

T = TypeVar("T")
log = logging.getLogger("moorage.peers")
CONNECT_SECONDS = 1.0
TOTAL_SECONDS = 3.0  # over all replicas tried for one call
PATIENT_SECONDS = 30.0  # the same for calls that are about many objects, and that nobody waits for
TOKEN_TTL = 60  # seconds
TOKEN_RENEWAL = 30.0  # seconds after which the next token is signed
TOKEN_NEW = 1.0  # a token so young that is refused will be refused again
PATIENT = frozenset({Audience.COLLECTOR, Audience.CHECKER})
RESTING_SECONDS = 2.0  # a replica that could not be reached is tried last for so long


class PeerClient:
    """The replicas of one kind of server, called as this server's component."""

    def __init__(
        self,
        name: str,
        base_urls: Sequence[str],
        signer: Signer,
        audience: Audience,
        metrics: Metrics,
    ) -> None:
        """`base_urls`: `http://host:port` of internal ports. `name` is for messages and metrics."""
        self._name = name
        self._pools = [HttpPool(url) for url in base_urls]
        self._signer = signer
        self._audience = audience
        self._observer = metrics.store(f"peer_{name}")
        self._turn = 0
        self._resting: dict[HttpPool, float] = {}
        self._token = ("", -TOKEN_RENEWAL)

    async def get(self, path: str, answer: type[T]) -> T:
        """The answer of `GET path`, decoded; errors of the peer are raised as they are, see `post`."""
        return await self._call("GET", path, None, answer)

    async def post(self, path: str, body: object, answer: type[T]) -> T:
        """The answer of `POST path` with `body` as JSON, decoded into `answer`.

        Raises what the peer answered (by its word), and StoreUnavailableError when no replica answers within
        `TOTAL_SECONDS` or the peer does not accept this server's token. The call may have been carried out.
        """
        return await self._call("POST", path, msgspec.json.encode(body), answer)

    def close(self) -> None:
        for pool in self._pools:
            pool.close()

    async def _call(self, method: str, path: str, body: bytes | None, answer: type[T]) -> T:
        started = time.monotonic()
        outcome = StoreUnavailableError.word
        try:
            deadline = started + self._longest()
            status, data = await self._send_to_any(method, path, body, deadline)
            if status == 401 and self._forget_token():
                # Refused before it was carried out: a clock was set back, or keys have changed, since it was signed.
                status, data = await self._send_to_any(method, path, body, deadline)
            if status != 200:
                raise _error_of(status, data, self._name)
            answered = msgspec.json.decode(data, type=answer)
            outcome = "ok"
        except msgspec.DecodeError:
            log.error("peer answers in another shape", extra={"peer": self._name, "path": path})  # noqa: TRY400 no news in the traceback
            raise StoreUnavailableError(f"The {self._name} servers speak another version.") from None
        except MoorageError as error:
            outcome = error.word
            raise
        else:
            return answered
        finally:
            self._observer.observe_call(method.lower(), outcome, time.monotonic() - started)

    def _longest(self) -> float:
        return PATIENT_SECONDS if self._audience in PATIENT else TOTAL_SECONDS

    async def _send_to_any(
        self, method: str, path: str, body: bytes | None, deadline: float
    ) -> tuple[int, bytes]:
        token = self._service_token()
        order = self._order()
        if len(order) == 1:
            order *= 2  # one address may stand for many servers: another of them answers when one has gone
        for pool in order:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                async with asyncio.timeout(left):
                    return await pool.request(
                        method, path, bearer=token, body=body, connect_seconds=CONNECT_SECONDS
                    )
            except OSError as error:
                self._resting[pool] = time.monotonic() + RESTING_SECONDS
                log.warning("peer does not answer", extra={"peer": pool.url, "reason": type(error).__name__})
        raise StoreUnavailableError(f"No {self._name} server can be reached.")

    def _order(self) -> list[HttpPool]:
        """All replicas, beginning with the next in turn, those that rest last."""
        pools = self._pools
        self._turn = (self._turn + 1) % len(pools)
        turned = pools[self._turn :] + pools[: self._turn]
        if not self._resting:
            return turned
        now = time.monotonic()
        self._resting = {pool: until for pool, until in self._resting.items() if until > now}
        return sorted(turned, key=lambda pool: pool in self._resting)

    def _forget_token(self) -> bool:
        """Have a new one signed for the next call; False: the one at hand is new."""
        token, signed = self._token
        if not token or time.monotonic() - signed < TOKEN_NEW:
            return False
        self._token = ("", -TOKEN_RENEWAL)
        return True

    def _service_token(self) -> str:
        token, signed = self._token
        if not token or time.monotonic() - signed >= TOKEN_RENEWAL:
            token = self._signer.sign(self._audience, self._signer.issuer, TOKEN_TTL)
            self._token = (token, time.monotonic())
        return token


def _error_of(status: int, data: bytes, name: str) -> MoorageError:
    try:
        answer: Any = msgspec.json.decode(data)
    except msgspec.DecodeError:
        answer = None
    error = error_from_answer(answer) if isinstance(answer, dict) else None
    if isinstance(error, UnauthenticatedError | ForbiddenError):
        # Ours is refused, not the caller's: a rotation that went wrong, and no fault of who asked us.
        log.error("peer refuses our service token", extra={"peer": name, "status": status})
        return StoreUnavailableError(f"The {name} servers do not accept this server's token.")
    if error is None or type(error) is MoorageError:
        log.error("peer failed", extra={"peer": name, "status": status})
        return StoreUnavailableError(f"The {name} servers failed.")
    return error


class PeerDirectory:
    """The peers that the settings name. Clients are made when first asked for, and kept."""

    def __init__(self, peers: Peers, signer: Signer, metrics: Metrics) -> None:
        self._peers = peers
        self._signer = signer
        self._metrics = metrics
        self._clients: dict[tuple[Audience, str], PeerClient] = {}

    def auth(self) -> PeerClient:
        return self._client("auth", "", self._peers.auth, Audience.SERVICE_AUTH)

    def l1(self, server_key: str) -> PeerClient:
        return self._client("l1", server_key, self._peers.l1.get(server_key, ()), Audience.SERVICE_L1)

    def l2(self, server_key: str) -> PeerClient:
        return self._client("l2", server_key, self._peers.l2.get(server_key, ()), Audience.SERVICE_L2)

    def l3(self, server_key: str) -> PeerClient:
        return self._client("l3", server_key, self._peers.l3.get(server_key, ()), Audience.SERVICE_L3)

    def block(self, pool: str) -> PeerClient:
        return self._client("block", pool, self._peers.block.get(pool, ()), Audience.SERVICE_BLOCK)

    def collected(self, pool: str) -> PeerClient:
        """The pool's block servers, called by the collector."""
        urls = self._peers.block.get(pool, ())
        return self._client("block", pool, urls, Audience.COLLECTOR)

    def checked(self, pool: str) -> PeerClient:
        """The pool's block servers, called by fsck and scrub."""
        urls = self._peers.block.get(pool, ())
        return self._client("block", pool, urls, Audience.CHECKER)

    def notify(self) -> PeerClient | None:
        """The cluster's notification servers; None when it has none."""
        if not self._peers.notify:
            return None
        return self._client("notify", "", self._peers.notify, Audience.SERVICE_NOTIFY)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _client(
        self,
        name: str,
        owner: str,
        base_urls: Sequence[str],
        audience: Audience,
    ) -> PeerClient:
        """`owner`: a server key, a pool, or empty."""
        if not base_urls:
            raise StoreUnavailableError(f"This server knows no {name} servers of {owner!r}.")
        client = self._clients.get((audience, owner))
        if client is None:
            client = PeerClient(name, base_urls, self._signer, audience, self._metrics)
            self._clients[audience, owner] = client
        return client
