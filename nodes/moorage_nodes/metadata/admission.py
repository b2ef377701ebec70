"""Is this metadata cluster the caller's home? A cluster that is not says which one is (PROTOCOL.md, 421)."""

import msgspec

from moorage.core.errors import WrongClusterError
from moorage.core.routing import RoutingTable, build_server_lists, choose_host
from moorage_nodes.tokens import Claims


def refuse_other_cluster(
    claims: Claims, server_key: str, table: RoutingTable, asked_host: str | None
) -> None:
    """`WrongClusterError` with the right server names unless the token's `server_key` is ours."""
    home = claims.text("server_key")
    if home == server_key:
        return
    cluster = table.cluster(home)
    lists = (
        {}
        if cluster is None
        else msgspec.to_builtins(build_server_lists(cluster, choose_host(table, asked_host)))
    )
    raise WrongClusterError(
        f"This user's files are on the metadata cluster {home!r}; ask the servers named here.",
        server_key=home,
        **lists,
    )
