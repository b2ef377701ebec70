"""Whether a pool holds anything of a cluster, by what its block servers and the cluster's L3 servers say. Pure.

First the block servers take no new chunks of the cluster, all of them, by a routing table that says so (docs/adr/0023-pools-let-go.md).
When what was under way then has had its time, etcd's revision is noted; what a complete collection
counts that began later holds. What is not known is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from moorage.core.routing import RoutingTable
from moorage_operator.reconcile.servers import RegistryReport, StoringReport
from moorage_operator.reconcile.verdicts import ASK_SECONDS, POLL_SECONDS, Verdict, why_unknown

QUIET_SECONDS = 120.0
"""More than a call between servers or a request to etcd takes, and than a pod that ends is given."""


@dataclass(frozen=True, slots=True)
class Question:
    """A pool, and the cluster (its name and server key) that names it no more; `collector` is its CronJob."""

    pool: str
    cluster: str
    server_key: str
    collector: str


def judge_chunks(
    question: Question,
    announced: RoutingTable,
    storing: Sequence[StoringReport | None],
    registry: Sequence[RegistryReport | None],
    closed_for: float | None,
    mark: int | None,
) -> Verdict:
    """`storing` and `registry` are of every block server of the pool and L3 server of the cluster that there is, all of
    them of the newest settings; `announced` is the routing table that servers are to have. `closed_for` and `mark`: as
    the last verdict had them.
    """
    route = announced.cluster(question.server_key)
    if route is not None and question.pool in route.write_pools:
        return _open(question, "the routes are about to change")
    unknown = why_unknown("block", storing)
    if unknown is not None:
        return _open(question, f"could not be asked: {unknown}, which is tried again by itself")
    known = [report for report in storing if report is not None]
    if any(question.server_key in one.takes or one.routing < announced.revision for one in known):
        return _open(question, "block servers take up the new routes first")
    if closed_for is None or closed_for < QUIET_SECONDS:
        return _closed(question, "what was under way is waited for", ASK_SECONDS, None)
    told = [report for report in registry if report is not None]
    if not told:
        return _closed(question, "no L3 server answered, which is tried again by itself", ASK_SECONDS, mark)
    if mark is None:
        mark = max(report.revision for report in told)
    counted = [report.left for report in told if report.left is not None and report.began >= mark]
    left = next((one[question.pool] for one in counted if question.pool in one), None)
    if left is None:
        why = (
            f"its next complete collection counts them; `kubectl create job --from=cronjob/{question.collector} "
            f"{question.collector}-now` begins one"
        )
        return _closed(question, why, POLL_SECONDS, mark)
    if not left.chunks and not left.objects:
        return Verdict(None, closed=True, again=None, mark=mark)
    why = (
        f"the last collection of MetadataCluster/{question.cluster} left {left.chunks} chunks and {left.objects} "
        "objects in it (once there are none it goes by itself)"
    )
    return Verdict(why, closed=True, again=POLL_SECONDS, mark=mark)


def may_hold(cluster: str, because: str) -> str:
    """The middle of a sentence."""
    return f"it may hold chunks of MetadataCluster/{cluster} ({because})"


def _open(question: Question, because: str) -> Verdict:
    return Verdict(may_hold(question.cluster, because), closed=False, again=ASK_SECONDS)


def _closed(question: Question, because: str, again: float, mark: int | None) -> Verdict:
    return Verdict(may_hold(question.cluster, because), closed=True, again=again, mark=mark)
