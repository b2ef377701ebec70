"""The settings file of a preflight: JSON, mounted, written by the operator."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from moorage.core.errors import InvalidFieldError
from moorage_nodes.settings import S3


class PreflightSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`make_bucket`: make it when it is not there (a store that is run for the pool). `seconds`: for everything.

    `result_file` takes the result beside stdout: a pod's termination message.
    """

    role: Literal["preflight"]
    s3: S3
    make_bucket: bool = False
    seconds: Annotated[int, Meta(ge=1)] = 60
    result_file: str | None = None


def load_preflight_settings(path: Path) -> PreflightSettings:
    """OSError when it cannot be read, InvalidFieldError when it is wrong."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=PreflightSettings)
    except msgspec.DecodeError as error:
        raise InvalidFieldError(f"The settings file is wrong: {error}", field="settings") from None
