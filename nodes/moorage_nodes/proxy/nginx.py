"""NGINX as a child process: a configuration is tested before it takes the place of the one that serves.

What NGINX reads lies in folders of its own: `<directory>/nginx.conf` and, for TLS, `<folder>/current/`, a link that is
swapped, so that it always finds a certificate with its own key, whenever it looks.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from pathlib import Path

from moorage.core.errors import MoorageError
from moorage_nodes.proxy.configuration import Certificate, Configuration

TEST_SECONDS = 30.0  # names are looked up, and a name server may be slow
RELOAD_SECONDS = 20.0
_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class BadConfigurationError(MoorageError):
    """NGINX does not take it; the detail is what it says."""

    word = "bad_configuration"


class Nginx:
    """`tls_folder`: None where there is no TLS."""

    def __init__(self, program: str, directory: Path, tls_folder: Path | None) -> None:
        self._program = program
        self._directory = directory
        self._tls = tls_folder
        self._conf = directory / "nginx.conf"
        self._process: asyncio.subprocess.Process | None = None
        self._started = asyncio.Event()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def wait(self) -> int:
        """Its exit code, once it has been started and has ended."""
        await self._started.wait()
        assert self._process is not None
        return await self._process.wait()

    async def test(self, candidate: Configuration) -> None:
        """BadConfigurationError unless NGINX would take it. Changes nothing that serves."""
        text = candidate.text
        if self._tls is not None:
            if candidate.certificate is None:
                raise BadConfigurationError("The certificate or its key cannot be read.")
            _write_certificate(self._tls / "candidate", candidate.certificate)
            text = text.replace(f"{self._tls}/current/", f"{self._tls}/candidate/")
        path = self._directory / "candidate.conf"
        path.write_text(text)
        process = await asyncio.create_subprocess_exec(
            *self._command(path), "-t", "-q", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            async with asyncio.timeout(TEST_SECONDS):
                _, said = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise BadConfigurationError("NGINX has not tested the configuration in time.") from None
        if process.returncode != 0:
            raise BadConfigurationError(_last_line(said))

    def put(self, accepted: Configuration) -> None:
        """Make it what NGINX reads when it starts or reloads. A crash in between leaves what is tested again."""
        if self._tls is not None and accepted.certificate is not None:
            _swap_certificate(self._tls, accepted.certificate)
        beside = self._directory / ".nginx.conf"
        beside.write_text(accepted.text)
        beside.replace(self._conf)

    async def start(self) -> None:
        """Run it as a child that does not outlive this process."""
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(127)

        self._process = await asyncio.create_subprocess_exec(
            *self._command(self._conf),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._started.set()

    async def reload(self) -> None:
        """Have new workers take over; those of before finish what they have. BadConfigurationError when no new ones
        came: the old ones go on then.
        """
        before = self._workers()
        self._signal(signal.SIGHUP)
        try:
            async with asyncio.timeout(RELOAD_SECONDS):
                while not self._workers() - before:  # noqa: ASYNC110 - the kernel tells nobody
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise BadConfigurationError("NGINX has not loaded the configuration in time.") from None

    async def stop(self, finish_seconds: float) -> None:
        """Take nothing new, finish what is in flight; after `finish_seconds` it is ended."""
        for number, seconds in (
            (signal.SIGQUIT, finish_seconds),
            (signal.SIGTERM, 5.0),
            (signal.SIGKILL, 5.0),
        ):
            if not self.running:
                return
            self._signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.wait()

    def _command(self, conf: Path) -> tuple[str, ...]:
        return (self._program, "-e", "stderr", "-p", str(self._directory), "-c", str(conf))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _workers(self) -> set[str]:
        """Processes that NGINX has started; those that end stay in it until they have finished."""
        if self._process is None:
            return set()
        pid = self._process.pid
        try:
            return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except OSError:
            return set()


def _write_certificate(folder: Path, certificate: Certificate) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    (folder / "tls.crt").write_bytes(certificate.chain)
    key = os.open(folder / "tls.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(key, "wb") as file:  # noqa: PTH123 - by descriptor, made with its mode
        file.write(certificate.key)


def _swap_certificate(folder: Path, certificate: Certificate) -> None:
    """Certificate and key change in one step."""
    current = folder / "current"
    before = current.readlink().name if current.is_symlink() else ""
    fresh = "b" if before == "a" else "a"
    _write_certificate(folder / fresh, certificate)
    link = folder / ".current"
    link.unlink(missing_ok=True)
    link.symlink_to(fresh)
    link.replace(current)


def _last_line(said: bytes) -> str:
    """NGINX's own words for what is wrong, without time and process."""
    lines = said.decode(errors="replace").strip().splitlines()
    reasons = [line for line in lines if "[emerg]" in line] or lines or ["NGINX refuses the configuration."]
    return reasons[0].rpartition("[emerg] ")[2][:500]
