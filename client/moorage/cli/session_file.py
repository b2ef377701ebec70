"""The login of this machine's user: one file that only they can read."""

import os
import tempfile
from pathlib import Path

import click
import msgspec

from moorage.core.errors import LocalFileError, NotLoggedInError
from moorage.session import Session


def session_path() -> Path:
    return Path(click.get_app_dir("moorage")) / "session.json"


def load_session() -> Session:
    """NotLoggedInError when there is none, or none that can be read."""
    path = session_path()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Session)
    except FileNotFoundError:
        raise NotLoggedInError("You are not logged in: `moorage login URL` does that.") from None
    except (OSError, msgspec.MsgspecError):
        raise NotLoggedInError(f"{path} cannot be read: `moorage login URL` writes it anew.") from None


def save_session(session: Session) -> None:
    """Whole or not at all: two commands may renew a login at the same time, and either result is good."""
    path = session_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=path.parent)  # 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(session))
        Path(name).replace(path)
    except OSError as error:
        raise LocalFileError(f"{path} cannot be written: {error.strerror}.") from None


def forget_session() -> bool:
    """Whether there was one."""
    try:
        session_path().unlink()
    except FileNotFoundError:
        return False
    return True
