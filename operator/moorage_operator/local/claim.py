"""One `moorage up` to a data directory: made, recognised and locked."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moorage_operator.local.datadir import DataDir
from moorage_operator.local.failure import UpError


@contextmanager
def claim(root: Path) -> Iterator[DataDir]:
    """The data directory, made if it is not there, and held against every other `up` until the block ends.

    The kernel frees it when the process ends, however it ends. UpError when another one holds it, or when the
    directory holds what is not ours.
    """
    data = DataDir(root.absolute())
    try:
        fresh = _make(data)
        handle = os.open(data.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UpError(f"{root} cannot be used as data directory: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 32, 0).decode(errors="replace").strip()
            raise UpError(
                f"Another `moorage up` (pid {owner or 'unknown'}) is using {root}: "
                "stop it, or choose another directory with --data."
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        if fresh:
            data.root.chmod(0o700)
        for folder in (data.secrets, data.logs, data.run, data.children, data.nginx, data.s3, data.etcd):
            folder.mkdir(mode=0o700, exist_ok=True)
        yield data
    finally:
        os.close(handle)


def _make(data: DataDir) -> bool:
    """Whether the directory was new or empty. UpError when it is full of something else."""
    data.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if data.lock.exists():
        return False
    if any(data.root.iterdir()):
        raise UpError(
            f"{data.root} is not empty and was not made by `moorage up`: choose another directory with --data."
        )
    return True
