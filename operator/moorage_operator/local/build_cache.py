"""Things made once per user and kept: each in a folder named after what it was made from.

A folder is there whole or not at all, whatever is killed and however many processes ask for it at once.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

Progress = Callable[[str], None]
"""Takes one line for a person about what is being done now."""


def build_cache_root() -> Path:
    """The folder of this user's caches, by the XDG base directory specification (a relative value is ignored)."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(configured) if Path(configured).is_absolute() else Path.home() / ".cache"
    return base / "moorage"


def make_once(folder: Path, make: Callable[[Path], object], progress: Progress) -> Path:
    """Return `folder`, filled by `make` if it is not there yet.

    `make` gets an empty folder beside it, which takes the name `folder` when `make` has returned: a crash or
    an exception leaves nothing under that name. Of several processes one makes and the others wait for it.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial_prefix = f".{folder.name}.partial-"
    with _locked(folder.parent / f".{folder.name}.lock", folder.name, progress):
        if folder.is_dir():
            return folder
        # Only the holder of the lock makes these, so what lies here was left by one that was killed.
        for leftover in folder.parent.glob(f"{partial_prefix}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=partial_prefix, dir=folder.parent))
        try:
            make(partial)
            partial.chmod(
                0o755
            )  # mkdtemp makes it private; a cache shared by group or root is read by others
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return folder


@contextlib.contextmanager
def _locked(path: Path, name: str, progress: Progress) -> Iterator[None]:
    """Hold the file lock `path`; the kernel frees it when the process ends, however it ends."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that is making {name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
