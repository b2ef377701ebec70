"""Which metadata cluster a new user lives on, for good."""

import random
from collections.abc import Sequence

from moorage.core.errors import InvalidFieldError, NoClusterError
from moorage_nodes.settings import Placement


def plan_placement(clusters: Sequence[Placement], rng: random.Random) -> str:
    """The `server_key` of a cluster that accepts new users, by weight. Pure but for `rng`.

    NoClusterError when none does.
    """
    open_clusters = [cluster for cluster in clusters if cluster.accept_new_users and cluster.weight > 0]
    if not open_clusters:
        raise NoClusterError("No metadata cluster accepts new users.")
    (chosen,) = rng.choices(open_clusters, weights=[cluster.weight for cluster in open_clusters])
    return chosen.server_key


def check_server_key(clusters: Sequence[Placement], server_key: str) -> str:
    """`server_key` where it names a cluster of this realm, whether or not that accepts new users by itself."""
    if all(cluster.server_key != server_key for cluster in clusters):
        raise InvalidFieldError("`server_key` names no metadata cluster of this realm.", field="server_key")
    return server_key
