"""The settings file of the proxy: JSON, mounted, written by the operator. Static; the configuration it names is live."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from moorage.core.errors import InvalidFieldError
from moorage_nodes.settings import Port

Seconds = Annotated[float, Meta(ge=0)]


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Listen(_Section, frozen=True, kw_only=True):
    """Where probes and metrics are answered. `status`: the loopback port where NGINX tells its revision."""

    host: str
    internal: Port
    status: Port


class Tls(_Section, frozen=True, kw_only=True):
    """The mounted certificate and key, and the folder (of memory) from which NGINX reads them: the configuration
    names `<folder>/current/tls.crt` and `tls.key`.
    """

    cert_file: str
    key_file: str
    folder: str


class ProxySettings(_Section, frozen=True, kw_only=True):
    """`conf_file`: the mounted nginx.conf, followed. `directory`: writable, for NGINX's own files.

    `drain_seconds`: how long requests are still taken after SIGTERM; `finish_seconds`: how long those in flight have
    after that.
    """

    role: Literal["proxy"]
    listen: Listen
    conf_file: str
    directory: str
    tls: Tls | None = None
    nginx: str = "nginx"
    drain_seconds: Seconds = 5.0
    finish_seconds: Seconds = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load_proxy_settings(path: Path) -> ProxySettings:
    """OSError when it cannot be read, InvalidFieldError when it is wrong."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ProxySettings)
    except msgspec.DecodeError as error:
        raise InvalidFieldError(f"The settings file is wrong: {error}", field="settings") from None
