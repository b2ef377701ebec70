"""How the API server is reached: as a pod's service account, or by a kubeconfig file."""

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from moorage_operator.kube.errors import KubeError

ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Connection:
    """`token_file` is read again as it changes; certificates are PEM. `namespace` is the operator's own."""

    server: str
    ca_pem: str | None = None
    token: str | None = None
    token_file: Path | None = None
    certificate_pem: str | None = None
    key_pem: str | None = None
    namespace: str = "default"

    def read_token(self) -> str | None:
        """The bearer token as it is now; a service account's is exchanged about every hour."""
        return self.token_file.read_text().strip() if self.token_file else self.token


def load_connection(
    environment: Mapping[str, str] = os.environ, account: Path = ACCOUNT_FOLDER
) -> Connection:
    """In a pod its service account, else the current context of KUBECONFIG. KubeError when there is neither."""
    host = environment.get("KUBERNETES_SERVICE_HOST")
    if host and (account / "token").is_file() and not environment.get("KUBECONFIG"):
        port = environment.get("KUBERNETES_SERVICE_PORT", "443")
        return Connection(
            f"https://{f'[{host}]' if ':' in host else host}:{port}",
            ca_pem=(account / "ca.crt").read_text(),
            token_file=account / "token",
            namespace=(account / "namespace").read_text().strip(),
        )
    path = Path(environment.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not path.is_file():
        raise KubeError(f"This is no pod with a service account, and there is no kubeconfig at {path}.")
    return parse_kubeconfig(path.read_text(), path.parent)


def parse_kubeconfig(text: str, folder: Path) -> Connection:
    """The current context of a kubeconfig; paths in it are relative to `folder`. KubeError when it cannot be used.

    Tokens and client certificates are supported, commands that print credentials are not.
    """
    config = yaml.safe_load(text)
    try:
        context = _named(config, "contexts", config["current-context"])["context"]
        cluster = _named(config, "clusters", context["cluster"])["cluster"]
        user = _named(config, "users", context["user"]).get("user") or {}
        return Connection(
            cluster["server"].rstrip("/"),
            ca_pem=_pem(cluster, "certificate-authority", folder),
            token=user.get("token"),
            token_file=folder / user["tokenFile"] if "tokenFile" in user else None,
            certificate_pem=_pem(user, "client-certificate", folder),
            key_pem=_pem(user, "client-key", folder),
            namespace=context.get("namespace", "default"),
        )
    except (KeyError, TypeError, StopIteration) as error:
        raise KubeError(f"The kubeconfig has no usable current context: {error!r}") from None


def build_ssl_context(connection: Connection) -> ssl.SSLContext | None:
    """None for plain HTTP."""
    if connection.server.startswith("http:"):
        return None
    context = ssl.create_default_context(cadata=connection.ca_pem)
    if connection.certificate_pem and connection.key_pem:
        # The library takes a client certificate from files only.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
            pem.write(connection.certificate_pem + "\n" + connection.key_pem)
            pem.flush()
            context.load_cert_chain(pem.name)
    return context


def _named(config: Any, section: str, name: str) -> Any:
    return next(entry for entry in config[section] if entry["name"] == name)


def _pem(section: Mapping[str, Any], field: str, folder: Path) -> str | None:
    if f"{field}-data" in section:
        return base64.b64decode(section[f"{field}-data"]).decode()
    return (folder / section[field]).read_text() if field in section else None
