"""The public face as a pure function of the routing table: routes, and the configuration of NGINX for them.

`moorage up` and the operator's own NGINX use the same text. NGINX only chooses a server: it decides nothing about
requests that a server decides better, and it rewrites no path, so servers see each URI as the client sent it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from moorage.core.routing import (
    RoutingTable,
    block_prefix,
    l2_prefix,
    l3_prefix,
    meta_prefix,
    notify_prefix,
)
from moorage_operator.naming import AUTH, block_service, notify_service, tier_service

METADATA_BODY_MIB = 64
"""More than any server of metadata takes (each route has its own, smaller limit and says so in its answer)."""
ROOT_NOTIFY_PATHS = ("/ws", "/poll", "/ack_deletion")
"""Routed at the host's root too where there is one notifier (PROTOCOL.md, Discovery and login)."""
ALLOWED_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
"""Of all routes together: what each takes a server says."""
KNOWN_METHODS = (*ALLOWED_METHODS, "PATCH", "OPTIONS")

_SAFE_WORD = re.compile(r"[A-Za-z0-9_./:\[\]-]+")


@dataclass(frozen=True, slots=True)
class Route:
    """Requests for `path` go to any server of `services`; one that ends in `/` stands for itself and all below it.

    `streams`: bodies of any size pass through as they come. `upgrades`: WebSockets do too.
    """

    path: str
    services: tuple[str, ...]
    streams: bool = False
    upgrades: bool = False


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """How NGINX runs here. `directory` takes its pid file and the bodies that do not fit into memory.

    `user`: whom the workers run as when NGINX is started by root; None where it is not. `tls_folder`: where
    `current/tls.crt` and `current/tls.key` are; None for plain HTTP. `status`: a loopback address where the revision
    of the routes is told. `shutdown_seconds`: how long workers that are replaced may finish what they have.
    """

    listen: tuple[str, ...]
    directory: str
    workers: int = 2
    user: str | None = None
    tls_folder: str | None = None
    status: str | None = None
    shutdown_seconds: int = 10


def build_routes(table: RoutingTable) -> tuple[Route, ...]:
    """Every public path of the realm. Probes, metrics and peers' routes are on ports that are not in here."""
    l1_services = tuple(tier_service("l1", cluster.server_key) for cluster in table.clusters)
    routes = [Route("/auth/", (AUTH,)), Route("/get_servers", l1_services)]
    for cluster in table.clusters:
        key = cluster.server_key
        for tier, prefix in (("l1", meta_prefix(key)), ("l2", l2_prefix(key)), ("l3", l3_prefix(key))):
            routes.append(Route(f"{prefix}/", (tier_service(tier, key),)))
    pools = dict.fromkeys(pool for cluster in table.clusters for pool in cluster.pools)
    routes += [Route(f"{block_prefix(pool)}/", (block_service(pool),), streams=True) for pool in pools]
    notifiers = list(dict.fromkeys(name for cluster in table.clusters for name in cluster.notifiers))
    prefixes = {f"{notify_prefix(name)}/": name for name in notifiers}
    if len(notifiers) == 1:
        prefixes |= dict.fromkeys(ROOT_NOTIFY_PATHS, notifiers[0])
    routes += [
        Route(path, (notify_service(name),), upgrades=path.endswith(("/", "/ws")))
        for path, name in prefixes.items()
    ]
    return tuple(routes)


def build_nginx_conf(
    table: RoutingTable, upstreams: Mapping[str, Sequence[str]], settings: ProxySettings
) -> str:
    """The whole nginx.conf. `upstreams`: service → its servers as `host:port`; every service of a route is needed.

    ValueError when a name could not stand in the file as it is, or a service has no servers.
    """
    routes = build_routes(table)
    groups = {services: _upstream_name(services) for services in dict.fromkeys(r.services for r in routes)}
    lines = [
        *_main_section(settings, table.revision),
        "http {",
        *_indented(_http_section(settings)),
        *_indented(line for services in groups for line in _upstream(groups[services], services, upstreams)),
        "    server {",
        *_indented(_server_section(settings), 2),
        *_indented((line for route in routes for line in _location(route, groups[route.services])), 2),
        *_indented(_answers_of_our_own(), 2),
        "    }",
        *_indented(_status_server(settings, table.revision)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _indented(lines: Iterator[str] | Sequence[str], depth: int = 1) -> Iterator[str]:
    return ("    " * depth + line if line else "" for line in lines)


def _checked(word: str) -> str:
    if not _SAFE_WORD.fullmatch(word):
        raise ValueError(f"{word!r} cannot stand in an NGINX configuration")
    return word


def _quoted(path: str) -> str:
    if re.search(r"[\x00-\x1f\"\\$]", path):
        raise ValueError(f"{path!r} cannot stand in an NGINX configuration")
    return f'"{path}"'


def _main_section(settings: ProxySettings, revision: int) -> Iterator[str]:
    yield "# Written by moorage from the routing table; changes by hand are lost."
    yield f"# routing revision {revision}"
    yield "daemon off;"
    if settings.user is not None:
        yield f"user {_checked(settings.user)};"
    yield f"worker_processes {settings.workers};"
    yield "worker_rlimit_nofile 16384;"
    yield f"worker_shutdown_timeout {settings.shutdown_seconds}s;"
    yield f"pid {_quoted(settings.directory + '/nginx.pid')};"
    yield "error_log stderr error;"
    yield ""
    yield "events {"
    yield "    worker_connections 8192;"
    yield "}"
    yield ""


def _http_section(settings: ProxySettings) -> Iterator[str]:
    yield "server_tokens off;"
    yield "# No type by a path's ending: what is answered from here is JSON, whatever was asked for."
    yield "types {"
    yield "}"
    yield "default_type application/json;"
    yield "# Each server writes an access line of its own, without queries and headers."
    yield "access_log off;"
    for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        yield f"{name}_temp_path {_quoted(f'{settings.directory}/{name}')};"
    yield ""
    yield "# A client that sends or takes its bytes too slowly holds a connection for this long, no server."
    yield "client_header_timeout 10s;"
    yield "client_body_timeout 30s;"
    yield "send_timeout 30s;"
    yield "reset_timedout_connection on;"
    yield "keepalive_timeout 65s;"
    yield "keepalive_requests 10000;"
    yield "large_client_header_buffers 4 16k;"
    yield "ignore_invalid_headers on;"
    yield "underscores_in_headers off;"
    yield ""
    yield "# Requests of metadata are small JSON: taken in whole first, so that slow senders cost the servers nothing"
    yield "# and a request can go to another server when the first one dies. The limit only bounds what is held here."
    yield "client_body_buffer_size 1m;"
    yield f"client_max_body_size {METADATA_BODY_MIB}m;"
    yield ""
    yield "proxy_http_version 1.1;"
    yield "proxy_connect_timeout 2s;"
    yield "proxy_send_timeout 30s;"
    yield "proxy_read_timeout 75s;"
    yield "# Every call may be repeated (PROTOCOL.md, Errors), so one that a server did not answer goes to the next."
    yield "proxy_next_upstream error timeout non_idempotent;"
    yield "proxy_next_upstream_tries 2;"
    yield "proxy_next_upstream_timeout 10s;"
    yield "# Answers pass through memory, never through files."
    yield "proxy_buffer_size 16k;"
    yield "proxy_buffers 16 64k;"
    yield "proxy_busy_buffers_size 512k;"
    yield "proxy_max_temp_file_size 0;"
    yield "proxy_redirect off;"
    yield 'proxy_set_header Connection "";'
    yield from _forwarded_headers()
    yield ""
    yield "map $http_x_request_id $moorage_request_id {"
    yield '    "~^[A-Za-z0-9_.-]{1,64}$" $http_x_request_id;'
    yield "    default $request_id;"
    yield "}"
    yield ""
    yield "# Only where a route upgrades; elsewhere connections to servers are kept open."
    yield "map $http_upgrade $moorage_connection {"
    yield "    ~*^websocket$ upgrade;"
    yield '    default "";'
    yield "}"
    yield ""


def _forwarded_headers() -> Iterator[str]:
    yield "proxy_set_header Host $http_host;"
    yield "proxy_set_header X-Request-Id $moorage_request_id;"
    yield "# Set, not appended to: what a client claims about itself is not passed on."
    yield "proxy_set_header X-Forwarded-For $remote_addr;"
    yield "proxy_set_header X-Forwarded-Proto $scheme;"
    yield 'proxy_set_header Forwarded "";'


def _upstream_name(services: tuple[str, ...]) -> str:
    return services[0] if len(services) == 1 else "get_servers"


def _upstream(name: str, services: tuple[str, ...], upstreams: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield f"upstream {_checked(name)} {{"
    for service in services:
        servers = upstreams.get(service, ())
        if not servers:
            raise ValueError(f"{service} has no servers")
        # No server is ever marked as down: with so few of them that would refuse requests after recovery.
        yield from (f"    server {_checked(server)} max_fails=0;" for server in servers)
    yield "    keepalive 64;"
    yield "    keepalive_requests 100000;"
    yield "    keepalive_timeout 60s;"
    yield "}"
    yield ""


def _server_section(settings: ProxySettings) -> Iterator[str]:
    tls = settings.tls_folder
    options = "default_server" if tls is None else "ssl default_server"
    yield from (f"listen {_checked(address)} {options};" for address in settings.listen)
    if tls is not None:
        yield f"ssl_certificate {_quoted(tls + '/current/tls.crt')};"
        yield f"ssl_certificate_key {_quoted(tls + '/current/tls.key')};"
        yield "ssl_protocols TLSv1.2 TLSv1.3;"
        yield "ssl_session_cache shared:tls:4m;"
        yield "ssl_session_timeout 1h;"
        yield "ssl_session_tickets off;"
    yield "server_name _;"
    yield "merge_slashes off;"
    yield "# The servers' parser knows no other methods and would answer in a shape of its own."
    yield f"if ($request_method !~ ^({'|'.join(KNOWN_METHODS)})$) {{"
    yield "    return 405;"
    yield "}"
    yield ""


def _status_server(settings: ProxySettings, revision: int) -> Iterator[str]:
    """The revision as the workers themselves know it, for who runs NGINX."""
    if settings.status is None:
        return
    yield "server {"
    yield f"    listen {_checked(settings.status)};"
    yield "    location / {"
    yield f"        return 200 '{revision}';"
    yield "    }"
    yield "}"


def _location(route: Route, upstream: str) -> Iterator[str]:
    # Without a URI behind its name, `proxy_pass` hands on the request line as it came.
    body = [f"proxy_pass http://{upstream};"]
    if route.streams:
        # The block servers bound bodies themselves while they stream: a limit here would be a second truth.
        body += [
            "client_max_body_size 0;",
            "client_body_buffer_size 256k;",
            "proxy_request_buffering off;",
        ]
    if route.upgrades:
        # Naming one header drops those of the level above: all are named again.
        body += [
            "proxy_set_header Upgrade $http_upgrade;",
            "proxy_set_header Connection $moorage_connection;",
            *_forwarded_headers(),
        ]
    path = _checked(route.path)
    # Below a prefix alone, NGINX would answer the path without its slash with a redirect of its own.
    exact = path.rstrip("/")
    for match in (f"= {exact}", f"^~ {path}") if path != exact else (f"= {exact}",):
        yield f"location {match} {{"
        yield from _indented(body)
        yield "}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """An error that NGINX answers itself, in the shape of all others (PROTOCOL.md, Errors)."""

    name: str
    when: tuple[int, ...]
    status: int
    word: str
    detail: str
    header: str | None = None


_ANSWERS = (
    _Answer("malformed", (400, 501, 505), 400, "malformed", "The request cannot be understood."),
    _Answer(
        "not_allowed",
        (405,),
        405,
        "method_not_allowed",
        "This method is not allowed here.",
        f'Allow "{", ".join(ALLOWED_METHODS)}"',
    ),
    _Answer(
        "too_large",
        (413,),
        413,
        "too_large",
        f"The body exceeds {METADATA_BODY_MIB} MiB, the most that is accepted here.",
    ),
    _Answer("long_uri", (414,), 414, "malformed", "The path and query are too long."),
    _Answer("large_headers", (431, 494), 431, "malformed", "The header fields are too large."),
    _Answer("internal", (500,), 500, "internal", "Something went wrong here; it has been logged."),
    _Answer(
        "unavailable",
        (502, 503, 504),
        503,
        "store_unavailable",
        "No server can be reached. Nothing was acknowledged; send the same request again.",
        "Retry-After 1",
    ),
)


def _answers_of_our_own() -> Iterator[str]:
    nothing = _Answer("nothing", (404,), 404, "not_found", "There is nothing at this path.")
    yield "location / {"
    yield from _indented(_return(nothing))
    yield "}"
    # By path: a named location cannot answer a request whose own path could not be read.
    for answer in (nothing, *_ANSWERS):
        yield f"error_page {' '.join(map(str, answer.when))} = /-error/{answer.name};"
    for answer in (nothing, *_ANSWERS):
        yield f"location = /-error/{answer.name} {{"
        yield "    internal;"
        yield from _indented(_return(answer))
        yield "}"


def _return(answer: _Answer) -> Iterator[str]:
    body = json.dumps(
        {"error": answer.word, "detail": answer.detail, "request_id": "$moorage_request_id"},
        separators=(",", ":"),
    )
    yield "add_header X-Request-Id $moorage_request_id always;"
    if answer.header is not None:
        yield f"add_header {answer.header} always;"
    yield f"return {answer.status} '{body}';"
