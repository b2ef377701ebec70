"""The image by itself, run as a cluster runs it: nobody's user, nothing writable, no capability, no network."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LARGEST_BYTES = 250 * 1000**2
NOBODY_IN_PARTICULAR = "1234:1234"
"""Clusters that give each namespace its own range of uids run the image as any of them."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(image: str) -> Run:
    """Run a command in a fresh container of the image."""

    def run(*command: str, user: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        confined = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"]
        as_user = ["--user", user] if user else []
        docker = ["docker", "run", "--rm", *confined, *as_user, image, *command]
        done = subprocess.run(docker, check=False, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def test_it_is_small(image: str):
    inspected = subprocess.run(["docker", "image", "inspect", image], check=True, capture_output=True)
    assert json.loads(inspected.stdout)[0]["Size"] < LARGEST_BYTES


def test_it_runs_as_a_user_without_rights(run: Run):
    assert run("id", "-u").stdout.strip() == "65532"
    assert run("touch", "/opt/moorage/bin/anything", check=False).returncode != 0


@pytest.mark.parametrize("user", [None, NOBODY_IN_PARTICULAR])
@pytest.mark.parametrize("role", ["auth", "l1", "l2", "l3", "block"])
def test_every_role_starts_and_says_what_it_lacks(run: Run, role: str, user: str | None):
    """With settings it runs in the cluster; here it gets as far as the file that is not there."""
    started = run("moorage-nodes", role, "--settings", "/no/settings.json", user=user, check=False)
    assert started.returncode == 2
    assert "cannot serve" in started.stderr
    assert "/no/settings.json" in started.stderr
    assert "Traceback" not in started.stderr


def test_every_server_module_can_be_loaded(run: Run):
    load_all = "import importlib, moorage_nodes.app as a; [importlib.import_module(m) for m in a.ROLE_MODULES.values()]"
    run("python", "-c", load_all)


def test_nginx_and_the_client_are_in_it(run: Run):
    assert "nginx version" in run("nginx", "-v").stderr
    assert "moorage, version" in run("moorage", "--version").stdout


def test_it_holds_what_the_lock_names_and_nothing_else(run: Run):
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (REPOSITORY / "image.lock").read_text(), re.MULTILINE))
    everywhere = dict(
        re.findall(r"^([a-z0-9-]+)==(\S+)", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE)
    )
    say = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    found = {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in json.loads(run("python", "-c", say).stdout).items()
    }
    assert found.pop("moorage")
    unlocked = {name: version for name, version in found.items() if locked.get(name) != version}
    assert unlocked == {}
    assert all(everywhere[name] == version for name, version in found.items())
