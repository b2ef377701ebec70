import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BOOTSTRAP = Path(__file__).parents[3] / "tools" / "bootstrap.py"


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    """The script, which is in no package: it runs where nothing is installed."""
    spec = importlib.util.spec_from_file_location("bootstrap", BOOTSTRAP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def machine(bootstrap: ModuleType, **known: bool) -> Any:
    """A bare machine with a recent Python and apt, but for what is known."""
    facts = dict.fromkeys(bootstrap.Machine._fields, False) | {"python_recent": True, "has_apt": True} | known
    return bootstrap.Machine(**facts)


def plan(bootstrap: ModuleType, **known: bool) -> list[str]:
    return [step.name for step in bootstrap.plan_setup(machine(bootstrap, **known))]


def test_an_up_to_date_venv_needs_nothing(bootstrap: ModuleType) -> None:
    assert plan(bootstrap, up_to_date=True, venv_exists=True, venv_usable=True, venv_has_pip=True) == []


def test_a_python_with_ensurepip_makes_an_ordinary_venv(bootstrap: ModuleType) -> None:
    assert plan(bootstrap, has_ensurepip=True) == ["MAKE_VENV", "INSTALL_LOCKED", "INSTALL_PROJECT"]


def test_without_ensurepip_the_systems_pip_wheel_is_borrowed(bootstrap: ModuleType) -> None:
    steps = plan(bootstrap, has_system_pip=True)
    assert steps == ["MAKE_BARE_VENV", "BORROW_SYSTEM_PIP", "INSTALL_LOCKED", "INSTALL_PROJECT"]


def test_without_any_pip_its_package_is_fetched(bootstrap: ModuleType) -> None:
    assert plan(bootstrap) == ["MAKE_BARE_VENV", "FETCH_PIP", "INSTALL_LOCKED", "INSTALL_PROJECT"]


def test_with_no_way_to_pip_the_next_step_is_named(bootstrap: ModuleType) -> None:
    with pytest.raises(bootstrap.SetupError, match="python3-venv on Debian and Ubuntu"):
        plan(bootstrap, has_apt=False)


def test_a_changed_lock_is_installed_into_the_venv_that_is_there(bootstrap: ModuleType) -> None:
    steps = plan(bootstrap, venv_exists=True, venv_usable=True, venv_has_pip=True)
    assert steps == ["INSTALL_LOCKED", "INSTALL_PROJECT"]


def test_a_venv_that_was_left_without_pip_gets_one(bootstrap: ModuleType) -> None:
    steps = plan(bootstrap, venv_exists=True, venv_usable=True)
    assert steps == ["MAKE_BARE_VENV", "FETCH_PIP", "INSTALL_LOCKED", "INSTALL_PROJECT"]


def test_a_venv_whose_python_is_gone_is_made_anew_whatever_its_stamp_says(bootstrap: ModuleType) -> None:
    steps = plan(bootstrap, up_to_date=True, venv_exists=True, has_ensurepip=True)
    assert steps == ["REMOVE_VENV", "MAKE_VENV", "INSTALL_LOCKED", "INSTALL_PROJECT"]


def test_a_venv_whose_python_was_upgraded_below_it_is_filled_again(bootstrap: ModuleType) -> None:
    steps = plan(bootstrap, up_to_date=True, venv_exists=True, venv_usable=True, has_ensurepip=True)
    assert steps == ["MAKE_VENV", "INSTALL_LOCKED", "INSTALL_PROJECT"]


def test_an_old_python_is_refused_before_anything_is_done(bootstrap: ModuleType) -> None:
    with pytest.raises(bootstrap.SetupError, match=r"needs Python 3\.11 or newer; .* make setup PYTHON="):
        plan(bootstrap, python_recent=False, venv_exists=True, has_ensurepip=True)


def test_an_old_python_will_do_to_keep_up_a_venv_made_with_another(bootstrap: ModuleType) -> None:
    steps = plan(bootstrap, python_recent=False, venv_exists=True, venv_usable=True, venv_has_pip=True)
    assert steps == ["INSTALL_LOCKED", "INSTALL_PROJECT"]


def test_another_input_is_another_stamp(bootstrap: ModuleType) -> None:
    stamps = [
        bootstrap.build_stamp(b"ab", b"c"),
        bootstrap.build_stamp(b"a", b"bc"),
        bootstrap.build_stamp(b"ab"),
    ]
    assert len(set(stamps)) == 3
    assert bootstrap.build_stamp(b"ab", b"c") == stamps[0]


def test_the_lock_is_counted_by_its_entries(bootstrap: ModuleType) -> None:
    lock = "# made by x==1\na==1 \\\n    --hash=sha256:00\nb==2 ; sys_platform == 'win32' \\\n    --hash=sha256:11\n"
    assert bootstrap.parse_locked_names(lock) == ["a==1", "b==2"]


def test_recent_pythons_on_the_path_are_named(bootstrap: ModuleType, tmp_path: Path) -> None:
    for name in ("python3.9", "python3.12"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert bootstrap.find_recent_pythons(str(tmp_path)) == ["python3.12"]


def test_an_old_python_can_at_least_read_the_script() -> None:
    ast.parse(BOOTSTRAP.read_text(), feature_version=(3, 7))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose lock names what cannot be had."""
    (tmp_path / "tools").mkdir()
    shutil.copy(BOOTSTRAP, tmp_path / "tools")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "requirements.lock").write_text(f"no-such-package==1 \\\n    --hash=sha256:{'0' * 64}\n")
    return tmp_path


def run_set_up(checkout: Path, python: tuple[int, int, int] = (3, 11, 0)) -> tuple[int, str]:
    """What set-up ends with and says, run by a Python that calls itself `python`."""
    script = checkout / "tools" / "bootstrap.py"
    program = f"import runpy, sys; sys.version_info = {python}; runpy.run_path({str(script)!r}, run_name='__main__')"
    environment = {**os.environ, "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, env=environment
    )
    return done.returncode, done.stdout


def test_an_old_python_is_told_so_and_makes_nothing(checkout: Path) -> None:
    code, said = run_set_up(checkout, python=(3, 10, 4))
    assert code == 1
    assert said.startswith("setup: Moorage needs Python 3.11 or newer; ")
    assert not (checkout / ".venv").exists()


def test_a_failed_set_up_says_why_and_is_not_taken_for_done(checkout: Path) -> None:
    venv = checkout / ".venv"  # with the packages of the one that runs us, pip among them
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (venv / "lib").symlink_to(Path(sys.prefix, "lib"))
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), venv)
    (venv / "moorage-setup").write_text("of an earlier lock")
    code, said = run_set_up(checkout)
    assert code == 1
    assert "No matching distribution found for no-such-package==1" in said
    assert not (venv / "moorage-setup").exists()
