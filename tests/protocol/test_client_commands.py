"""The commands of a client, run as a person runs them, against a real store."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from black_box.store import RunningStore
from black_box.user import User, new_user

from moorage.client import Client
from moorage.core.errors import ConflictError
from moorage.session import log_in
from moorage.transfers.outcomes import Outcome, Status
from moorage.transfers.progress import Progress
from moorage.transfers.uploads import Item, Uploader
from moorage.transport import Transport

COMMAND = Path(sys.executable).with_name("moorage")


class Machine:
    """One that somebody works on: a home with its login, and a folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
        }
        self.session = self.home / "config" / "moorage" / "session.json"

    def begin(self, *arguments: object, **options) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            cwd=self.work,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.PIPE,
            **options,
        )

    def run(self, *arguments: object, code: int = 0, given: str = "") -> str:
        """What it said; on stderr too, when it was to fail."""
        process = self.begin(*arguments)
        out, err = process.communicate(given.encode(), timeout=120)
        assert process.returncode == code, (out + err).decode()
        return (out if code == 0 else out + err).decode()

    def ask(self, *arguments: object) -> list[dict]:
        return [json.loads(line) for line in self.run(*arguments, "--json").splitlines()]

    def log_in(self, user: User) -> None:
        self.run("login", user.store.url, "-u", user.username, "--password-stdin", given=f"{user.password}\n")


@pytest.fixture
def machine(tmp_path: Path, user: User) -> Machine:
    made = Machine(tmp_path)
    made.log_in(user)
    return made


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


# --- logins ------------------------------------------------------------------------------------------------------


def test_a_login_is_kept_where_only_its_user_can_read_it_and_without_the_password(
    machine: Machine, user: User
):
    assert machine.session.stat().st_mode & 0o777 == 0o600
    assert user.password not in machine.session.read_text()
    assert machine.run("logout") == "Logged out.\n"
    assert not machine.session.exists()
    assert "moorage login" in machine.run("ls", code=1)


def test_a_wrong_password_or_address_is_said(machine: Machine, user: User):
    said = machine.run(
        "login", user.store.url, "-u", user.username, "--password-stdin", given="wrong\n", code=1
    )
    assert "Error: " in said
    assert "Traceback" not in said
    for address in ("not an address", "ftp://x", "http://", f"{user.store.url}/meta"):
        assert "is not an address" in machine.run(
            "login", address, "-u", "x", "--password-stdin", given="x\n", code=2
        )
    assert machine.run("ls") == ""  # the login of before still stands


def test_a_token_that_has_ended_is_renewed_and_kept(machine: Machine):
    session = json.loads(machine.session.read_text())
    machine.session.write_text(json.dumps(session | {"token": "ended.long.ago"}))
    machine.run("mkdir", "/a")
    assert json.loads(machine.session.read_text())["token"] != "ended.long.ago"
    machine.session.write_text(json.dumps(session | {"token": "x", "refresh_token": "x"}))
    assert "logs in again" in machine.run("ls", code=1)
    machine.session.write_text("{")
    assert "moorage login" in machine.run("ls", code=1)


def test_an_address_with_a_password_in_it_is_refused_and_not_repeated(machine: Machine):
    said = machine.run(
        "login", "http://ada:hunter2@127.0.0.1:1", "-u", "ada", "--password-stdin", given="x\n", code=2
    )
    assert "hunter2" not in said


# --- storing and fetching ----------------------------------------------------------------------------------------


@pytest.fixture
def tree(machine: Machine) -> Path:
    root = machine.work / "tree"
    write(root / "größe 大" / "[red]file[/red].txt", "one")
    write(root / "empty", b"")
    write(root / "deep" / "er" / "large.bin", random.Random(1).randbytes(9_000_001))
    for number in range(1010):
        write(root / "many" / f"{number}", f"content {number % 900}\n" * (number % 40))
    (root / "nothing here").mkdir()
    (root / "deep" / "er" / "large.bin").chmod(0o750)
    os.utime(root / "empty", ns=(0, 1_600_000_000_123_456_000))
    return root


def test_a_folder_comes_back_byte_for_byte_and_is_sent_once(machine: Machine, tree: Path):
    assert machine.run("put", "tree", "/backup").startswith("1013 stored (")
    assert machine.run("put", "tree", "/backup").startswith("1013 unchanged (0 bytes)")
    assert machine.run("put", "tree/many", "/backup/").startswith("1010 unchanged")
    assert machine.run("get", "/backup", "here").startswith("1013 fetched (")
    assert contents(machine.work / "here") == contents(tree)
    assert (machine.work / "here/deep/er/large.bin").stat().st_mode & 0o777 == 0o750
    assert (machine.work / "here/empty").stat().st_mtime_ns == 1_600_000_000_123_456_000
    assert machine.run("get", "/backup", "here").startswith("1013 unchanged (0 bytes)")
    assert machine.run("get", "/backup/deep", "here/").startswith("1 unchanged")
    assert {path.name for path in machine.work.iterdir()} == {"tree", "here"}


def test_only_what_differs_becomes_a_new_version(machine: Machine, tree: Path):
    machine.run("put", "tree/many", "/")
    write(tree / "many" / "7", "changed")
    write(tree / "many" / "new", "new")
    outcomes = machine.ask("put", "tree/many", "/")
    stored = {Path(each["target"]).name: each["version"] for each in outcomes if each["status"] == "stored"}
    assert stored == {"7": 2, "new": 1}
    assert sum(each["status"] == "unchanged" for each in outcomes) == 1009
    assert machine.run("cat", "/many/7") == "changed"
    assert machine.run("cat", "/many/7", "--version", 1) == "content 7\n" * 7
    assert [each["version"] for each in machine.ask("versions", "/many/7")] == [2, 1]
    assert "at version 3" in machine.run("restore", "/many/7", 1)
    assert machine.run("cat", "/many/7") == "content 7\n" * 7
    assert machine.run("get", "/many/7", "old", "--version", 2).startswith("1 fetched")
    assert (machine.work / "old").read_text() == "changed"


def test_a_file_that_is_here_is_not_overwritten_unless_that_is_asked_for(machine: Machine):
    write(machine.work / "file", "theirs")
    machine.run("put", "file", "/file")
    write(machine.work / "file", "mine")
    assert "--overwrite" in machine.run("get", "/file", code=1)
    assert (machine.work / "file").read_text() == "mine"
    assert machine.run("get", "/file", "--overwrite").startswith("1 fetched")
    assert (machine.work / "file").read_text() == "theirs"
    assert [path.name for path in machine.work.iterdir()] == ["file"]


def test_what_cannot_be_stored_is_said_and_the_rest_is_stored(machine: Machine):
    write(machine.work / "tree" / "good", "good")
    write(machine.work / "tree" / "bad\u202ename", "bad")
    write(machine.work / "tree" / os.fsdecode(b"caf\xe9"), "no text")
    write(machine.work / "tree" / "n\u0303", "one")
    write(machine.work / "tree" / "\u00f1", "two")
    (machine.work / "tree" / "link").symlink_to("good")
    said = machine.run("put", "tree", "/", code=1)
    assert "2 stored, 1 left out, 3 failed" in said
    assert "U+202E" in said
    assert "Another spelling" in said
    assert "caf\ufffd: `name` is not valid Unicode" in said
    machine.begin("put", "tree", "/", "--json").communicate(timeout=60)
    assert {each["name"] for each in machine.ask("ls", "/tree")} == {"good", "ñ"}
    assert "cannot be read" in machine.run("put", "nothing", "tree/good", "/beside/", code=1)
    assert machine.run("cat", "/beside/good") == "good"


def test_two_files_for_one_place_are_not_both_meant(machine: Machine):
    for folder in ("one", "two"):
        write(machine.work / folder / "same", folder)
    write(machine.work / "other", "other")
    for _ in range(2):
        said = machine.run("put", "one/same", "two/same", "other", "/into/", code=1)
        assert "the same place" in said
        assert machine.run("cat", "/into/same") == "one"
    assert machine.run("cat", "/into/other") == "other"


def test_an_interrupted_command_is_gone_on_with(machine: Machine):
    data = random.Random(2).randbytes(200_000_000)
    write(machine.work / "large", data)
    process = machine.begin("put", "large", "/large")
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    # It may have been quick enough; then there is nothing to go on with.
    assert process.returncode == 0 or (process.returncode == 130 and b"Interrupted" in err)
    machine.run("put", "large", "/large")
    process = machine.begin("get", "/large", "back")
    time.sleep(1.0)
    process.kill()
    process.communicate(timeout=30)
    machine.run("get", "/large", "back", "--overwrite")
    assert (machine.work / "back").read_bytes() == data
    assert {path.name for path in machine.work.iterdir()} == {"large", "back"}


async def test_what_another_client_stored_meanwhile_is_not_overwritten(machine: Machine, user: User):
    write(machine.work / "file", "first")
    machine.run("put", "file", "/file")
    (known,) = machine.ask("ls", "/file")
    write(machine.work / "file", "second")
    machine.run("put", "file", "/file")
    write(machine.work / "file", "based on the first")
    transport = Transport()
    outcomes: list[Outcome] = []
    try:
        client = Client(transport, await log_in(transport, user.store.url, user.username, user.password))
        stale = Item(
            source=machine.work / "file",
            size=18,
            target="/file",
            parent_id="root",
            name="file",
            file_id=known["id"],
            is_new=False,
            version=known["version"],
            known_size=known["size"],
        )
        await Uploader(client, Progress(), outcomes).store([stale])
    finally:
        await transport.close()
    (outcome,) = outcomes
    assert (outcome.status, outcome.error) == (Status.FAILED, ConflictError.word)
    assert machine.run("cat", "/file") == "second"


# --- the tree ----------------------------------------------------------------------------------------------------


def test_directories_are_made_moved_deleted_and_brought_back(machine: Machine):
    write(machine.work / "file", "one")
    machine.run("mkdir", "/a/b/c")
    machine.run("mkdir", "/a/b/c")
    machine.run("put", "file", "/a/b/")
    machine.run("put", "file", "/new/place/named.txt")
    machine.run("mv", "/a/b/file", "/new/place")
    assert [each["name"] for each in machine.ask("ls", "/new/place")] == ["file", "named.txt"]
    assert "--replace" in machine.run("mv", "/new/place/file", "/new/place/named.txt", code=1)
    machine.run("mv", "/new/place/file", "/new/place/named.txt", "--replace")
    machine.run("mv", "/new", "/old")
    assert machine.run("cat", "/old/place/named.txt") == "one"
    assert "-r" in machine.run("rm", "/old", code=1)
    assert "root" in machine.run("rm", "-r", "/", code=2)
    (deleted,) = machine.ask("rm", "-r", "/old")
    assert "nothing" in machine.run("cat", "/old/place/named.txt", code=1)
    assert "nothing" in machine.run("rm", "/nowhere", "/a/b/c", code=1)  # and the other one is deleted
    assert machine.ask("ls", "/a/b") == []
    machine.run("undelete", deleted["id"])  # at once, before it is in the trash
    assert machine.run("cat", "/old/place/named.txt") == "one"
    machine.run("mv", "/old/place/named.txt", "/old/last.txt")
    machine.run("rm", "/old/last.txt")
    while not any(each["name"] == "last.txt" for each in machine.ask("trash")):
        time.sleep(0.2)
    machine.run("undelete", "last.txt", "--to", "/elsewhere/kept.txt")
    assert machine.run("cat", "/elsewhere/kept.txt") == "one"
    assert "moorage trash" in machine.run("undelete", "never was", code=1)


@pytest.mark.parametrize("path", ["/a//b", "/..", "/" + "x" * 256, "/a\x01"])
def test_a_path_that_cannot_be_is_wrong_input(machine: Machine, path):
    assert "Error: " in machine.run("ls", path, code=2)


# --- outages and administration ----------------------------------------------------------------------------------


def test_a_crash_of_all_servers_of_a_kind_is_only_a_pause(frail_store: RunningStore, tmp_path: Path):
    machine = Machine(tmp_path)
    machine.log_in(new_user(frail_store))
    write(machine.work / "large", random.Random(3).randbytes(120_000_000))
    process = machine.begin("put", "large", "/large")
    time.sleep(0.8)
    for role in ("l1", "block", "l3"):
        for server in frail_store.servers(role):
            server.signal(signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    machine.run("get", "/large", "back")
    assert (machine.work / "back").read_bytes() == (machine.work / "large").read_bytes()


def test_users_are_administered_with_the_connection_file_alone(local_store: RunningStore, tmp_path: Path):
    machine, name = Machine(tmp_path), f"cli{random.randrange(10**9)}"
    connection = ("users", "--connection", local_store.data / "connection.json")
    assert "connection.json cannot be read" in machine.run("users", "list", code=1)
    machine.run(*connection, "add", name, "--password-stdin", given="correct horse\n")
    (added,) = [each for each in machine.ask(*connection, "list") if each["username"] == name]
    assert added["disabled"] is False
    login = ("login", local_store.url, "-u", name, "--password-stdin")
    machine.run(*login, given="correct horse\n")
    machine.run(*connection, "password", name, "--password-stdin", given="battery staple\n")
    machine.run(*login, given="correct horse\n", code=1)
    machine.run(*login, given="battery staple\n")
    machine.run(*connection, "disable", name)
    machine.run(*login, given="battery staple\n", code=1)
    machine.run(*connection, "enable", name)
    machine.run(*login, given="battery staple\n")
    machine.run(*connection, "remove", name, "--yes")
    machine.run(*login, given="battery staple\n", code=1)
    for command in ("disable", "enable"):
        machine.run(*connection, command, name, code=1)  # who is not there is not added
    assert all(each["username"] != name for each in machine.ask(*connection, "list"))
