"""`moorage-nodes fsck` and `scrub` as commands: exit code 2 and a sentence wherever nothing could be looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from real_servers.server import free_ports
from realm import Realm
from rich.console import Console

from moorage_nodes import app
from moorage_nodes.fsck.check import Result
from moorage_nodes.fsck.command import Outcome

JOBS = pytest.mark.parametrize("job", ["fsck", "scrub"])


def write_settings(tmp_path: Path, **changes) -> Path:
    realm = Realm(tmp_path / "realm")
    document = {
        "role": "check",
        "name": "check-c1",
        "etcd": {"endpoints": ["http://127.0.0.1:1"], "prefix": "/nobody/"},
        "cluster": {"server_key": "c1"},
        "signing_key_file": str(realm.folder / "check.pem"),
        "peers": {"block": {"p1": ["http://127.0.0.1:1"]}},
        **changes,
    }
    file = tmp_path / "check.json"
    file.write_text(json.dumps(document))
    return file


@JOBS
def test_settings_of_another_role_are_refused(tmp_path, capsys, job):
    file = write_settings(tmp_path, role="l1")
    assert app.main([job, "--settings", str(file)]) == 2
    assert "role" in capsys.readouterr().err


@JOBS
def test_settings_that_are_not_there_are_refused(tmp_path, capsys, job):
    assert app.main([job, "--settings", str(tmp_path / "nothing.json")]) == 2
    assert "nothing.json" in capsys.readouterr().err


@JOBS
def test_settings_that_name_no_pool_are_refused(tmp_path, capsys, job):
    """Nothing could be said of the bytes then."""
    assert app.main([job, "--settings", str(write_settings(tmp_path, peers={}))]) == 2
    assert "block servers" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--unknown"], ["--rate", "0"], []])
def test_wrong_arguments_are_refused(tmp_path, arguments):
    with pytest.raises(SystemExit) as ended:
        app.main(["scrub", *arguments])
    assert ended.value.code == 2


@JOBS
def test_a_store_that_is_away_is_no_clean_store(tmp_path, job):
    (port,) = free_ports(1)
    etcd = {"endpoints": [f"http://127.0.0.1:{port}"], "prefix": "/nobody/"}
    command = [sys.executable, "-m", "moorage_nodes.app", job, "--settings"]
    done = subprocess.run(
        [*command, write_settings(tmp_path, etcd=etcd)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "store cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_table_says_what_it_means_and_what_to_do(capsys):
    result = Result(namespaces=1)
    result.findings.add("work_missing", "user", "n123")
    result.findings.add("orphan_object", "user", "up/call.0", "It has 5 bytes.")
    outcome = Outcome("main", result, 1.0, None)
    outcome.show(Console(width=300))
    said = capsys.readouterr().out
    assert "n123" in said
    assert "--repair would look again at 1 of them" in said
    assert "NOT CLEAN: 1 findings" in said
    assert outcome.as_json()["kinds"] == {"orphan_object": 1, "work_missing": 1}
