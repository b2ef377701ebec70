"""Make .venv with everything that requirements.lock names, on a machine that may have no pip and no ensurepip.

Only the standard library; `make setup` runs it with the machine's own Python. Idempotent, and done in milliseconds when
nothing has changed. What to do is decided by pure functions (`plan_setup`, `parse_locked_names`, `build_stamp`) from
what `observe_machine` finds.
"""

from __future__ import annotations

import enum
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

OLDEST_PYTHON = (3, 11)
REPOSITORY = Path(__file__).resolve().parent.parent
VENV = REPOSITORY / ".venv"
LOCK = REPOSITORY / "requirements.lock"
STAMP = VENV / "moorage-setup"
"""What the venv was last brought up to; written last, so that an interrupted set-up is taken up again."""
VENV_PYTHON = VENV / "bin" / "python"
INSTALL = (VENV_PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
SYSTEM_WHEELS = Path("/usr/share/python-wheels")
PIP_PACKAGE = "python3-pip-whl"


class Step(enum.Enum):
    """What set-up may have to do, in this order."""

    REMOVE_VENV = "removing .venv: its Python is gone or too old"
    MAKE_VENV = "making .venv"
    MAKE_BARE_VENV = "making .venv without pip: this Python has no ensurepip"
    BORROW_SYSTEM_PIP = "taking pip from the system's own wheel"
    FETCH_PIP = f"fetching pip as the package {PIP_PACKAGE} with apt-get (unpacked into a temporary folder)"
    INSTALL_LOCKED = "installing what requirements.lock names"
    INSTALL_PROJECT = "installing moorage itself, editable"


class Machine(NamedTuple):
    """What `plan_setup` decides from."""

    python_recent: bool
    """The Python that runs us can make a venv that will do."""
    up_to_date: bool
    """The stamp says that .venv was made from what lies here now."""
    venv_exists: bool
    venv_usable: bool
    """Its Python runs and is recent; which Python runs us does not matter then."""
    venv_has_pip: bool
    has_ensurepip: bool
    has_system_pip: bool
    has_apt: bool


class SetupError(Exception):
    """Set-up cannot go on; the message names the next step."""


def plan_setup(machine: Machine) -> list[Step]:
    """The steps from this machine to a venv with everything. SetupError when Python is old or pip cannot be had."""
    venv_ready = machine.venv_usable and machine.venv_has_pip
    if machine.up_to_date and venv_ready:
        return []
    if not machine.venv_usable and not machine.python_recent:
        raise SetupError(describe_old_python())
    steps = []
    if machine.venv_exists and not machine.venv_usable:
        steps.append(Step.REMOVE_VENV)
    if not venv_ready:
        if machine.has_ensurepip:
            steps.append(Step.MAKE_VENV)
        else:
            steps += [Step.MAKE_BARE_VENV, plan_pip(machine)]
    return [*steps, Step.INSTALL_LOCKED, Step.INSTALL_PROJECT]


def plan_pip(machine: Machine) -> Step:
    """How a venv without ensurepip comes by its first pip."""
    if machine.has_system_pip:
        return Step.BORROW_SYSTEM_PIP
    if machine.has_apt:
        return Step.FETCH_PIP
    raise SetupError(
        f"{sys.executable} has no ensurepip, and there is no apt-get with dpkg to fetch pip with: install your "
        "system's package for Python virtual environments (python3-venv on Debian and Ubuntu), or name another "
        "Python: make setup PYTHON=/path/to/python3"
    )


def parse_locked_names(lock: str) -> list[str]:
    """The distributions that a lock names, with their versions: `name==version`."""
    return [line.split()[0] for line in lock.splitlines() if "==" in line and not line.startswith((" ", "#"))]


def build_stamp(*inputs: bytes) -> str:
    """A digest of what a venv is made from."""
    digest = hashlib.sha256()
    for content in inputs:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def describe_old_python() -> str:
    """What is wrong with the Python that runs us, and which other one to name."""
    others = find_recent_pythons(os.environ.get("PATH", os.defpath))
    other = others[-1] if others else "/path/to/one"
    return f"Moorage needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. Next: make setup PYTHON={other}"


def find_recent_pythons(path: str) -> list[str]:
    """Commands on `path` that are a recent Python by their names."""
    return [name for name in (f"python3.{minor}" for minor in range(11, 20)) if shutil.which(name, path=path)]


def main() -> int:
    try:
        machine, stamp = observe_machine()
        steps = plan_setup(machine)
        apply_steps(steps, stamp)
    except (SetupError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next make goes on from here")
        return 130
    if steps:
        say("done: .venv/bin/moorage is the command")
    return 0


def observe_machine() -> tuple[Machine, str]:
    """What is here, and the stamp that an up-to-date venv carries."""
    inputs = (LOCK, REPOSITORY / "pyproject.toml", Path(__file__))
    stamp = build_stamp(*(path.read_bytes() for path in inputs))
    found_stamp = STAMP.read_text() if STAMP.is_file() else ""
    venv_usable = asks_venv(f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})")
    machine = Machine(
        python_recent=sys.version_info >= OLDEST_PYTHON,
        up_to_date=found_stamp == stamp,
        venv_exists=VENV.exists(),
        venv_usable=venv_usable,
        venv_has_pip=venv_usable and asks_venv("import pip"),
        has_ensurepip=importlib.util.find_spec("ensurepip") is not None,
        has_system_pip=find_pip_wheel(SYSTEM_WHEELS) is not None,
        has_apt=all(map(shutil.which, ("apt-get", "dpkg"))),
    )
    return machine, stamp


def apply_steps(steps: list[Step], stamp: str) -> None:
    """Carry the steps out; the stamp is there only when the last has succeeded."""
    if steps:
        STAMP.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="moorage-setup-") as scratch:
        pip_wheel: Path | None = None
        for step in steps:
            say(step.value)
            if step is Step.REMOVE_VENV:
                shutil.rmtree(VENV)
            elif step is Step.MAKE_VENV:
                run(sys.executable, "-m", "venv", VENV)
            elif step is Step.MAKE_BARE_VENV:
                run(sys.executable, "-m", "venv", "--without-pip", VENV)
            elif step is Step.BORROW_SYSTEM_PIP:
                pip_wheel = find_pip_wheel(SYSTEM_WHEELS)
            elif step is Step.FETCH_PIP:
                pip_wheel = fetch_pip(Path(scratch))
            elif step is Step.INSTALL_LOCKED:
                install_locked(pip_wheel)
            elif step is Step.INSTALL_PROJECT:
                run(*INSTALL, "--no-deps", "--no-build-isolation", "--editable", REPOSITORY)
                STAMP.write_text(stamp)


def find_pip_wheel(folder: Path) -> Path | None:
    """The pip wheel that Debian keeps for making virtual environments."""
    return next(iter(sorted(folder.glob("pip-*.whl"))), None)


def fetch_pip(scratch: Path) -> Path:
    """Unpack the system's package of pip's wheel, without root: apt gets state and cache folders of our own."""
    # As root apt-get would turn into a user that cannot write here.
    apt_get: tuple[str, ...] = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root")
    try:
        run(*apt_get, "download", PIP_PACKAGE, cwd=scratch)
    except SetupError:
        say("  the system's package lists do not have it: fetching new ones into a temporary folder")
        lists, archives = scratch / "lists", scratch / "archives"
        for folder in (lists, archives):
            (folder / "partial").mkdir(parents=True)
        apt_get += ("-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={scratch}")
        run(*apt_get, "update")
        run(*apt_get, "download", PIP_PACKAGE, cwd=scratch)
    for package in scratch.glob("*.deb"):
        run("dpkg", "-x", package, scratch / "unpacked")
    wheel = find_pip_wheel(scratch / "unpacked" / SYSTEM_WHEELS.relative_to("/"))
    if wheel is None:
        raise SetupError(
            f"{PIP_PACKAGE} has no pip wheel in it: install python3-venv as root, then try again"
        )
    return wheel


def install_locked(pip_wheel: Path | None) -> None:
    """Install the lock with the venv's pip, or the first time with pip run out of its wheel."""
    count = len(parse_locked_names(LOCK.read_text()))
    say(f"  {count} packages, about a minute when none is there yet")
    install = (VENV_PYTHON, pip_wheel / "pip", *INSTALL[3:]) if pip_wheel else INSTALL
    try:
        run(*install, "--require-hashes", "--no-deps", "--only-binary=:all:", "--requirement", LOCK)
    except SetupError as error:
        advice = (
            "Next: let pip reach its package index (its own settings and environment apply), then make setup"
        )
        raise SetupError(f"{error}\n{advice}") from error


def asks_venv(program: str) -> bool:
    """Whether a program ends well in the venv's Python."""
    try:
        return subprocess.run([VENV_PYTHON, "-c", program], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def run(*command: str | Path, cwd: Path = REPOSITORY) -> None:
    """Run to the end; SetupError when it fails, with what the command itself has said."""
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise SetupError(f"{done.stdout}Failed ({done.returncode}): {' '.join(map(str, command))}")


def say(line: str) -> None:
    print(f"setup: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
