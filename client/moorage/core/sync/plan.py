"""The rule by which a client that was offline converges: three trees in, a plan out."""

from moorage.core.sync.carry import Carrier
from moorage.core.sync.decide import decide
from moorage.core.sync.pairing import pair_trees
from moorage.core.sync.steps import SyncPlan
from moorage.core.sync.trees import LocalTree, RemoteTree, SyncedTree


def plan_sync(
    local: LocalTree,
    synced: SyncedTree,
    remote: RemoteTree,
    *,
    after_restore: bool = False,
    device: str,
    date: str,
) -> SyncPlan:
    """What to do, in order, so that both sides become the same and nothing changed here is lost.

    Pure, total and deterministic. `device` and `date` (`2026-11-03`) go into the names of conflict copies.
    `after_restore`: the feed was reset with the reason `restored` (`Feed.after_restore`); nothing is deleted or
    overwritten here then. `remote` must be whole (`Feed.complete`).

    A plan carried out is followed by an empty one; one that was cut short anywhere by one that ends alike.
    """
    pairing = pair_trees(local, synced, remote, after_restore=after_restore, device=device)
    decide(pairing, date=date)
    return Carrier(pairing, synced).plan()
