"""Where everything lies in the data directory of `moorage up`. Paths only; nothing is read or written here."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DataDir:
    """`root` is absolute. What is below `run` is made anew at every start, all else is kept."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def connection(self) -> Path:
        """For clients: `{"url", "admin_token"}`."""
        return self.root / "connection.json"

    @property
    def admin_header(self) -> Path:
        """The admin's Authorization header as `curl -H @FILE` reads it, so that it is in no process list."""
        return self.root / "admin.header"

    @property
    def engine(self) -> Path:
        """Which S3 server the data below `s3` belongs to."""
        return self.root / "s3-engine"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def s3(self) -> Path:
        return self.root / "s3"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    def signing_key(self, service: str) -> Path:
        return self.secrets / f"{service}.pem"

    @property
    def admin_token(self) -> Path:
        return self.secrets / "admin-token"

    @property
    def s3_credentials(self) -> Path:
        return self.secrets / "s3-credentials.json"

    @property
    def minio_environment(self) -> Path:
        return self.secrets / "minio.env"

    @property
    def seaweedfs_identities(self) -> Path:
        return self.secrets / "seaweedfs-s3.json"

    @property
    def ports(self) -> Path:
        """The ports of the last run, taken again where they are free."""
        return self.root / "ports.json"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def children(self) -> Path:
        """One file for each process that runs, so that the next start can end what a killed one left."""
        return self.run / "children"

    @property
    def routing(self) -> Path:
        return self.run / "routing.json"

    @property
    def trust(self) -> Path:
        return self.run / "trust.json"

    def settings(self, server: str) -> Path:
        return self.run / f"{server}.json"

    @property
    def nginx(self) -> Path:
        return self.run / "nginx"

    @property
    def nginx_conf(self) -> Path:
        return self.run / "nginx.conf"
