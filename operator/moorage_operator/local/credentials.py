"""Secrets of one data directory: made once, kept in files of mode 0600, given to nobody but by path."""

import json
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

from moorage_operator.local.atomic import write_atomically
from moorage_operator.local.datadir import DataDir
from moorage_operator.local.failure import UpError
from moorage_operator.plan import PublicKey, Service
from moorage_operator.signing import make_private_pem, read_public_key


def ensure_admin_token(data: DataDir) -> str:
    """The admin token, and beside it the header file that hands it to curl."""
    token = _ensure(data.admin_token, lambda: secrets.token_urlsafe(32))
    write_atomically(data.admin_header, f"Authorization: Bearer {token}\n")
    return token


def ensure_s3_credentials(data: DataDir) -> tuple[str, str]:
    """Access key and secret of the local S3 server, and its own files that carry them."""
    made = {"access_key_id": secrets.token_hex(10), "secret_access_key": secrets.token_urlsafe(30)}
    kept = json.loads(_ensure(data.s3_credentials, lambda: json.dumps(made)))
    access, secret = str(kept["access_key_id"]), str(kept["secret_access_key"])
    write_atomically(data.minio_environment, _minio_environment(access, secret))
    write_atomically(data.seaweedfs_identities, _seaweedfs_identities(access, secret))
    return access, secret


def ensure_signing_keys(data: DataDir, services: Iterable[Service]) -> tuple[PublicKey, ...]:
    """A P-256 key for each service, private in its file, and their public parts."""
    return tuple(_public_part(data.signing_key(service.name), service.name) for service in services)


def _ensure(path: Path, make: Callable[[], str]) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        text = make()
        write_atomically(path, text)
        return text


def _minio_environment(access: str, secret: str) -> str:
    settings = {
        "MINIO_ROOT_USER": access,
        "MINIO_ROOT_PASSWORD": secret,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _seaweedfs_identities(access: str, secret: str) -> str:
    identity = {
        "name": "moorage",
        "credentials": [{"accessKey": access, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return json.dumps({"identities": [identity]})


def _public_part(path: Path, service: str) -> PublicKey:
    try:
        return read_public_key(_ensure(path, make_private_pem), service)
    except ValueError:
        raise UpError(f"{path} is not a P-256 private key: move it away to have a new one made.") from None
