"""`EtcdSpace`: whether a managed etcd has room. What members tell on their metrics port (plain HTTP, no keys), judged. Pure.

A full database takes no more writes and says so by an alarm, which stays until somebody takes it away.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from moorage_operator.status import Finding

NEAR = 0.8
"""Of the quota. Above it there is time left to act."""
_USED = re.compile(rb"^etcd_mvcc_db_total_size_in_bytes ([0-9.e+]+)$", re.MULTILINE)
_QUOTA = re.compile(rb"^etcd_server_quota_backend_bytes ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Space:
    """Of one member: the share of its quota that is used, and whether it has raised the alarm."""

    used: float
    full: bool


def parse_space(health: bytes, metrics: bytes) -> Space | None:
    """From `/health` and `/metrics`; None when they do not say."""
    used, quota = _USED.search(metrics), _QUOTA.search(metrics)
    if used is None or quota is None or float(quota[1]) <= 0:
        return None
    return Space(float(used[1]) / float(quota[1]), b"NOSPACE" in health)


def judge_space(spaces: Sequence[Space | None]) -> Finding:
    """The sentences hold no figures that would change all the time."""
    known = [space for space in spaces if space is not None]
    if not known:
        return Finding("EtcdSpace", "Unknown", "NotReached", "No member says how full it is.")
    if any(space.full for space in known):
        text = (
            "The database has reached its quota and takes no more writes. Make it smaller (delete, let the collector "
            "run, then `etcdctl defrag`) or raise etcd.managed.storage.size; then `etcdctl alarm disarm`."
        )
        return Finding("EtcdSpace", "False", "NoSpace", text)
    if any(space.used >= NEAR for space in known):
        text = (
            f"More than {NEAR:.0%} of the quota is used. Raise etcd.managed.storage.size (the quota follows up to "
            "8 GiB), or place new users on another cluster."
        )
        return Finding("EtcdSpace", "False", "NearQuota", text)
    return Finding("EtcdSpace", "True", "Enough", f"Less than {NEAR:.0%} of the quota is used.")
