"""The one settings file of a server (DESIGN.md, Parts): JSON, mounted, written by the operator or `moorage up`.

Static settings only: a change means a new process. The live files (routing table, trust) are named by path and
followed while running. Secrets are never in here: they are files of their own, named by path.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from moorage.core.errors import InvalidFieldError

Role = Literal["auth", "l1", "l2", "l3", "block", "notify", "gc"]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[int, Meta(ge=1)]


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Listen(_Section, frozen=True, kw_only=True):
    """`public` serves the routes below the server's prefix; `internal` probes, metrics and peers' calls."""

    host: str
    public: Port
    internal: Port


class Etcd(_Section, frozen=True, kw_only=True):
    """`prefix` comes before every key of ours. TLS when `ca_file` is set."""

    endpoints: Annotated[tuple[str, ...], Meta(min_length=1)]
    prefix: str = "/moorage/"
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class S3(_Section, frozen=True, kw_only=True):
    """`credentials_file` is JSON `{"access_key_id", "secret_access_key"}`, or the folder of a mounted Secret with a
    file of each name; read again when it changes.
    """

    endpoint: str
    region: str = "us-east-1"
    bucket: str
    prefix: str = ""
    credentials_file: str
    ca_file: str | None = None


class Cluster(_Section, frozen=True, kw_only=True):
    """What a metadata server knows of its own cluster. Times in seconds."""

    server_key: str
    upload_idle: Seconds = 24 * 3600
    upload_max: Seconds = 7 * 24 * 3600
    retained_versions: Annotated[int, Meta(ge=1)] = 20
    retained_deleted: Annotated[int, Meta(ge=0)] = 30 * 24 * 3600
    retained_feed: Seconds = 90 * 24 * 3600


class Gc(_Section, frozen=True, kw_only=True):
    """The collector. `schedule`: cron, in UTC, for who runs by it; `grace` in seconds; `max_deletions` in one
    run: of old versions, of what is in the trash, of chunk records, and of objects.
    """

    schedule: str = "17 3 * * *"
    grace: Seconds = 24 * 3600
    dry_run: bool = False
    max_deletions: Annotated[int, Meta(ge=1)] = 100_000


class Placement(_Section, frozen=True, kw_only=True):
    """A metadata cluster that new users may be placed on."""

    server_key: str
    weight: Annotated[int, Meta(ge=0)] = 1
    accept_new_users: bool = True


class Auth(_Section, frozen=True, kw_only=True):
    admin_token_file: str
    token_ttl: Seconds = 900
    refresh_ttl: Seconds = 30 * 24 * 3600
    clusters: tuple[Placement, ...]
    throttle_failures: Annotated[int, Meta(ge=1)] = 10
    throttle_window: Seconds = 300


class Notify(_Section, frozen=True, kw_only=True):
    """`name` is the notifier's own. `ack_deadline`: seconds that a deletion waits for its clients; `queue_limit`:
    deletions that wait for one client before it is told to start over instead.
    """

    name: str
    ack_deadline: Seconds = 24 * 3600
    queue_limit: Annotated[int, Meta(ge=1)] = 10_000


class Peers(_Section, frozen=True, kw_only=True):
    """Base URLs of the internal ports of those this server calls; any replica will do. `l1`, `l2` and `l3` are by
    server key, `block` by pool; `notify` is the cluster's notifier, if it has one.
    """

    auth: tuple[str, ...] = ()
    l1: dict[str, tuple[str, ...]] = {}
    l2: dict[str, tuple[str, ...]] = {}
    l3: dict[str, tuple[str, ...]] = {}
    block: dict[str, tuple[str, ...]] = {}
    notify: tuple[str, ...] = ()


class Settings(_Section, frozen=True, kw_only=True):
    """`signing_key_file`: this component's private key (PEM). `trust_file`: whose tokens it accepts for what."""

    role: Role
    name: str
    listen: Listen
    routing_file: str
    trust_file: str
    signing_key_file: str
    drain_seconds: Annotated[float, Meta(ge=0)] = 2.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    etcd: Etcd | None = None  # auth, l1, l2, l3, notify, gc
    cluster: Cluster | None = None  # l1, l2, l3, gc
    gc: Gc | None = None  # gc
    auth: Auth | None = None  # auth
    pool: str | None = None  # block
    s3: S3 | None = None  # block
    notify: Notify | None = None  # notify
    peers: Peers = Peers()


class CheckSettings(_Section, frozen=True, kw_only=True):
    """Of `moorage-nodes fsck` and `scrub`, which check one metadata cluster and serve nothing.

    `peers.block` names the pools whose bytes are checked. `scrub_bytes_per_second`: how fast a scrub reads.
    """

    role: Literal["check"]
    name: str
    etcd: Etcd
    cluster: Cluster
    signing_key_file: str
    peers: Peers = Peers()
    scrub_bytes_per_second: Annotated[int, Meta(ge=1024)] = 16 * 1024 * 1024
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def parse_check_settings(data: bytes) -> CheckSettings:
    try:
        return msgspec.json.decode(data, type=CheckSettings)
    except msgspec.DecodeError as error:
        raise InvalidFieldError(f"The settings file is wrong: {error}", field="settings") from None


def load_check_settings(path: Path) -> CheckSettings:
    return parse_check_settings(path.read_bytes())


def parse_settings(data: bytes) -> Settings:
    try:
        return msgspec.json.decode(data, type=Settings)
    except msgspec.DecodeError as error:
        raise InvalidFieldError(f"The settings file is wrong: {error}", field="settings") from None


def load_settings(path: Path) -> Settings:
    return parse_settings(path.read_bytes())
