"""The processes of a running store as the kernel shows them, found without asking the program under test."""

import contextlib
import dataclasses
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    command: str
    started: int
    """Clock ticks since boot: with the pid it names one process for ever."""

    def signal(self, number: signal.Signals) -> None:
        if self.is_alive():
            os.kill(self.pid, number)

    def is_alive(self) -> bool:
        now = read_process(self.pid)
        return now is not None and now.started == self.started


def read_process(pid: int) -> Process | None:
    """None when it is gone or only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    state, parent, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else Process(pid, int(parent), command.strip(), int(rest[17]))


def all_processes() -> list[Process]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [process for process in map(read_process, pids) if process is not None]


def descendants(pid: int) -> list[Process]:
    """The tree below `pid`, itself included, parents before children."""
    everyone = all_processes()
    tree = [process for process in everyone if process.pid == pid]
    for process in tree:
        tree.extend(child for child in everyone if child.parent == process.pid)
    return tree


def matching(processes: list[Process], pattern: str) -> list[Process]:
    return [process for process in processes if re.search(pattern, process.command)]


def socket_files(processes: list[Process]) -> set[Path]:
    """The socket files that these processes listen on."""
    inodes = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes |= set(re.findall(r"socket:\[(\d+)\]", str(descriptor.readlink())))
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return {Path(line[7]) for line in lines if len(line) > 7 and line[6] in inodes and line[7][0] == "/"}


def wait_until(condition: Callable[[], object], seconds: float, what: str, step: float = 0.05) -> None:
    """Fail with `what` unless the condition holds within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(step)
