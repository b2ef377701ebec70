"""Files of this machine as transfers read and write them. All of it blocks: called in threads."""

import contextlib
import fcntl
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from moorage.core.errors import LocalFileError
from moorage.core.text import printable
from moorage.core.transfer import Piece, hash_of, plan_pieces

PART_PREFIX, PART_SUFFIX = ".moorage-", ".part"


def _read_umask() -> int:
    """There is no other way to read it; done once, before there are threads."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _read_umask()


@dataclass(frozen=True, slots=True)
class LocalEntry:
    """A file or folder below the one that was scanned. `reason`: why it cannot be stored, else None."""

    path: Path
    parts: tuple[str, ...]  # below the scanned folder
    is_directory: bool
    size: int
    reason: str | None = None


def shown(path: Path) -> str:
    """For people and JSON: with a mark in place of what is no text, or would do something to a terminal."""
    return printable(os.fsencode(path).decode(errors="replace"))


def look_at(path: Path) -> LocalEntry:
    """The file or folder that a person named; a link to one is followed. LocalFileError when there is none."""
    try:
        name = path.resolve().name if path.name in {"", ".."} else path.name
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    if stat.S_ISDIR(found.st_mode):
        return LocalEntry(path, (name,), True, 0)
    if stat.S_ISREG(found.st_mode):
        return LocalEntry(path, (name,), False, found.st_size)
    raise LocalFileError(f"{shown(path)} is neither a file nor a folder.")


def choose_place(target: str, name: str | None, *, is_directory: bool) -> Path:
    """Where something goes that is fetched. A file: into `target` if that is a folder, or ends in `/`, else there. A
    directory: into it if that is `.` or ends in `/`, else there, beside what is in it; so the same command again means
    the same. `name` None: all that the store has, which goes straight into `target`.
    """
    place = Path(target)
    try:
        into = target.endswith("/") or (target == "." if is_directory else place.is_dir())
        if name is not None and into:
            place /= name
        if not place.parent.is_dir():
            raise LocalFileError(f"{shown(place.parent)} is not a folder: make it first.")
        if not is_directory and place.is_dir():
            raise LocalFileError(f"{shown(place)} is a folder where the file should be.")
    except OSError as error:
        raise _unreadable(place, error) from None
    return place


def scan(folder: Path) -> Iterator[LocalEntry]:
    """All below the folder, parents before children. Links are not followed: they, and what is neither file nor
    folder, come with a reason.
    """
    pending: list[tuple[Path, tuple[str, ...]]] = [(folder, ())]
    while pending:
        current, parts = pending.pop()
        try:
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            yield LocalEntry(current, parts, True, 0, error.strerror or str(error))
            continue
        for entry in entries:
            path, own = Path(entry.path), (*parts, entry.name)
            found = _describe(entry, path, own)
            yield found
            if found.is_directory:
                pending.append((path, own))


def _describe(entry: os.DirEntry[str], path: Path, parts: tuple[str, ...]) -> LocalEntry:
    try:
        if entry.is_dir(follow_symlinks=False):
            return LocalEntry(path, parts, True, 0)
        if entry.is_file(follow_symlinks=False):
            is_part = entry.name.startswith(PART_PREFIX) and entry.name.endswith(PART_SUFFIX)
            reason = "what an interrupted `get` left" if is_part else None
            return LocalEntry(path, parts, False, entry.stat(follow_symlinks=False).st_size, reason)
    except OSError as error:
        return LocalEntry(path, parts, False, 0, error.strerror or str(error))
    return LocalEntry(
        path, parts, False, 0, "a link" if entry.is_symlink() else "neither a file nor a folder"
    )


@dataclass(frozen=True, slots=True)
class Digest:
    """A file as it was when it was read. `mtime` in ns, as `stat` gave it before the first byte."""

    pieces: tuple[Piece, ...]
    size: int
    mtime: int
    mode: int


def read_digest(path: Path, on_read: Callable[[int], None] = lambda _: None) -> Digest:
    """Read all of a file once; `on_read` hears of each chunk's size, and may raise to end it. LocalFileError when it
    cannot be read, or changes meanwhile.
    """
    try:
        with _open_file(path) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise LocalFileError(f"{shown(path)} is not a file.")
            pieces = []
            for offset, size in plan_pieces(before.st_size):
                data = file.read(size)
                if len(data) != size:
                    raise _changed(path)
                pieces.append(Piece(offset, size, hash_of(data)))
                on_read(size)
            after = os.fstat(file.fileno())
            if file.read(1) or (before.st_mtime_ns, before.st_ctime_ns) != (
                after.st_mtime_ns,
                after.st_ctime_ns,
            ):
                raise _changed(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    return Digest(tuple(pieces), before.st_size, before.st_mtime_ns, stat.S_IMODE(before.st_mode))


def read_piece(path: Path, piece: Piece) -> bytes:
    """The bytes that were hashed. LocalFileError when they are not there any more."""
    try:
        with _open_file(path) as file:
            file.seek(piece.offset)
            data = file.read(piece.size)
    except OSError as error:
        raise _unreadable(path, error) from None
    if hash_of(data) != piece.hash:
        raise _changed(path)
    return data


def _open_file(path: Path) -> BinaryIO:
    """What has become a pipe meanwhile is not waited for."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")


def _unreadable(path: Path, error: OSError) -> LocalFileError:
    return LocalFileError(f"{shown(path)} cannot be read: {error.strerror}.")


def _changed(path: Path) -> LocalFileError:
    return LocalFileError(f"{shown(path)} was changed while it was read: store it again.")


def format_mtime(nanoseconds: int) -> str | None:
    """RFC 3339 in UTC, to the microsecond; None beyond what that can say."""
    seconds, rest = divmod(nanoseconds, 10**9)
    try:
        time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    except (OverflowError, ValueError, OSError):
        return None
    return time.isoformat().removesuffix("+00:00") + "Z"


class PartialFile:
    """A file that is being fetched: it grows beside its place and takes it when it is whole.

    What an interrupted fetch left, and what is in the place now, are where bytes are looked for before they are fetched:
    their hashes tell which of them fit. LocalFileError when another process fetches the same place.
    """

    def __init__(self, place: Path) -> None:
        name = hashlib.sha256(os.fsencode(place.name)).hexdigest()[:16]
        self._place = place
        self._part = place.with_name(f"{PART_PREFIX}{name}{PART_SUFFIX}")
        try:
            self._descriptor = _open_locked(self._part)
        except BlockingIOError:
            raise LocalFileError(f"{shown(place)} is being fetched by another command.") from None
        except OSError as error:
            raise _unwritable(place, error) from None
        self._old = _open_readable(place)
        # A thread may still be at work when its fetch is cancelled: it must not meet a descriptor that is another's.
        self._using = threading.Lock()
        self._is_closed = False

    def find(self, offset: int, size: int, wanted: str) -> bool:
        """Whether these bytes are here already; then they are in the part."""
        with self._using:
            if self._is_closed:
                return False
            try:
                ours = os.pread(self._descriptor, size, offset)
                old = b"" if self._old is None else os.pread(self._old, size, offset)
            except OSError as error:
                raise _unreadable(self._place, error) from None
        if hash_of(ours) == wanted:
            return True
        if hash_of(old) != wanted:
            return False
        self.write(offset, old)
        return True

    def write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        with self._using:
            try:
                while view and not self._is_closed:
                    written = os.pwrite(self._descriptor, view, offset)
                    view, offset = view[written:], offset + written
            except OSError as error:
                raise _unwritable(self._place, error) from None

    def finish(self, size: int, *, mode: int | None, mtime: int | None, overwrite: bool) -> None:
        """Put it in its place, whole; what has come there meanwhile is kept unless `overwrite`. `mtime` in ns."""
        with self._using:
            if self._is_closed:
                return
            try:
                os.ftruncate(self._descriptor, size)
                self._set_attributes(mode, mtime)
                os.fsync(self._descriptor)
                if not os.path.samestat(os.fstat(self._descriptor), self._part.lstat()):
                    raise LocalFileError(
                        f"{shown(self._part)} was taken away while it was written: try again."
                    )
                if overwrite:
                    self._part.replace(self._place)
                else:
                    _put_where_nothing_is(self._part, self._place)
            except FileExistsError:
                raise exists_and_differs(self._place) from None
            except OSError as error:
                raise _unwritable(self._place, error) from None

    def _set_attributes(self, mode: int | None, mtime: int | None) -> None:
        """As far as this file system and user can."""
        if mode is None and self._old is not None:
            mode = os.fstat(self._old).st_mode
        with contextlib.suppress(OSError):
            # No set-user-id comes from elsewhere; what has no mode gets what any new file would.
            os.fchmod(self._descriptor, (mode if mode is not None else 0o666 & ~_UMASK) & 0o777)
        if mtime is not None:
            with contextlib.suppress(OSError, OverflowError):
                os.utime(self._descriptor, ns=(mtime, mtime))

    def close(self) -> None:
        """What was fetched stays for the next try."""
        with self._using:
            self._is_closed = True
            os.close(self._descriptor)
            if self._old is not None:
                os.close(self._old)


def exists_and_differs(place: Path) -> LocalFileError:
    return LocalFileError(f"{shown(place)} is there and differs: `--overwrite` replaces it.")


def _put_where_nothing_is(part: Path, place: Path) -> None:
    """FileExistsError when something is."""
    try:
        place.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:
        # No links here: what could come in this instant is lost.
        if os.path.lexists(place):
            raise FileExistsError from None
        part.replace(place)
    else:
        part.unlink()


def has_content(path: Path, pieces: Iterable[tuple[int, str]], size: int) -> bool:
    """Whether the file is these chunks (size and hash, in file order), and no more."""
    descriptor = _open_readable(path)
    if descriptor is None:
        return False
    try:
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                return False
            return all(hash_of(file.read(length)) == wanted for length, wanted in pieces)
    except OSError as error:
        raise _unreadable(path, error) from None


def make_folder(path: Path, *, is_named: bool) -> None:
    """Idempotent. LocalFileError when something else is in the way, or it is not allowed. A link to a folder is one only
    where a person named it: what a store has is not written through it.
    """
    try:
        path.mkdir(exist_ok=True)
        if not is_named and not stat.S_ISDIR(path.lstat().st_mode):
            raise LocalFileError(f"{shown(path)} is a link where a folder should be.")
    except OSError as error:
        raise _unwritable(path, error) from None


def parse_mtime(text: str) -> int | None:
    """RFC 3339 as ns since 1970; None for what is no time."""
    try:
        since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    except (TypeError, ValueError):
        return None
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def _open_readable(path: Path) -> int | None:
    """A regular file that is there and may be read; a link is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def _open_locked(path: Path) -> int:
    """Its only user until it is closed. BlockingIOError when there is another."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had it before may have put it into its place meanwhile: then this is not the part any more.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> LocalFileError:
    return LocalFileError(f"{shown(path)} cannot be written: {error.strerror}.")
