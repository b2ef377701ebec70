"""The lock is made by `make lock`; here only that it was made from what pyproject.toml says now."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))
WHEELS_LOCK = (ROOT / "operator/moorage_operator/local/wheels.lock").read_text()
IMAGE, BUILD = (
    dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
    for name in ("image.lock", "build.lock")
)
LOCKED_WHEELS = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", WHEELS_LOCK, re.MULTILINE))


def unmet(requirements: list[str], locked: dict[str, str]) -> list[str]:
    """The requirements, of those that hold on this machine, that no locked version meets."""
    missing = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            version = locked.get(canonicalize_name(requirement.name))
            if version is None or not requirement.specifier.contains(version):
                missing.append(str(requirement))
    return missing


def test_the_lock_meets_every_requirement_of_the_project() -> None:
    project, groups = PYPROJECT["project"], PYPROJECT["dependency-groups"]
    wanted = [*project["dependencies"], *groups["dev"], *groups["build"]]
    for extra in project["optional-dependencies"].values():
        wanted += [requirement for requirement in extra if not requirement.startswith("moorage[")]
    assert unmet(wanted, LOCKED) == [], "run `make lock`"


def test_the_lock_of_wheels_meets_the_tools_group() -> None:
    assert unmet(PYPROJECT["dependency-groups"]["tools"], LOCKED_WHEELS) == [], "run `make lock`"


def test_the_image_holds_what_servers_and_operator_need_in_the_versions_that_are_tested() -> None:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    assert unmet([*project["dependencies"], *extras["nodes"], *extras["operator"]], IMAGE) == [], (
        "run `make lock`"
    )
    assert {name: version for name, version in IMAGE.items() if LOCKED.get(name) != version} == {}, (
        "run `make lock`"
    )
    assert unmet(PYPROJECT["dependency-groups"]["build"], BUILD) == [], "run `make lock`"


def test_the_build_requirements_are_locked_too() -> None:
    assert unmet(PYPROJECT["build-system"]["requires"], LOCKED) == [], "run `make lock`"


def test_whatever_a_locked_package_needs_is_locked() -> None:
    for name, version in LOCKED.items():
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            assert f"{name}=={version} ;" in LOCK, f"{name} is locked but not installed: run `make setup`"
            continue
        assert installed.version == version, f"another {name} is installed than is locked: run `make setup`"
        assert unmet(installed.requires or [], LOCKED) == [], name


@pytest.mark.parametrize("lock", [LOCK, WHEELS_LOCK], ids=["requirements", "wheels"])
def test_every_locked_package_has_hashes_and_no_address(lock: str) -> None:
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in lock


def test_a_requirement_that_is_not_locked_would_be_found() -> None:
    assert unmet(["click>=999", "no-such-package", "colorama; sys_platform == 'win32'"], LOCKED) == [
        "click>=999",
        "no-such-package",
    ]
