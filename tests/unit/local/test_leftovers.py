"""Only what a killed `up` left is ended: never a stranger who has its number now."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage_operator.local.leftovers import end_leftovers, forget_child, record_child


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that leads a session, as children do."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def change(folder: Path, name: str, **fields) -> None:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_recorded_child_is_ended_and_forgotten(tmp_path, sleeper):
    record_child(tmp_path, "etcd", sleeper.pid, ())
    # It is ours to reap here, which `up` would not be: a zombie counts as gone.
    assert end_leftovers(tmp_path) == ["etcd"]
    assert sleeper.wait(5) == -9
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", [{"start_time": 1}, {"boot": "another"}])
def test_a_stranger_with_the_same_number_is_left_alone(tmp_path, sleeper, field):
    record_child(tmp_path, "etcd", sleeper.pid, ())
    change(tmp_path, "etcd", **field)
    assert end_leftovers(tmp_path) == []
    assert sleeper.poll() is None
    assert list(tmp_path.iterdir()) == []


FORKING = """
import os, sys, time
pid = os.fork()
if pid == 0: time.sleep(600)
print(pid, flush=True)
sys.stdin.read()
"""


def test_what_a_gone_child_had_started_is_known_by_its_program(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as leader:
        assert leader.stdout is not None
        member = int(leader.stdout.readline())
        record_child(tmp_path, "nginx", leader.pid, ())
    ours = json.loads((tmp_path / "nginx.json").read_text())
    change(tmp_path, "nginx", program="/bin/stranger")
    assert end_leftovers(tmp_path) == []
    os.kill(member, 0)
    (tmp_path / "nginx.json").write_text(json.dumps(ours))
    assert end_leftovers(tmp_path) == ["nginx"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"boot": "x", "sockets": 3}'])
def test_a_record_cut_off_by_a_crash_is_removed(tmp_path, text):
    (tmp_path / "etcd.json").write_text(text)
    assert end_leftovers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_is_gone_leaves_no_record_and_its_sockets_are_removed(tmp_path):
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    records = tmp_path / "records"
    records.mkdir()
    record_child(records, "etcd", gone.pid, ())
    assert list(records.iterdir()) == []
    left = tmp_path / "x.sock"
    left.touch()
    forget_child(records, "etcd", (str(left),))
    assert not left.exists()
