"""`moorage up` with wrong input, and what it says: nothing is started, and the exit code tells which it was."""

import io
import json
import shlex
import socket

import pytest
from click.testing import CliRunner

from moorage_operator.local.command import QUICKSTART, up
from moorage_operator.local.datadir import DataDir
from moorage_operator.local.live import LiveReport
from moorage_operator.local.report import JsonReport, LineReport
from moorage_operator.local.run import first_user_command, load_realm, public_port_of


def run(*arguments):
    return CliRunner().invoke(up, [str(argument) for argument in arguments])


def test_wrong_manifests_are_listed_and_nothing_is_made(tmp_path):
    manifest = tmp_path / "m.yaml"
    text = (
        QUICKSTART.read_text()
        .replace("serverKey: main", "serverKey: Main")
        .replace("name: home", "nam: home")
    )
    manifest.write_text(text)
    result = run("-f", manifest, "--data", tmp_path / "d")
    assert result.exit_code == 2
    assert result.stderr.startswith("moorage up: the manifests are wrong in 3 places:\n")
    for said in (
        "metadata.name: required",
        "metadata.nam: unknown field",
        "spec.serverKey: expected lower-case",
    ):
        assert said in result.stderr
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-f", "nowhere.yaml"], "nowhere.yaml cannot be read: No such file or directory."),
        (["--host", "example.com"], "--host: expected an IP address of this machine, got 'example.com'."),
        (["--port", "70000"], "Invalid value for '--port'"),
        (["--dta", "x"], "No such option"),
    ],
)
def test_wrong_arguments_are_exit_code_2(tmp_path, arguments, said):
    result = run("--data", tmp_path / "d", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "d").exists()


def test_a_file_that_is_not_utf8_is_wrong_input(tmp_path):
    (tmp_path / "m.yaml").write_bytes(b"kind: \xff")
    assert "it is not UTF-8" in run("-f", tmp_path / "m.yaml", "--data", tmp_path / "d").stderr


def test_a_port_in_use_is_exit_code_1_and_nothing_is_started(tmp_path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        result = run("--data", tmp_path / "d", "--port", port, "--json")
    assert result.exit_code == 1
    (event,) = map(json.loads, result.stdout.splitlines())
    assert event["event"] == "error"
    assert event["detail"].startswith(f"Port {port} on 127.0.0.1 is in use")
    assert not list((tmp_path / "d" / "logs").iterdir())


def test_without_a_file_it_is_the_quickstart():
    realm = load_realm([QUICKSTART])
    assert realm.access_point.metadata.name == "home"
    assert public_port_of(realm) == 8080


def tell(report):
    report.progress("building etcd")
    report.note("a [note]")
    report.state("etcd", "starting")
    report.state("etcd", "ready")
    report.crashed("etcd", "signal 9", 0.2)
    report.ready("http://127.0.0.1:8080", "curl …")
    report.stopping()
    report.state("etcd", "stopped", "killed")
    report.stopped()
    report.close()


@pytest.mark.parametrize("kind", [LineReport, LiveReport])
def test_lines_tell_a_person_what_happens(kind):
    out, errors = io.StringIO(), io.StringIO()
    report = kind(out, errors)
    tell(report)
    report.failed("it is in use")
    said = out.getvalue()
    for line in (
        "building etcd\n",
        "note: a [note]\n",
        "etcd: crashed (signal 9), starting it again in 0.2 s\n",
        "ready http://127.0.0.1:8080\n",
        "stopped\n",
    ):
        assert line in said
    assert errors.getvalue() == "moorage up: it is in use\n"


def test_json_tells_a_program_the_same():
    out = io.StringIO()
    report = JsonReport(out, clock=lambda: 1.25)
    tell(report)
    report.failed("no")
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert all(event.pop("time") == 1.25 for event in events)
    assert events == [
        {"event": "progress", "detail": "building etcd"},
        {"event": "note", "detail": "a [note]"},
        {"event": "state", "part": "etcd", "state": "starting"},
        {"event": "state", "part": "etcd", "state": "ready"},
        {"event": "state", "part": "etcd", "state": "crashed", "detail": "signal 9", "restart_in": 0.2},
        {"event": "ready", "url": "http://127.0.0.1:8080", "first_user": "curl …"},
        {"event": "stopping"},
        {"event": "state", "part": "etcd", "state": "stopped", "detail": "killed"},
        {"event": "stopped"},
        {"event": "error", "detail": "no"},
    ]


def test_the_command_for_the_first_user_is_safe_in_every_shell(tmp_path):
    command = first_user_command("http://[::1]:8080", DataDir(tmp_path / "a folder"))
    assert "'http://[::1]:8080/auth/users/ada'" in command
    assert f"@{tmp_path}/a folder/admin.header" in shlex.split(command)
