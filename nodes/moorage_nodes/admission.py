"""Whose home is where: a server that is not the caller's names those that are (PROTOCOL.md, 421)."""

import msgspec

from moorage.core.errors import WrongClusterError
from moorage.core.routing import RoutingTable, build_server_lists, choose_host


def build_wrong_cluster(home: str, table: RoutingTable, asked_host: str | None) -> WrongClusterError:
    """`home` is the server key of the caller's metadata cluster."""
    cluster = table.cluster(home)
    lists = (
        {}
        if cluster is None
        else msgspec.to_builtins(build_server_lists(cluster, choose_host(table, asked_host)))
    )
    return WrongClusterError(
        f"This user's files are on the metadata cluster {home!r}; ask the servers named here.",
        server_key=home,
        **lists,
    )
