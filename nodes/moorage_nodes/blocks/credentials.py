"""A pool's S3 credentials: a JSON file, or a mounted Secret, which is a folder with a file for each of its keys."""

from pathlib import Path

import msgspec
from msgspec import Struct

from moorage.core.errors import InvalidFieldError
from moorage_nodes.livefile import LiveFile


class Credentials(Struct, frozen=True, kw_only=True):
    access_key_id: str
    secret_access_key: str


def parse_credentials(data: bytes) -> Credentials:
    """Of the JSON file. InvalidFieldError, which never holds any of it."""
    try:
        return msgspec.json.decode(data, type=Credentials)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidFieldError(
            "The S3 credentials must be JSON with `access_key_id` and `secret_access_key`.",
            field="credentials",
        ) from None


def open_credentials(path: Path) -> LiveFile[Credentials]:
    """Followed while the server runs. OSError when they cannot be read, InvalidFieldError when they are bad.

    Of a Secret one file is followed for both: a change swaps the link to the folder that holds them, so that both
    are new files.
    """
    if not path.is_dir():
        return LiveFile(path, parse_credentials)
    secret = path / "secret_access_key"

    def parse(access_key_id: bytes) -> Credentials:
        try:
            return Credentials(
                access_key_id=access_key_id.decode().strip(), secret_access_key=secret.read_text().strip()
            )
        except (OSError, UnicodeDecodeError):
            raise InvalidFieldError(
                "The Secret of the S3 credentials must have `access_key_id` and `secret_access_key`.",
                field="credentials",
            ) from None

    return LiveFile(path / "access_key_id", parse)
