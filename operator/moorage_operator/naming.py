"""Names of parts, one rule for both targets: processes on one machine, Deployments and Services in a cluster.

A service is one role of one owner (`l1-main`); its servers are numbered (`l1-main-0`). Pure.
"""

from typing import Literal

Tier = Literal["l1", "l2", "l3"]

AUTH = "auth"
METADATA_TIERS: tuple[Tier, ...] = ("l1", "l2", "l3")


def tier_service(tier: str, server_key: str) -> str:
    return f"{tier}-{server_key}"


def block_service(pool: str) -> str:
    return f"block-{pool}"


def notify_service(notifier: str) -> str:
    return f"notify-{notifier}"


def gc_service(server_key: str) -> str:
    return f"gc-{server_key}"


def check_service(server_key: str) -> str:
    """Whom fsck and scrub of a metadata cluster speak as."""
    return f"check-{server_key}"


def replica_name(service: str, number: int) -> str:
    return f"{service}-{number}"


def bucket_name(pool: str) -> str:
    """The bucket of a pool whose store is run for it."""
    return f"moorage-{pool}"


def auth_prefix() -> str:
    """What the keys of users and placement begin with in the etcd that they share with a cluster."""
    return "/moorage/auth/"


def metadata_prefix(server_key: str) -> str:
    """What the keys of a metadata cluster begin with: two clusters may share one etcd."""
    return f"/moorage/meta/{server_key}/"


def notifier_prefix(notifier: str) -> str:
    """What the keys of a notifier begin with in the etcd that it may share with a cluster."""
    return f"/moorage/notify/{notifier}/"
