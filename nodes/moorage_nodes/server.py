"""What a role module offers and what it is given.

A role module has `async def open_server(settings: Settings, shared: Shared) -> Server`. It opens its stores and
names its routes; `moorage_nodes.app` serves them, probes them and closes them.
"""

import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from moorage.core.routing import RoutingTable, parse_routing_table
from moorage_nodes.generation import GenerationCache
from moorage_nodes.livefile import LiveFile
from moorage_nodes.metrics import Metrics
from moorage_nodes.peers import PeerDirectory
from moorage_nodes.settings import Settings
from moorage_nodes.tokens import Signer, Verifier
from moorage_nodes.trust import TrustStore, parse_trust
from moorage_nodes.web import Routes

C = TypeVar("C")
Check = Callable[[], Awaitable[None]]


async def _close_nothing() -> None:
    return


def _drain_nothing() -> None:
    return


async def _nothing_to_say() -> dict[str, Any]:
    return {}


@dataclass(slots=True)
class Shared:
    """What every server has, whatever its role. `metrics` is the observer that stores are opened with.

    `clock` gives unix seconds and `rng` randomness; logic that depends on either takes them from here.
    `generations` is None where no peer tells users' generations: the auth servers, and tests.
    """

    settings: Settings
    routing: LiveFile[RoutingTable]
    trust: LiveFile[TrustStore]
    signer: Signer
    verifier: Verifier
    peers: PeerDirectory
    generations: GenerationCache | None
    metrics: Metrics
    clock: Callable[[], float] = time.time
    rng: random.Random = field(default_factory=secrets.SystemRandom)
    live_files: list[LiveFile[Any]] = field(default_factory=list)

    def follow(self, live: LiveFile[Any]) -> None:
        """Have a file of the role's own (credentials) polled with the others."""
        self.live_files.append(live)


@dataclass(slots=True, kw_only=True)
class Server(Generic[C]):
    """One role, opened. `context` is what handlers get as `call.server`.

    `public` routes are served below `prefix` on the public port, `unprefixed` at its root; `internal` routes
    at the root of the internal port, beside the probes. Each of `checks` raises unless what it names can be
    reached; `/readyz` runs them. `status` adds to `/status`. `drain` is called once, before the
    last requests are waited for: what waits for news is to be answered then. `close` is called once, after them.
    """

    context: C
    prefix: str
    public: Routes[C]
    internal: Routes[C] = field(default_factory=Routes)
    unprefixed: Routes[C] = field(default_factory=Routes)
    checks: dict[str, Check] = field(default_factory=dict)
    status: Callable[[], Awaitable[dict[str, Any]]] = _nothing_to_say
    drain: Callable[[], None] = _drain_nothing
    close: Callable[[], Awaitable[None]] = _close_nothing


def open_shared(settings: Settings, *, clock: Callable[[], float] = time.time) -> Shared:
    """Read the files that the settings name. OSError or InvalidFieldError when one is missing or bad."""
    routing = LiveFile(Path(settings.routing_file), parse_routing_table)
    trust = LiveFile(Path(settings.trust_file), parse_trust)
    key = LiveFile(Path(settings.signing_key_file), _parse_bytes)
    signer = Signer(key.value, settings.role, clock)
    key.subscribe(signer.replace)
    verifier = Verifier(trust.value, clock)
    trust.subscribe(verifier.replace_trust)
    metrics = Metrics()
    peers = PeerDirectory(settings.peers, signer, metrics)
    return Shared(
        settings=settings,
        routing=routing,
        trust=trust,
        signer=signer,
        verifier=verifier,
        peers=peers,
        generations=_open_generations(settings, peers),
        metrics=metrics,
        clock=clock,
        live_files=[routing, trust, key],
    )


def _parse_bytes(data: bytes) -> bytes:
    return data


def _open_generations(settings: Settings, peers: PeerDirectory) -> GenerationCache | None:
    if settings.role == "block":
        return GenerationCache(peers.l3)
    if settings.role != "auth" and settings.peers.auth:
        return GenerationCache(lambda _key: peers.auth())
    return None
