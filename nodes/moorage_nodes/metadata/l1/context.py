"""What L1's handlers have at hand, and who calls them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec import Struct

from moorage.core.ids import parse_id, resolve_root_alias
from moorage.core.routing import RoutingTable, choose_host, l2_prefix
from moorage_nodes.livefile import LiveFile
from moorage_nodes.lru import Lru
from moorage_nodes.metadata.admission import refuse_other_cluster
from moorage_nodes.metadata.l1.deletions import Deletions
from moorage_nodes.metadata.l1.directories import Listings
from moorage_nodes.metadata.l1.repeats import HEADER, Repeat, parse_repeat, plan_once
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata.view import Plan
from moorage_nodes.settings import Cluster
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.tokens import Signer, Verifier
from moorage_nodes.web import Call, header_of

T = TypeVar("T")
LISTINGS_BYTES = 16 * 1024 * 1024  # of encoded listings that a process keeps


@dataclass(slots=True)
class L1:
    """One L1 server. `clock` gives Unix seconds; `rng` makes ids and must be unpredictable outside of tests."""

    cluster: Cluster
    incarnation: str
    store: MetadataStore
    namespaces: Namespaces
    deletions: Deletions
    routing: LiveFile[RoutingTable]
    signer: Signer
    verifier: Verifier
    clock: Callable[[], float]
    rng: random.Random
    listings: Listings = field(default_factory=lambda: Lru(LISTINGS_BYTES))
    servers_answers: dict[tuple[int, str, str | None], bytes] = field(default_factory=dict)

    def new_id(self) -> str:
        """An id that nobody has used or will guess."""
        return f"{self.rng.getrandbits(96):024x}"

    def l2_name(self, asked_host: str | None) -> str:
        """The cluster's L2, as the client of a request with this `Host` reaches it."""
        return choose_host(self.routing.value, asked_host) + l2_prefix(self.cluster.server_key)


class Caller(Struct, frozen=True):
    """The user who asks. `namespace` is the user id, `generation` that of the user's tokens."""

    namespace: str
    username: str
    generation: object = None

    def node_id(self, text: str, field: str) -> str:
        """An id of a node; the root's aliases are resolved."""
        return resolve_root_alias(parse_id(text, field), user_id=self.namespace, username=self.username)


def caller_of(call: Call[L1]) -> Caller:
    """Who asks; `WrongClusterError` when this cluster is not the user's home. The first line of every handler."""
    server = call.server
    refuse_other_cluster(
        call.claims, server.cluster.server_key, server.routing.value, header_of(call.request, b"host")
    )
    return Caller(call.claims.subject, call.claims.text("username"), call.claims.data.get("gen"))


def repeat_of(call: Call[L1], operation: str, *arguments: object) -> Repeat | None:
    """The request's `Idempotency-Key`, bound to what it asks for."""
    return parse_repeat(header_of(call.request, HEADER), operation, *arguments)


async def change(server: L1, caller: Caller, plan: Plan[T], repeat: Repeat | None, kind: type[T]) -> T:
    """Carry out a plan once, or answer as the request did that came under the same key (see `plan_once`)."""
    return await server.namespaces.change(
        caller.namespace, plan_once(plan, repeat, kind), request="" if repeat is None else repeat.key
    )
