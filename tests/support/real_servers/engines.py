"""How each server is started for a test."""

import contextlib
import dataclasses
import http.client
import json
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path

from minio import Minio
from moorage_operator.local.tools import ensure_etcd, ensure_minio, ensure_seaweedfs
from real_servers.server import Server, free_ports, scratch_folder


@dataclasses.dataclass
class Etcd:
    endpoint: str  # host:port
    server: Server


@dataclasses.dataclass
class S3:
    """`new_bucket` makes an empty bucket of a name nobody else has."""

    engine: str
    endpoint: str  # http://host:port
    access_key_id: str
    secret_access_key: str
    server: Server

    @property
    def credentials(self) -> dict[str, str]:
        return {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key}

    def new_bucket(self) -> str:
        host = self.endpoint.removeprefix("http://")
        admin = Minio(
            host,
            access_key=self.access_key_id,
            secret_key=self.secret_access_key,
            secure=False,
            region="us-east-1",
        )
        bucket = f"test-{secrets.token_hex(6)}"
        admin.make_bucket(bucket)
        return bucket


@contextlib.contextmanager
def run_etcd(*options: str, scheme: str = "http") -> Iterator[Etcd]:
    """`options` go to etcd as they are; with `scheme` https they must name its certificate."""
    with scratch_folder("etcd") as folder:
        client, peer, probe = free_ports(3)
        url, peer_url = f"{scheme}://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        command: list[str | Path] = [
            ensure_etcd(print),
            "--data-dir",
            folder / "data",
            "--log-level",
            "error",
        ]
        command += ["--listen-client-urls", url, "--advertise-client-urls", url]
        command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
        command += ["--listen-metrics-urls", f"http://127.0.0.1:{probe}"]
        command += ["--initial-cluster", f"default={peer_url}", *options]
        server = Server(command, folder, lambda: _answers(probe, "/readyz"))
        server.start()
        try:
            yield Etcd(f"127.0.0.1:{client}", server)
        finally:
            server.kill()


@contextlib.contextmanager
def run_seaweedfs() -> Iterator[S3]:
    key, secret = "moorage-test", secrets.token_urlsafe(24)
    with scratch_folder("seaweedfs") as folder:
        # It adds 10,000 to its HTTP ports for gRPC unless told; the S3 gateway also wants a gRPC port of its own.
        s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc, admin, admin_grpc = (
            free_ports(10)
        )
        identities = folder / "s3.json"
        identity = {"name": "test", "credentials": [{"accessKey": key, "secretKey": secret}]}
        identities.write_text(json.dumps({"identities": [identity | {"actions": ["Admin"]}]}))
        identities.chmod(0o600)
        options = {
            "dir": folder / "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.port": master,
            "master.port.grpc": master_grpc,
            "master.telemetry": "false",
            "volume.port": volume,
            "volume.port.grpc": volume_grpc,
            "filer.port": filer,
            "filer.port.grpc": filer_grpc,
            "filer.localSocket": folder / "filer.sock",
            "admin.port": admin,
            "admin.port.grpc": admin_grpc,
            "admin.ui": "false",
            "s3.port": s3,
            "s3.port.grpc": s3_grpc,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": folder / "s3.sock",
            "s3.config": identities,
            "s3.autoCreateBucket": "false",
            "s3.allowDeleteBucketNotEmpty": "false",
            "webdav": "false",
        }
        (folder / "data").mkdir()
        command: list[str | Path] = [ensure_seaweedfs(print), "mini"]
        command += [f"-{name}={value}" for name, value in options.items()]
        server = Server(command, folder, lambda: _answers(s3, "/healthz"))
        server.start()
        try:
            yield S3("seaweedfs", f"http://127.0.0.1:{s3}", key, secret, server)
        finally:
            server.kill()


@contextlib.contextmanager
def run_minio(certificates: Path | None = None) -> Iterator[S3]:
    """`certificates`: a folder with `public.crt` and `private.key`, for TLS."""
    key, secret = "moorage-test", secrets.token_urlsafe(24)
    with scratch_folder("minio") as folder:
        (port,) = free_ports(1)
        credentials = folder / "minio.env"
        credentials.write_text(f"MINIO_ROOT_USER={key}\nMINIO_ROOT_PASSWORD={secret}\nMINIO_BROWSER=off\n")
        credentials.chmod(0o600)
        command: list[str | Path] = [
            "/usr/bin/env",
            f"MINIO_CONFIG_ENV_FILE={credentials}",
            ensure_minio(print),
        ]
        command += ["server", "--quiet", "--address", f"127.0.0.1:{port}"]
        command += ["--certs-dir", certificates or folder / "certs", folder / "data"]
        tls = certificates is not None
        server = Server(command, folder, lambda: _answers(port, "/minio/health/ready", tls=tls))
        server.start()
        try:
            yield S3("minio", f"http{'s' if tls else ''}://127.0.0.1:{port}", key, secret, server)
        finally:
            server.kill()


def _answers(port: int, path: str, *, tls: bool = False) -> bool:
    """Whose certificate it is does not matter here."""
    anybody = ssl._create_unverified_context()
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=anybody)
        if tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
