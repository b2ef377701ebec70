"""What a member of a managed etcd is told before it starts: JSON, mounted, written by the operator."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from moorage.core.errors import InvalidFieldError


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Tls(_Section, frozen=True, kw_only=True):
    """Folders with `ca.crt`, `tls.crt` and `tls.key`. `client` is how this program asks the other members."""

    server: str
    peer: str
    client: str


class MemberSettings(_Section, frozen=True, kw_only=True):
    """`members`: the names that the cluster is founded with, in order. `host` has `{member}` in it.

    `state_file` says `true` once the cluster has been seen healthy: from then on nobody founds it again.
    `conf_file` is what is written for etcd's `--config-file`. Ports are equal for all members; `metrics_url` is where
    this member's probes are answered.
    """

    role: Literal["etcd-member"]
    token: str
    members: Annotated[tuple[str, ...], Meta(min_length=1)]
    host: str
    client_port: int
    peer_port: int
    metrics_url: str
    listen_host: str = "0.0.0.0"  # noqa: S104 - a pod's own network
    data_dir: str
    conf_file: str
    state_file: str
    tls: Tls
    quota_bytes: int
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def client_url(self, member: str) -> str:
        return f"https://{self.host.format(member=member)}:{self.client_port}"

    def peer_url(self, member: str) -> str:
        return f"https://{self.host.format(member=member)}:{self.peer_port}"


def load_member_settings(path: Path) -> MemberSettings:
    """OSError when it cannot be read, InvalidFieldError when it is wrong."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=MemberSettings)
    except msgspec.DecodeError as error:
        raise InvalidFieldError(f"The settings file is wrong: {error}", field="settings") from None
