"""One namespace's turn in a collection: what all its steps work with."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec import Struct

from moorage_nodes.gc.budget import Budget
from moorage_nodes.gc.heads import NamespaceHead
from moorage_nodes.gc.pools import Pools
from moorage_nodes.gc.report import Report
from moorage_nodes.stores.contracts import MetadataStore

Pause = Callable[[], Awaitable[None]]
"""Called now and then on the way: keeps the tenure, and stands back for others."""


class Horizons(Struct, frozen=True, kw_only=True):
    """Revisions: what was last written at or before one of them is at least as old as its setting says."""

    grace: int
    upload_idle: int
    upload_max: int
    deleted: int
    feed: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceRun:
    """`retained`: versions of a file whose content is kept. `rng` names uploads and objects."""

    store: MetadataStore
    head: NamespaceHead
    pools: Pools
    horizons: Horizons
    retained: int
    budget: Budget
    report: Report
    rng: random.Random
    pause: Pause
    dry_run: bool

    @property
    def namespace(self) -> str:
        return self.head.namespace
