"""The rule by which a client that was offline converges (docs/sync-rule.md). Pure: no I/O, no clocks.

`plan_sync` makes a plan from three trees; `apply_page` folds `/changes` into the remote one.
"""

from moorage.core.sync.feed import (
    Change,
    ChangesPage,
    Feed,
    apply_changes,
    apply_page,
    parse_entry,
    start_feed,
)
from moorage.core.sync.plan import plan_sync
from moorage.core.sync.steps import Problem, ProblemKind, Reason, SyncPlan
from moorage.core.sync.trees import (
    Kind,
    LocalEntry,
    LocalPath,
    LocalTree,
    RemoteNode,
    RemoteTree,
    State,
    SyncedNode,
    SyncedTree,
)

__all__ = [
    "Change",
    "ChangesPage",
    "Feed",
    "Kind",
    "LocalEntry",
    "LocalPath",
    "LocalTree",
    "Problem",
    "ProblemKind",
    "Reason",
    "RemoteNode",
    "RemoteTree",
    "State",
    "SyncPlan",
    "SyncedNode",
    "SyncedTree",
    "apply_changes",
    "apply_page",
    "parse_entry",
    "plan_sync",
    "start_feed",
]
