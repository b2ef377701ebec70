"""The routing table of one AccessPoint: which server names exist, under which prefix.

One value; `/get_servers`, the NGINX configuration, the Ingress and the HTTPRoute are pure functions of it.
It is data that the operator writes and servers read as a mounted file (DESIGN.md, Parts).
"""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from moorage.core.wire import ServerLists, ServersAnswer


class ClusterRoute(Struct, frozen=True, kw_only=True):
    """One metadata cluster: its pools in order of preference for new bytes (`write_pools` ⊆ `pools`)."""

    server_key: str
    pools: tuple[str, ...]
    write_pools: tuple[str, ...]
    notifiers: tuple[str, ...] = ()


class RoutingTable(Struct, frozen=True, kw_only=True):
    """`hosts` are the `host[:port]` under which clients reach the realm; the first is the canonical one.

    `revision` rises with every change and is reported by each server in `/readyz`.
    """

    revision: int
    hosts: tuple[str, ...]
    clusters: tuple[ClusterRoute, ...]

    def cluster(self, server_key: str) -> ClusterRoute | None:
        return next((c for c in self.clusters if c.server_key == server_key), None)


def meta_prefix(server_key: str) -> str:
    return f"/meta/{server_key}"


def l2_prefix(server_key: str) -> str:
    return f"/meta/{server_key}/l2"


def l3_prefix(server_key: str) -> str:
    return f"/meta/{server_key}/l3"


def block_prefix(pool: str) -> str:
    return f"/block/{pool}"


def notify_prefix(name: str) -> str:
    return f"/notify/{name}"


def choose_host(table: RoutingTable, asked_host: str | None) -> str:
    """The host of the request where it is one of ours (names must be reachable from where the client is)."""
    return asked_host if asked_host in table.hosts else table.hosts[0]


def build_server_lists(cluster: ClusterRoute, host: str) -> ServerLists:
    return ServerLists(
        meta_servers=[host + meta_prefix(cluster.server_key)],
        block_servers=[host + block_prefix(pool) for pool in cluster.pools],
        auth_server=host,
        notification_servers=[host + notify_prefix(name) for name in cluster.notifiers],
    )


def build_servers_answer(
    table: RoutingTable, *, asked_host: str | None, server_key: str | None = None
) -> ServersAnswer:
    """The answer of `GET /get_servers`; with `server_key` only that cluster's lists (empty if unknown)."""
    host = choose_host(table, asked_host)
    clusters = {
        c.server_key: build_server_lists(c, host)
        for c in table.clusters
        if server_key is None or c.server_key == server_key
    }
    lists = clusters.values()
    return ServersAnswer(
        meta_servers=_merged(names.meta_servers for names in lists),
        block_servers=_merged(names.block_servers for names in lists),
        auth_server=host,
        notification_servers=_merged(names.notification_servers for names in lists),
        clusters=clusters,
    )


def _merged(lists: Iterable[list[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in lists for name in names))


def parse_routing_table(data: bytes) -> RoutingTable:
    return msgspec.json.decode(data, type=RoutingTable)
