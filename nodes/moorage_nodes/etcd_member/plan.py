"""How a member begins: found the cluster, go on with its data, or take the place of a member whose data is lost. Pure.

etcd's members vote by what they have written down. A member that has lost its data must not come back under its old id:
it would vote again on what it voted on before, and what a majority had acknowledged could be lost. So it is removed
and added anew, under a new id, which the others decide by a majority of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from moorage_nodes.etcd_member.settings import MemberSettings


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the cluster lists it. `started`: it has told the others where its clients reach it."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    started: bool


Beginning = Literal["resume", "found", "replace", "wait"]


def plan_beginning(
    me: str, settings: MemberSettings, *, has_data: bool, founded: bool, listed: Sequence[Member] | None
) -> Beginning:
    """`listed`: what the other members say, None when no majority answers.

    `found` only while the cluster was never seen healthy and does not know this member as one that has started.
    """
    if has_data:
        return "resume"
    if listed is None:
        return "wait" if founded else "found"
    mine = [member for member in listed if is_mine(me, settings, member)]
    if not founded and all(not member.started for member in mine) and mine:
        return "found"
    return "replace"


def is_mine(me: str, settings: MemberSettings, member: Member) -> bool:
    """By name, or by address for one that was added and never started."""
    return member.name == me or settings.peer_url(me) in member.peer_urls


def build_initial_cluster(settings: MemberSettings, listed: Sequence[Member] | None) -> str:
    """`name=url,…` for etcd: the founding members, or those that there are and the newcomer."""
    if listed is None:
        return ",".join(f"{member}={settings.peer_url(member)}" for member in settings.members)
    # A member that was added and has not started has no name yet; its address says who it will be.
    by_url = {settings.peer_url(member): member for member in settings.members}
    return ",".join(f"{by_url.get(url, member.name)}={url}" for member in listed for url in member.peer_urls)


def build_etcd_conf(
    me: str, settings: MemberSettings, state: Literal["new", "existing"], initial_cluster: str
) -> dict[str, Any]:
    """The content of etcd's `--config-file`. Who it is said to begin with is ignored by a member that has data."""
    listen = settings.listen_host

    def security(folder: str) -> dict[str, Any]:
        return {
            "cert-file": f"{folder}/tls.crt",
            "key-file": f"{folder}/tls.key",
            "trusted-ca-file": f"{folder}/ca.crt",
            "client-cert-auth": True,
        }

    return {
        "name": me,
        "data-dir": settings.data_dir,
        "listen-client-urls": f"https://{listen}:{settings.client_port}",
        "advertise-client-urls": settings.client_url(me),
        "listen-peer-urls": f"https://{listen}:{settings.peer_port}",
        "initial-advertise-peer-urls": settings.peer_url(me),
        "listen-metrics-urls": settings.metrics_url,
        "initial-cluster": initial_cluster,
        "initial-cluster-state": state,
        "initial-cluster-token": settings.token,
        "client-transport-security": security(settings.tls.server),
        # Members are known by who signed their certificates, an authority of theirs alone; a pod's address need not
        # be in DNS yet when it connects.
        "peer-transport-security": {**security(settings.tls.peer), "skip-client-san-verification": True},
        "quota-backend-bytes": settings.quota_bytes,
        # Readers of an older revision start over, so history is kept for minutes only.
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "5m",
        "log-level": "warn",
    }
