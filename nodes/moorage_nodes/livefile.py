"""Files that change while a server runs (routing, trust, secrets): followed, and never let go for a bad one."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from moorage.core.errors import MoorageError

T = TypeVar("T")
log = logging.getLogger("moorage.livefile")
# (mtime_ns, inode, size): a mounted ConfigMap or Secret changes by a symlink that is swapped, so the inode moves.
_Signature = tuple[int, int, int]


class LiveFile(Generic[T]):
    """The parsed content of a file, as `value`; `failure` says why the newest content is not it, if so.

    `parse` must raise a MoorageError whose detail holds no secret: it is logged.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        """Reads at once: OSError when the file cannot be read, what `parse` raises when it is bad."""
        self.path = path
        self.failure: str | None = None
        self._parse = parse
        self._watchers: list[Callable[[T], None]] = []
        self._signature = self._stat()
        self.value = parse(path.read_bytes())

    @property
    def revision(self) -> int | None:
        """The content's own `revision`, for those that carry one."""
        revision: int | None = getattr(self.value, "revision", None)
        return revision

    def subscribe(self, watcher: Callable[[T], None]) -> None:
        """Call `watcher` with every new value from now on."""
        self._watchers.append(watcher)

    def refresh(self) -> bool:
        """Read again if the file changed; True when there is a new value. Never raises for bad content."""
        try:
            signature = self._stat()
            if signature == self._signature:
                return False
            # The signature is taken before the content: a write between the two is seen at the next poll.
            value = self._parse(self.path.read_bytes())
        except (OSError, MoorageError) as error:
            self._fail(error)
            return False
        self._signature = signature
        self.failure = None
        self.value = value
        log.info("file loaded", extra={"file": str(self.path), "revision": self.revision})
        for watcher in self._watchers:
            watcher(value)
        return True

    def _fail(self, error: Exception) -> None:
        reason = error.detail if isinstance(error, MoorageError) else type(error).__name__
        if reason != self.failure:
            self.failure = reason
            log.error(
                "file not usable, keeping the old one", extra={"file": str(self.path), "reason": reason}
            )

    def _stat(self) -> _Signature:
        found = self.path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size
