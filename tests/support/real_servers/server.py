"""One server process of a test: started, asked whether it answers, stopped, frozen, killed, started again."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_IN_MEMORY = Path("/dev/shm")
_ROOMY_BYTES = 2 * 1024**3
_START_SECONDS = 90
_STOP_SECONDS = 10
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_libc = ctypes.CDLL(None)


@contextlib.contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """A folder in memory where there is room (tests do not measure disks), else wherever temporary files go."""
    roomy = _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > _ROOMY_BYTES
    folder = Path(tempfile.mkdtemp(prefix=f"moorage-test-{name}-", dir=_IN_MEMORY if roomy else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that were free at the same moment."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Server:
    """`command` is run as it is each time; `is_ready` is polled until it holds."""

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        is_ready: Callable[[], bool],
        start_seconds: float = _START_SECONDS,
    ) -> None:
        self._start_seconds = start_seconds
        self._command = [str(part) for part in command]
        self._folder = folder
        self._is_ready = is_ready
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.defpath, "HOME": str(self._folder)},
                preexec_fn=_die_with_parent,
            )
        deadline = time.monotonic() + self._start_seconds
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                said = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self._command[0]} did not start:\n{said}")
            time.sleep(0.05)

    def stop(self) -> None:
        """As an administrator would; a server that does not obey within 10 s is killed."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing, like a machine that hangs."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        wait_until_stopped(self._process.pid)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the server was never started")
        self._process.send_signal(number)


def wait_until_stopped(pid: int) -> None:
    """SIGSTOP is sent in no time, but each thread takes notice of it when it next runs."""
    while any(
        stat.read_text().rpartition(")")[2].split()[0] != "T"
        for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    ):
        time.sleep(0.005)


def _die_with_parent() -> None:
    """So that a test run that is killed leaves no server behind."""
    _libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
