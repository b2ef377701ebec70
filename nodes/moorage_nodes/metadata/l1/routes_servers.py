"""`GET /get_servers`: any L1 server of any cluster answers for the whole realm (PROTOCOL.md, Discovery)."""

import msgspec
from starlette.responses import Response

from moorage.core.routing import build_servers_answer, choose_host
from moorage.core.wire import ServersAnswer
from moorage_nodes.metadata.l1.context import L1
from moorage_nodes.tokens import Allow, Audience
from moorage_nodes.web import Call, Routes

ANYBODY = Allow(frozenset({Audience.ACCESS}), public=True)

routes: Routes[L1] = Routes()


@routes.get("/get_servers", allow=ANYBODY, answer=ServersAnswer)
async def get_servers(call: Call[L1]) -> Response:
    """The servers of all clusters, or of one: `?server_key=`, else the cluster of the bearer token's user."""
    server_key = call.query("server_key")
    if server_key is None and call.claims.audience is not None:
        server_key = call.claims.text("server_key")
    host = call.request.headers.get("host")
    return Response(servers_answer(call.server, host, server_key), media_type="application/json")


def servers_answer(server: L1, asked_host: str | None, server_key: str | None) -> bytes:
    """The encoded answer, kept for each host and cluster until the routing table changes."""
    table = server.routing.value
    host = choose_host(table, asked_host)
    if server_key is not None and table.cluster(server_key) is None:
        server_key = ""  # one answer for all unknown ones: what is kept stays bounded
    question = table.revision, host, server_key
    answer = server.servers_answers.get(question)
    if answer is None:
        if any(revision != table.revision for revision, _, _ in server.servers_answers):
            server.servers_answers.clear()
        answer = msgspec.json.encode(build_servers_answer(table, asked_host=host, server_key=server_key))
        server.servers_answers[question] = answer
    return answer
