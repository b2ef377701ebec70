"""Records of running children, and the end of those that a killed `moorage up` left behind.

A child leads a session of its own, so whatever it starts belongs to that session. A record says who it was so
precisely (boot, pid, start time, program) that no stranger with the same pid is ever touched.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class Record:
    """`start_time` in clock ticks since boot; `sockets` are paths that the child may leave."""

    boot: str
    pid: int
    start_time: int
    program: str
    sockets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    session: int
    start_time: int
    ended: bool


def record_child(folder: Path, name: str, pid: int, sockets: Iterable[str]) -> None:
    """Remember a child that has just been started. A child that is gone already leaves no record."""
    process = _read_process(pid)
    program = _program_of(pid)
    if process is not None and program is not None:
        record = Record(_boot(), pid, process.start_time, program, tuple(sockets))
        (folder / f"{name}.json").write_text(json.dumps(asdict(record)))


def forget_child(folder: Path, name: str, sockets: Iterable[str]) -> None:
    """Forget a child that has ended, and remove the sockets that it left."""
    _unlink(sockets)
    (folder / f"{name}.json").unlink(missing_ok=True)


def end_leftovers(folder: Path, *, seconds: float = 5.0) -> list[str]:
    """End what is left of every recorded child, remove its sockets and its record; names of those that ran.

    TimeoutError when one is still there after `seconds`.
    """
    ended = []
    for path in sorted(folder.glob("*.json")):
        record = _read_record(path)
        if record is not None:
            if _end_session(record, seconds):
                ended.append(path.stem)
            _unlink(record.sockets)
        path.unlink()
    return ended


def session_members(session: int) -> list[int]:
    """Pids of the running processes of a session."""
    return [process.pid for process in _processes() if process.session == session and not process.ended]


def _end_session(record: Record, seconds: float) -> bool:
    members = _members(record)
    deadline = time.monotonic() + seconds
    found = bool(members)
    while members:
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {members[0]} ({record.program}) does not end")
        time.sleep(0.02)
        members = _members(record)
    return found


def _members(record: Record) -> list[int]:
    """What still runs of the recorded child and what it started."""
    if record.boot != _boot():
        return []
    leader = _read_process(record.pid)
    if leader is not None and leader.start_time != record.start_time:
        return []  # the pid is another's now, and so is its session
    return [
        pid
        for pid in session_members(record.pid)
        if pid == record.pid or leader is not None or _program_of(pid) == record.program
    ]


def _read_record(path: Path) -> Record | None:
    """None when the record was cut off by a crash: then the child was just being started, and died with `up`."""
    try:
        data = json.loads(path.read_text())
        return Record(**{**data, "sockets": tuple(data["sockets"])})
    except (ValueError, TypeError, KeyError):
        return None


def _boot() -> str:
    return _BOOT_ID.read_text().strip()


def _program_of(pid: int) -> str | None:
    try:
        return str((_PROC / str(pid) / "exe").readlink())
    except OSError:
        return None


def _processes() -> Iterator[_Process]:
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            process = _read_process(int(entry.name))
            if process is not None:
                yield process


def _read_process(pid: int) -> _Process | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, parentheses too.
    fields = stat.rpartition(")")[2].split()
    # A first thread may have ended while others still hold files and ports.
    ended = fields[0] in {"Z", "X"} and int(fields[17]) <= 1
    return _Process(pid, int(fields[3]), int(fields[19]), ended)


def _unlink(paths: Iterable[str]) -> None:
    for path in paths:
        Path(path).unlink(missing_ok=True)
