"""Revisions of the live files, and the order in which routes come and go. Pure.

Routes reach the proxy before servers announce them, and leave it after servers have ceased to. So there are two
tables: the proxy's holds what is announced now and what shall be; the servers' changes when the proxy serves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from moorage.core.routing import ClusterRoute, RoutingTable


@dataclass(frozen=True, slots=True)
class Tables:
    announced: RoutingTable
    proxied: RoutingTable

    def hold(self, wanted: RoutingTable) -> bool:
        """Whether both say what is wanted, and no more: a route that goes is still in both at first."""
        return same_routes(self.announced, wanted) and same_routes(self.proxied, wanted)


def same_routes(first: RoutingTable, second: RoutingTable) -> bool:
    """Whether they say the same, whatever their revisions are."""
    return msgspec.structs.replace(first, revision=0) == msgspec.structs.replace(second, revision=0)


def plan_tables(
    wanted: RoutingTable,
    announced: RoutingTable | None,
    proxied: RoutingTable | None,
    proxy_serves: int | None,
    servers_announce: int | None,
) -> Tables:
    """The next pair of tables. `proxy_serves`, `servers_announce`: the oldest revision that any ready one of them
    reports; None while that is not known. The revision of `wanted` is not looked at. Idempotent.
    """
    if announced is None:
        # Nothing runs yet, so nobody can be told of a route too early.
        first = _revised(wanted, proxied)
        return Tables(first, first)
    target = _union(wanted, announced)
    if proxied is None or not _covers(proxied, target):
        return Tables(announced, _revised(target, proxied, announced))
    if not same_routes(wanted, announced):
        if proxy_serves is None or proxy_serves < proxied.revision:
            return Tables(announced, proxied)
        return Tables(_revised(wanted, announced, proxied), proxied)
    if same_routes(wanted, proxied):
        return Tables(announced, proxied)
    if servers_announce is None or servers_announce < announced.revision:
        return Tables(announced, proxied)
    return Tables(announced, _revised(wanted, proxied, announced))


def _revised(table: RoutingTable, *before: RoutingTable | None) -> RoutingTable:
    """With a revision above those before it, or the revision of the one that says the same already."""
    first = before[0] if before else None
    if first is not None and same_routes(table, first):
        return first
    highest = max((one.revision for one in before if one is not None), default=0)
    return msgspec.structs.replace(table, revision=highest + 1)


def _union(wanted: RoutingTable, announced: RoutingTable) -> RoutingTable:
    old = {cluster.server_key: cluster for cluster in announced.clusters}
    merged = [_merge(cluster, old.pop(cluster.server_key, None)) for cluster in wanted.clusters]
    return RoutingTable(revision=0, hosts=wanted.hosts, clusters=(*merged, *old.values()))


def _merge(wanted: ClusterRoute, old: ClusterRoute | None) -> ClusterRoute:
    if old is None:
        return wanted
    return ClusterRoute(
        server_key=wanted.server_key,
        pools=tuple(dict.fromkeys((*wanted.pools, *old.pools))),
        write_pools=wanted.write_pools,
        notifiers=tuple(dict.fromkeys((*wanted.notifiers, *old.notifiers))),
    )


def _covers(proxied: RoutingTable, target: RoutingTable) -> bool:
    """Whether every route of `target` is there already."""
    if proxied.hosts != target.hosts:
        return False
    there = {cluster.server_key: cluster for cluster in proxied.clusters}
    return all(
        cluster.server_key in there
        and set(cluster.pools) <= set(there[cluster.server_key].pools)
        and set(cluster.notifiers) <= set(there[cluster.server_key].notifiers)
        for cluster in target.clusters
    )


def parse_table(text: str | None) -> RoutingTable | None:
    """The table of a live file; None when there is none, or nothing that can be read."""
    try:
        return None if text is None else msgspec.json.decode(text, type=RoutingTable)
    except msgspec.DecodeError:
        return None


def revise_trust(trust: Mapping[str, Any], live: Mapping[str, Any] | None, floor: int) -> dict[str, Any]:
    """The trust file with the live one's revision when it says the same, else with one above it and `floor`."""
    if live is not None and live.get("keys") == trust["keys"] and isinstance(live.get("revision"), int):
        return {**trust, "revision": live["revision"]}
    known = live.get("revision", 0) if live is not None else 0
    return {**trust, "revision": max(known if isinstance(known, int) else 0, floor) + 1}
