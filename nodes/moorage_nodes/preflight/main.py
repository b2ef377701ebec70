"""`moorage-nodes preflight --settings FILE`: whether a store does what block servers need.

The result is one JSON object on stdout, and in `result_file`. It holds no secret. Exit codes: 0 all steps passed, 1 one
failed, 2 wrong settings or credentials that cannot be read.
"""

import asyncio
import contextlib
import sys
from pathlib import Path

import msgspec

from moorage.core.errors import InvalidFieldError
from moorage_nodes.blocks.credentials import Credentials, open_credentials
from moorage_nodes.observe import configure_logging
from moorage_nodes.preflight.checks import Result, run_checks
from moorage_nodes.preflight.settings import PreflightSettings, load_preflight_settings


def run(settings_file: Path) -> int:
    """OSError and InvalidFieldError for wrong settings."""
    settings = load_preflight_settings(settings_file)
    configure_logging("warning")
    try:
        credentials = open_credentials(Path(settings.s3.credentials_file)).value
    except (OSError, InvalidFieldError) as error:
        detail = error.detail if isinstance(error, InvalidFieldError) else _missing(error)
        _tell(settings, Result(ok=False, steps={}, step="credentials", reason="BadSecret", detail=detail))
        return 2
    result = asyncio.run(_check(settings, credentials))
    _tell(settings, result)
    return 0 if result.ok else 1


def _missing(error: OSError) -> str:
    return f"The credentials cannot be read: {Path(error.filename or '').name} {error.strerror}."


async def _check(settings: PreflightSettings, credentials: Credentials) -> Result:
    return await run_checks(
        settings.s3, credentials, make_bucket=settings.make_bucket, seconds=settings.seconds
    )


def _tell(settings: PreflightSettings, result: Result) -> None:
    text = msgspec.json.encode(result).decode()
    sys.stdout.write(f"{text}\n")
    if settings.result_file is not None:
        with contextlib.suppress(OSError):
            Path(settings.result_file).write_text(text)
