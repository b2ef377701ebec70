"""Requests between clients and servers, and between servers: lost, slow, sent twice, or answered by nobody.

A request is handled as the server's web layer does (authenticated, decoded, its errors turned into answers), from
the routes that the real server declares; only the socket and the ASGI server are left out.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from moorage.core.errors import DamagedChunkError, MoorageError, StoreUnavailableError
from moorage_nodes.dispatch import RouteTree
from moorage_nodes.metrics import Metrics
from moorage_nodes.peers import PeerClient, PeerDirectory
from moorage_nodes.settings import Peers
from moorage_nodes.tokens import Audience, Signer, Verifier
from moorage_nodes.web import Call, Endpoint, Routes, decode_body, error_response, json_response, read_body
from simulator.process import Process, Weather

ANSWER_SECONDS = 8.0  # how long a caller waits
PEER_SECONDS = 3.0


class NoAnswerError(Exception):
    """The connection was refused, cut, or silent for too long: what was asked may have been done, or not."""


@dataclass(frozen=True)
class Asked:
    """One HTTP request. `path` is below the server's prefix."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Answered:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


_trees: dict[int, tuple[Any, RouteTree[Any]]] = {}


def _tree_of(routes: Routes[Any]) -> RouteTree[Endpoint[Any]]:
    """Routes are declared once, at import, for all servers of a role."""
    key = tuple(id(endpoint.handler) for endpoint in routes)
    known = _trees.get(hash(key))
    if known is None:
        tree: RouteTree[Endpoint[Any]] = RouteTree()
        for endpoint in routes:
            tree.add(endpoint.method, endpoint.path, endpoint)
        known = _trees[hash(key)] = (key, tree)
    return known[1]


class Plane:
    """The public or the internal port of one server. `broken` hears of answers that only a bug can give."""

    def __init__(
        self,
        routes: Routes[Any],
        context: Any,
        verifier: Verifier,
        broken: Callable[[str, BaseException], None],
    ) -> None:
        self._tree = _tree_of(routes)
        self._context = context
        self._verifier = verifier
        self._broken = broken

    async def handle(self, asked: Asked) -> Answered:
        match, values, _ = self._tree.find(asked.method, asked.path)
        if match is None:
            self._broken(f"{asked.method} {asked.path}", LookupError("no such route"))
            return Answered(404, b"{}")
        endpoint = match.value
        names = dict(zip(match.names, (unquote(value) for value in values), strict=True))
        sending = _Sending(asked)
        request = Request(_scope(asked, names), sending.receive, sending.send)
        try:
            response = await self._respond(endpoint, request)
        except MoorageError as error:
            response = error_response(error, None)
            if response.status_code == 500 and not _may_be_late(asked, error):
                self._broken(f"{asked.method} {asked.path}", error)
        except Exception as error:
            self._broken(f"{asked.method} {asked.path}", error)
            return Answered(500, b"{}")
        await response(request.scope, sending.receive, sending.send)
        return sending.answered()

    async def _respond(self, endpoint: Endpoint[Any], request: Request) -> Response:
        claims = self._verifier.authenticate(endpoint.allow, request.headers.get("authorization"))
        call: Call[Any] = Call(self._context, request, claims)
        if endpoint.body is not None and not endpoint.raw:
            data = await read_body(request, endpoint.limit)
            if data or not endpoint.body_optional:
                call.body = decode_body(data, endpoint.body)
        answer = await endpoint.handler(call)
        return answer if isinstance(answer, Response) else json_response(answer)


def _may_be_late(asked: Asked, error: MoorageError) -> bool:
    """Whether it copies an object for a collector that has lost its turn, or a second time: since then the object may
    have been collected. Were it needed the witness would miss it.
    """
    return asked.path == "/internal/copy_object" and isinstance(error, DamagedChunkError)


def _scope(asked: Asked, names: dict[str, str]) -> dict[str, Any]:
    headers = [(name.lower().encode(), value.encode()) for name, value in asked.headers.items()]
    return {
        "type": "http",
        "method": asked.method,
        "path": asked.path,
        "path_params": names,
        "query_string": urlencode(asked.query).encode(),
        "headers": headers,
    }


class _Sending:
    """The two ends of an ASGI connection. An answer that was cut off is no answer."""

    def __init__(self, asked: Asked) -> None:
        self._body: bytes | None = asked.body
        self._status = 0
        self._parts: list[bytes] = []
        self._whole = False

    async def receive(self) -> dict[str, Any]:
        if self._body is None:
            await asyncio.get_running_loop().create_future()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        else:
            self._parts.append(bytes(message.get("body", b"")))
            self._whole = not message.get("more_body", False)

    def answered(self) -> Answered:
        if not self._whole:
            raise NoAnswerError("the answer was cut off")
        return Answered(self._status, b"".join(self._parts))


@dataclass(eq=False)
class Place:
    """Where a server of a role listens: whichever process runs there now, if any."""

    role: str
    process: Process | None = None
    public: Plane | None = None
    internal: Plane | None = None


class Network:
    def __init__(self, weather: Weather, note: Callable[[str], None]) -> None:
        self.weather = weather
        self.places: list[Place] = []
        self._note = note

    async def ask(self, place: Place, asked: Asked, *, internal: bool = False) -> Answered:
        """One attempt at one server; `NoAnswerError`."""
        weather = self.weather
        await asyncio.sleep(weather.pause())
        if weather.strikes(0.5):
            self._note(f"lost: {asked.method} {asked.path}")
            await asyncio.sleep(ANSWER_SECONDS)
            raise NoAnswerError("the request was lost")
        plane = place.internal if internal else place.public
        process = place.process
        if process is None or process.dead or plane is None:
            raise NoAnswerError("nobody listens")
        if weather.strikes(0.5):
            self._note(f"twice: {asked.method} {asked.path}")
            again = process.spawn(self._later(plane, asked))
            again.add_done_callback(_forget)
        handled = process.spawn(plane.handle(asked))
        done, _ = await asyncio.wait({handled}, timeout=PEER_SECONDS if internal else ANSWER_SECONDS)
        if not done:
            handled.add_done_callback(_forget)
            raise NoAnswerError("no answer in time")
        if handled.cancelled():
            raise NoAnswerError("the server died")
        answered = handled.result()
        await asyncio.sleep(weather.pause())
        if weather.strikes(0.5):
            self._note(f"answer lost: {asked.method} {asked.path}")
            raise NoAnswerError("the answer was lost")
        return answered

    async def _later(self, plane: Plane, asked: Asked) -> None:
        await asyncio.sleep(self.weather.rng.uniform(0, 10))
        await plane.handle(asked)

    def of_role(self, role: str) -> list[Place]:
        """All places of a role, in an order of chance."""
        found = [place for place in self.places if place.role == role]
        self.weather.rng.shuffle(found)
        return found


def _forget(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()


class SimulatedPeer(PeerClient):
    """A `PeerClient` whose requests go through the network."""

    def __init__(
        self, name: str, network: Network, signer: Signer, audience: Audience, metrics: Metrics
    ) -> None:
        self._name = name
        self._network = network
        self._audience = audience
        self._observer = metrics.store(f"peer_{name}")
        self._bearer = signer.sign(audience, signer.issuer, 1e9)

    def close(self) -> None:
        pass

    async def _send_to_any(
        self, method: str, path: str, body: bytes | None, deadline: float
    ) -> tuple[int, bytes]:
        target, _, query = path.partition("?")
        pairs = dict(pair.split("=", 1) for pair in query.split("&")) if query else {}
        asked = Asked(method, target, pairs, {"authorization": f"Bearer {self._bearer}"}, body or b"")
        for place in self._network.of_role(self._name):
            try:
                answered = await self._network.ask(place, asked, internal=True)
            except NoAnswerError:
                continue
            return answered.status, answered.body
        raise StoreUnavailableError(f"No {self._name} server can be reached.")


class SimulatedPeers(PeerDirectory):
    """Finds every role in the network, whatever the settings name."""

    def __init__(
        self, network: Network, signer: Signer, metrics: Metrics, *, has_notifier: bool = False
    ) -> None:
        super().__init__(Peers(notify=("http://notify",) if has_notifier else ()), signer, metrics)
        self._network = network

    def _client(self, name: str, owner: str, base_urls: Sequence[str], audience: Audience) -> PeerClient:
        client = self._clients.get((audience, owner))
        if client is None:
            client = SimulatedPeer(name, self._network, self._signer, audience, self._metrics)
            self._clients[audience, owner] = client
        return client
