"""Is this metadata cluster the caller's home? A cluster that is not says which one is (PROTOCOL.md, 421)."""

from moorage.core.routing import RoutingTable
from moorage_nodes.admission import build_wrong_cluster
from moorage_nodes.tokens import Claims


def refuse_other_cluster(
    claims: Claims, server_key: str, table: RoutingTable, asked_host: str | None
) -> None:
    """`WrongClusterError` with the right server names unless the token's `server_key` is ours."""
    home = claims.text("server_key")
    if home != server_key:
        raise build_wrong_cluster(home, table, asked_host)
