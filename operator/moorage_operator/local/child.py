"""One child process: started so that it cannot outlive `up`, watched, and ended with all that it started."""

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

from moorage_operator.local.leftovers import forget_child, record_child
from moorage_operator.local.processes import ProcessSpec

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

LOG_LIMIT_BYTES = 16 * 1024 * 1024


class Child:
    """A running process. It leads its own session: a Ctrl-C at the terminal reaches `up` alone."""

    def __init__(self, spec: ProcessSpec, process: "subprocess.Popen[bytes]", records: Path) -> None:
        self.spec = spec
        self._process = process
        self._records = records
        self._ended = asyncio.Event()
        self._pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)

    @classmethod
    def start(cls, spec: ProcessSpec, *, log: Path, directory: Path, records: Path) -> "Child":
        """Start it with its output appended to `log`. OSError when the program cannot be run."""
        rotate_log(log)
        with log.open("ab") as output:
            process = subprocess.Popen(
                spec.argv,
                cwd=directory,
                env=dict(spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # No other thread holds a lock of ours here: `up` is one thread (beside an idle pool), and the
                # function makes two system calls.
                preexec_fn=_die_with(os.getpid(), spec.orphan_signal),  # noqa: PLW1509
            )
        record_child(records, spec.name, process.pid, spec.sockets)
        return cls(spec, process, records)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    async def wait(self) -> int:
        """Its exit code, negative for a signal, once it and all that it started are gone."""
        await self._ended.wait()
        return self._process.returncode

    async def stop(self, seconds: float) -> bool:
        """Ask it to end and wait; SIGKILL after `seconds`. Whether it ended by itself."""
        if not self.has_ended:
            self._signal(self.spec.stop_signal)
        try:
            async with asyncio.timeout(seconds):
                await self.wait()
        except TimeoutError:
            self._signal_group(signal.SIGKILL)
            await self.wait()
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def _signal_group(self, number: signal.Signals) -> None:
        # The number of a group stays taken while it has members, so no stranger is hit.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _on_end(self) -> None:
        # What it started ends with it (NGINX's workers would keep the port); before the pid is given free.
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        forget_child(self._records, self.spec.name, self.spec.sockets)
        self._ended.set()


def rotate_log(log: Path) -> None:
    """Keep what a log holds as `.1` and empty it when it has grown too large; its writers append and go on."""
    try:
        large = log.stat().st_size > LOG_LIMIT_BYTES
    except FileNotFoundError:
        return
    if large:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def last_lines(log: Path, count: int) -> list[str]:
    """The end of a log, for an error message: our servers' JSON as what it says, every line cut to a readable length."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 65_536))
            lines = file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []
    return [textwrap.shorten(_sentence(line), 240, placeholder=" …") for line in lines]


def _sentence(line: str) -> str:
    """Message and error of a JSON log line; any other line as it is."""
    try:
        entry = json.loads(line)
        error = str(entry.get("exc_info", "")).splitlines()[-1:]
        return ": ".join([entry["level"], entry["message"].splitlines()[0], *error])
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return line


def _die_with(parent: int, number: signal.Signals) -> Callable[[], None]:
    """Runs between fork and exec: the kernel sends `number` when `parent` is gone, be it since the fork."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)

    return prepare
