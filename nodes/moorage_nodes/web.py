"""HTTP for all servers: routes that name whom they let in, bounded bodies, one error shape, one handler path.

A route is declared with `Routes.get/post/put/delete`; `build_app` makes the ASGI application of one plane (public or
internal) of one server. Handlers take a `Call` and return an answer struct or a Response; bodies are decoded by
msgspec. FastAPI describes the routes (description.py); requests reach them directly, since its dependency solving,
unused here, costs more than the rest of a request (docs/adr/0003-direct-dispatch.md).
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.core.errors import (
    InvalidFieldError,
    MalformedError,
    MethodNotAllowedError,
    MoorageError,
    NotFoundError,
    RangeError,
    ThrottledError,
    TooLargeError,
    UnauthenticatedError,
    http_status,
)
from moorage_nodes.dispatch import RouteTree
from moorage_nodes.http_protocol import CUT
from moorage_nodes.incoming import Incoming
from moorage_nodes.sockets import Socket, refuse
from moorage_nodes.tokens import Allow, Audience, Claims, Verifier

C = TypeVar("C")
DEFAULT_BODY_LIMIT = 64 * 1024
USER_AUDIENCES = frozenset({Audience.ACCESS, Audience.UPLOAD, Audience.DOWNLOAD})


@dataclass(slots=True)
class Call(Generic[C]):
    """One request: the server's context, who asks, and the decoded body (None when the route takes none)."""

    server: C
    request: Request
    claims: Claims
    body: Any = None

    def path(self, name: str) -> str:
        value: str = self.request.path_params[name]
        return value

    def query(self, name: str) -> str | None:
        return self.request.query_params.get(name)

    def query_int(self, name: str, *, low: int, high: int) -> int | None:
        """A query parameter as an integer within [low, high]; None when absent."""
        text = self.query(name)
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,16}", text) or not low <= int(text) <= high:
            raise InvalidFieldError(f"`{name}` must be an integer from {low} to {high}.", field=name)
        return int(text)


Handler = Callable[[Call[C]], Awaitable["Struct | Response"]]
SocketHandler = Callable[[Socket[C]], Awaitable[None]]
WEBSOCKET = "WEBSOCKET"  # in the place of a method


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[C]):
    method: str
    path: str
    handler: Handler[C]
    allow: Allow
    body: type | None
    body_optional: bool
    answer: type | None
    limit: int
    raw: bool


@dataclass(frozen=True, slots=True)
class SocketEndpoint(Generic[C]):
    path: str
    handler: SocketHandler[C]
    allow: Allow


@dataclass
class Routes(Generic[C]):
    """The routes of one plane. `allow` has no default: a route that does not say whom it lets in cannot exist.

    `body`: the type that the JSON body is decoded into; `limit`: its largest size in bytes, checked before
    decoding; `raw=True`: the handler reads the body itself (streams), and `body`, if any, only describes it.
    """

    endpoints: list[Endpoint[C]] = field(default_factory=list)
    sockets: "list[SocketEndpoint[C]]" = field(default_factory=list)

    def add(
        self,
        method: str,
        path: str,
        *,
        allow: Allow,
        body: type | None = None,
        body_optional: bool = False,
        answer: type | None = None,
        limit: int = DEFAULT_BODY_LIMIT,
        raw: bool = False,
    ) -> Callable[[Handler[C]], Handler[C]]:
        def register(handler: Handler[C]) -> Handler[C]:
            self.endpoints.append(
                Endpoint(method, path, handler, allow, body, body_optional, answer, limit, raw)
            )
            return handler

        return register

    def get(
        self, path: str, *, allow: Allow, answer: type | None = None
    ) -> Callable[[Handler[C]], Handler[C]]:
        return self.add("GET", path, allow=allow, answer=answer)

    def post(self, path: str, **options: Any) -> Callable[[Handler[C]], Handler[C]]:
        return self.add("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[Handler[C]], Handler[C]]:
        return self.add("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[Handler[C]], Handler[C]]:
        return self.add("DELETE", path, **options)

    def websocket(self, path: str, *, allow: Allow) -> Callable[[SocketHandler[C]], SocketHandler[C]]:
        """A WebSocket; the same path without the upgrade is refused with 400."""

        def register(handler: SocketHandler[C]) -> SocketHandler[C]:
            async def upgrade_required(_call: Call[C]) -> Response:
                raise MalformedError("This is a WebSocket: connect with `Upgrade: websocket`.")

            upgrade_required.__doc__ = handler.__doc__
            self.sockets.append(SocketEndpoint(path, handler, allow))
            self.add("GET", path, allow=allow)(upgrade_required)
            return handler

        return register

    def __iter__(self) -> Iterator[Endpoint[C]]:
        return iter(self.endpoints)


def header_of(connection: HTTPConnection, name: bytes) -> str | None:
    """The first header of that name (in small letters). `connection.headers` looks at each in a slower way, and every
    request is asked for several.
    """
    for known, value in connection.scope["headers"]:
        if known == name:
            text: str = value.decode("latin-1")
            return text
    return None


def refuse_encoding(request: Request) -> None:
    """Bodies are what they are: bytes that came compressed would be kept, and hashed, as they came."""
    encoding = header_of(request, b"content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise MalformedError("A body is taken as it is: no `Content-Encoding`.")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; `TooLargeError` as soon as it is known to exceed `limit`, before it is in memory."""
    refuse_encoding(request)
    declared = header_of(request, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise TooLargeError(f"The body is {declared} bytes; at most {limit} are accepted here.", limit=limit)
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLargeError(
                f"The body exceeds {limit} bytes, the most that is accepted here.", limit=limit
            )
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decode_body(data: bytes | bytearray, kind: type) -> Any:
    """JSON into `kind`: 400 when it is not JSON, 422 with the field's path when it is the wrong JSON."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        raise InvalidFieldError(f"{message}.", field=path.removesuffix("`") or "$") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"The body is not valid JSON: {error}") from None
    except RecursionError:
        raise MalformedError("The body is nested too deeply.") from None


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


def error_response(error: MoorageError, request_id: str | None) -> Response:
    headers = {}
    if isinstance(error, ThrottledError):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, UnauthenticatedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeError) and "size" in error.extra:
        headers["Content-Range"] = f"bytes */{error.extra['size']}"
    return json_response({**error.as_answer(), "request_id": request_id}, http_status(error), headers)


def note_error(scope: Scope, error: MoorageError) -> None:
    """For the access line. Without its traceback, whose frames hold the request and its body: that would be a circle,
    and they would stay until Python's collector comes by.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    scope["moorage.error"] = error


def request_id_of(request: HTTPConnection) -> str | None:
    """Set by the observing middleware (moorage_nodes.observe)."""
    value: str | None = request.scope.get("moorage.request_id")
    return value


class Revocation(Protocol):
    """Whether a user's token is still good: `moorage_nodes.generation.GenerationCache`."""

    def passes(self, claims: Claims) -> bool: ...

    async def check(self, claims: Claims) -> None: ...


@dataclass(frozen=True, slots=True)
class Mount(Generic[C]):
    """Routes below a path prefix (empty, or `/...`), and the context their handlers get as `call.server`."""

    prefix: str
    routes: Routes[C]
    server: C


Handle = Callable[[Request], Awaitable["Response | bytes"]]
"""Bytes are JSON, answered with 200: what most requests are answered with, sent without a Response of its own."""
SocketHandle = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may come in: what a route allows, judged by the verifier and, for users, by their generation."""

    verifier: Verifier
    revocation: Revocation | None

    async def admit(self, allow: Allow, connection: HTTPConnection) -> Claims:
        claims = self.verifier.authenticate(allow, header_of(connection, b"authorization"))
        revocation = self.revocation
        if revocation is not None and claims.audience in USER_AUDIENCES and not revocation.passes(claims):
            await revocation.check(claims)
        return claims


def _handle_of(endpoint: Endpoint[C], server: C, admission: Admission) -> Handle:
    async def handle(request: Request) -> Response | bytes:
        try:
            claims = await admission.admit(endpoint.allow, request)
            call = Call(server, request, claims)
            if endpoint.body is not None and not endpoint.raw:
                data = await read_body(request, endpoint.limit)
                if data or not endpoint.body_optional:
                    call.body = decode_body(data, endpoint.body)
            answer = await endpoint.handler(call)
        except MoorageError as error:
            note_error(request.scope, error)
            return error_response(error, request_id_of(request))
        return answer if isinstance(answer, Response) else msgspec.json.encode(answer)

    return handle


def _socket_handle_of(endpoint: SocketEndpoint[C], server: C, admission: Admission) -> SocketHandle:
    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # that it wants to connect
        connection = HTTPConnection(scope)
        try:
            claims = await admission.admit(endpoint.allow, connection)
            await endpoint.handler(Socket(server, connection, claims, receive, send))
        except MoorageError as error:
            note_error(scope, error)
            await refuse(send, error, request_id_of(connection))

    return handle


class _Dispatcher:
    """ASGI: every request to its handler; unknown paths and methods answer in the shape of every other error."""

    def __init__(self, tree: RouteTree[Handle], sockets: RouteTree[SocketHandle]) -> None:
        self._tree = tree
        self._sockets = sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._upgrade(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served here")
        incoming = Incoming(scope, receive)
        request = Request(scope, incoming, send)
        match, values, allowed = self._tree.find(scope["method"], scope["path"])
        if CUT in scope:
            error: MoorageError = MalformedError("A request with a body cannot ask for an upgrade.")
            response: Response | bytes = error_response(error, request_id_of(request))
        elif match is not None:
            scope["moorage.route"] = match.template
            scope["path_params"] = dict(zip(match.names, values, strict=True))
            response = await match.value(request)
        elif allowed:
            error = MethodNotAllowedError(f"{scope['method']} is not allowed here.")
            response = error_response(error, request_id_of(request))
            response.headers["Allow"] = ", ".join(allowed)
        else:
            response = error_response(_nothing_here(), request_id_of(request))
        await incoming.let_pass()
        if isinstance(response, bytes):
            await _send_json(send, response)
        else:
            await response(scope, incoming, send)

    async def _upgrade(self, scope: Scope, receive: Receive, send: Send) -> None:
        match, _, _ = self._sockets.find(WEBSOCKET, scope["path"])
        if match is None:
            await refuse(send, _nothing_here(), request_id_of(HTTPConnection(scope)))
            return
        scope["moorage.route"] = match.template
        await match.value(scope, receive, send)


async def _send_json(send: Send, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _nothing_here() -> NotFoundError:
    return NotFoundError("There is nothing at this path.")


def build_app(
    mounts: Sequence[Mount[Any]], *, verifier: Verifier, revocation: Revocation | None = None
) -> ASGIApp:
    """The application of one plane. With `revocation`, tokens of users are checked by it once they are verified.

    ValueError when two routes are the same.
    """
    tree: RouteTree[Handle] = RouteTree()
    sockets: RouteTree[SocketHandle] = RouteTree()
    admission = Admission(verifier, revocation)
    for mount in mounts:
        for socket in mount.routes.sockets:
            upgrade = _socket_handle_of(socket, mount.server, admission)
            sockets.add(WEBSOCKET, mount.prefix + socket.path, upgrade)
        for endpoint in mount.routes:
            handle = _handle_of(endpoint, mount.server, admission)
            tree.add(endpoint.method, mount.prefix + endpoint.path, handle)
    return _Dispatcher(tree, sockets)
