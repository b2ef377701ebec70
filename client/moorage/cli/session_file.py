"""The login of this machine's user: one file that only they can read."""

import os
import tempfile
from pathlib import Path

import msgspec

from moorage.core.errors import LocalFileError, NotLoggedInError
from moorage.session import Session


def session_path() -> Path:
    """LocalFileError when nothing says where this user's settings are."""
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    try:
        path = Path(folder).expanduser()
    except RuntimeError:
        path = Path(folder)
    if not path.is_absolute():
        raise LocalFileError("Neither HOME nor XDG_CONFIG_HOME says where a login is to be kept.")
    return path / "moorage" / "session.json"


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
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(session))
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LocalFileError(f"{path} cannot be written: {error.strerror}.") from None


def forget_session() -> bool:
    """Whether there was one."""
    path = session_path()
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LocalFileError(f"{path} cannot be removed: {error.strerror}.") from None
    return True
