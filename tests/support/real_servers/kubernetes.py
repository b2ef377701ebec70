"""A real kube-apiserver over a real etcd for tests: no kubelet, no scheduler, no controllers.

So Deployments stay as they are written and pods never become ready by themselves: tests set what the controllers
would set. Everything that the API server itself does is real: schemas and CEL, server-side apply, field ownership,
watches, RBAC, the audit log.
"""

import contextlib
import dataclasses
import datetime as dt
import ipaddress
import json
import os
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from moorage_operator.local.tools import ensure_kube_apiserver
from real_servers.engines import run_etcd
from real_servers.server import Server, free_ports, scratch_folder

ADMIN = "admin"
OPERATOR = "operator"
"""A user without any right but what a test gives it by RBAC."""
_LONGEST_LINE = 1024 * 1024  # of the audit log, in bytes


@dataclasses.dataclass
class ApiServer:
    """`tokens`: bearer token by user name. `audit_log` has one JSON event a line, response complete."""

    url: str
    ca_file: Path
    tokens: dict[str, str]
    audit_log: Path
    server: Server
    folder: Path
    etcd_endpoint: str

    def compact(self, revision: int) -> None:
        """Make etcd forget what was before `revision`: watches from before it are too old."""
        request = urllib.request.Request(
            f"http://{self.etcd_endpoint}/v3/kv/compaction",
            data=json.dumps({"revision": str(revision), "physical": True}).encode(),
        )
        with urllib.request.urlopen(request, timeout=30):
            pass

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        user: str = ADMIN,
    ) -> tuple[int, Any]:
        """One call as `user`: status and decoded answer, whatever they are."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.tokens[user]}", "Content-Type": content_type},
        )
        context = ssl.create_default_context(cafile=str(self.ca_file))
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as response:
                status, text = response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode()

    def kubeconfig(self, user: str = ADMIN) -> Path:
        """A kubeconfig file for `user`."""
        path = self.folder / f"kubeconfig-{user}.json"
        name = "moorage-test"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [
                {"name": name, "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}
            ],
            "users": [{"name": name, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        }
        path.write_text(json.dumps(config))
        return path

    def audit_position(self) -> int:
        """Where the audit log ends now: behind a whole line, though another one may be on its way."""
        if not self.audit_log.exists():
            return 0
        with self.audit_log.open("rb") as log:
            start = max(0, log.seek(0, os.SEEK_END) - _LONGEST_LINE)
            log.seek(start)
            return start + log.read().rfind(b"\n") + 1

    def audit_events(self, since: int = 0) -> list[dict[str, Any]]:
        """The requests that were answered after `since`."""
        with self.audit_log.open("rb") as log:
            log.seek(since)
            whole = log.read().rpartition(b"\n")[0]
            return [json.loads(line) for line in whole.splitlines()]


@contextlib.contextmanager
def run_api_server(*options: str) -> Iterator[ApiServer]:
    with run_etcd() as etcd, scratch_folder("kube") as folder:
        (port,) = free_ports(1)
        _write_certificates(folder)
        tokens = {ADMIN: secrets.token_hex(16), OPERATOR: secrets.token_hex(16)}
        lines = [
            f'{tokens[ADMIN]},{ADMIN},{ADMIN},"system:masters"',
            f"{tokens[OPERATOR]},{OPERATOR},{OPERATOR}",
        ]
        (folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        (folder / "audit-policy.json").write_text(json.dumps(_AUDIT_POLICY))
        settings: Mapping[str, str | Path | int] = {
            "etcd-servers": f"http://{etcd.endpoint}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": port,
            "tls-cert-file": folder / "server.crt",
            "tls-private-key-file": folder / "server.key",
            "client-ca-file": folder / "server.crt",
            "cert-dir": folder / "certs",
            "token-auth-file": folder / "tokens.csv",
            "authorization-mode": "RBAC",
            # Every test makes Services in a namespace of its own, and none is ever collected.
            "service-cluster-ip-range": "10.64.0.0/16",
            "service-account-issuer": "https://moorage-test.invalid",
            "service-account-key-file": folder / "accounts.pub",
            "service-account-signing-key-file": folder / "accounts.key",
            # What needs controllers that do not run here.
            "disable-admission-plugins": "ServiceAccount",
            "endpoint-reconciler-type": "none",
            "audit-policy-file": folder / "audit-policy.json",
            "audit-log-path": folder / "audit.log",
            "audit-log-mode": "blocking",
            "profiling": "false",
            # Watches of this kind go to etcd itself, so that a test can have one that is too old.
            "watch-cache-sizes": "podtemplates#0",
            "etcd-compaction-interval": "0",
            "v": "0",
        }
        command: list[str | Path] = [ensure_kube_apiserver(print)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        command += options
        url = f"https://127.0.0.1:{port}"
        running = ApiServer(
            url,
            folder / "server.crt",
            tokens,
            folder / "audit.log",
            Server(command, folder, lambda: _is_ready(running), start_seconds=180),
            folder,
            etcd.endpoint,
        )
        running.server.start()
        try:
            yield running
        finally:
            running.server.kill()


_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}


def _is_ready(running: ApiServer) -> bool:
    try:
        ready, _ = running.request("GET", "/readyz")
        namespace, _ = running.request("GET", "/api/v1/namespaces/default")
    except OSError:
        return False
    return ready == 200 and namespace == 200


def _write_certificates(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "moorage-test")])
    now = dt.datetime.now(dt.UTC)
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(_private_pem(key))
    accounts = ec.generate_private_key(ec.SECP256R1())
    (folder / "accounts.key").write_bytes(_private_pem(accounts))
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "accounts.pub").write_bytes(public)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
