"""`moorage up` ends and starts again: what was acknowledged is there, and nothing is in the way."""

import hashlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from black_box.http_client import check_ok
from black_box.processes import all_processes, socket_files
from black_box.store import QUICKSTART, RunningStore, free_port
from black_box.user import User, hash_of, new_user


@pytest.fixture
def user(frail_store: RunningStore) -> User:
    frail_store.wait_ready()
    return new_user(frail_store, "restart")


@pytest.fixture
def written(user: User) -> dict[str, bytes]:
    """A directory, small files, a large one, two versions, and an upload that is not finished."""
    files = {f"f{number}": os.urandom(100 + number) for number in range(20)}
    files["large"] = os.urandom(5_000_000)
    user.make_directory("dir", "/some/dir")
    for file_id, data in files.items():
        user.save(file_id, [data], parent_dir_id="dir", name=f"{file_id}.bin")
    files["f0"] = b"second version"
    user.save("f0", [files["f0"]], base=1)
    return files


def check_all_there(user: User, written: dict[str, bytes]) -> None:
    user.log_in()
    assert user.node("dir")["path"] == "/some/dir"
    assert set(user.listing("dir")) == {f"{file_id}.bin" for file_id in written}
    for file_id, data in written.items():
        assert hashlib.sha256(user.read(file_id)).digest() == hashlib.sha256(data).digest()
    assert user.metadata("f0")["version"] == 2


def nothing_listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_connection_json_is_for_its_owner_alone(frail_store: RunningStore):
    path = frail_store.data / "connection.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert frail_store.connection()["url"] == frail_store.url


def test_sigterm_ends_everything_in_time_and_the_next_up_finds_all(
    frail_store: RunningStore, user: User, written: dict[str, bytes]
):
    token = user.begin("f1", 1)["upload_token"]
    user.store_chunks(token, {"chunk": b"stored before the stop"})
    admin_token = frail_store.admin_token
    sockets = socket_files(frail_store.processes())
    assert frail_store.stop() <= 10
    assert nothing_listens(frail_store.port)
    assert not [path for path in sockets if path.exists()]
    assert not [each for each in all_processes() if str(frail_store.data) in each.command]
    frail_store.start()
    assert frail_store.admin_token == admin_token
    check_ok(user.l1.get("/list_directory/root"))  # a token from before
    check_all_there(user, written)
    check_ok(user.commit("f1", token, 2))
    assert user.read("f1") == b"stored before the stop"
    assert new_user(frail_store).listing() == {}


@pytest.mark.parametrize("children", [False, True], ids=["up alone", "all at once"])
def test_after_kill_9_the_next_up_finds_all(
    frail_store: RunningStore, user: User, written: dict[str, bytes], children: bool
):
    token = user.begin("last")["upload_token"]
    data = os.urandom(1_000_000)
    check_ok(user.block.with_token(token).put(f"/chunks/{hash_of(data)}", content=data))
    check_ok(user.commit("last", token, 1))  # acknowledged a moment before
    started = frail_store.kill(children=children)
    frail_store.start()
    check_all_there(user, written)
    assert user.read("last") == data
    assert not [each for each in started if each.is_alive()], "servers of the killed `up` are still there"


def test_a_second_up_on_the_same_folder_or_port_is_a_clear_error_and_harms_nobody(
    frail_store: RunningStore, user: User, folder: Path
):
    command = [Path(sys.executable).with_name("moorage"), "up", "-f", QUICKSTART, "--json"]
    for data, port in ((frail_store.data, str(free_port())), (folder / "other", str(frail_store.port))):
        second = subprocess.run(
            [*command, "--data", data, "--port", port],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = second.stdout + second.stderr
        assert second.returncode != 0
        assert "Traceback" not in said
        assert (str(frail_store.data) if data == frail_store.data else port) in said
    check_ok(user.l1.get("/list_directory/root"))
    assert not [each for each in all_processes() if str(folder / "other") in each.command]
