"""A deletion that was acknowledged goes on to its end whichever servers die or stop answering on the way."""

import contextlib
import signal
import time
from typing import Any

import httpx
import pytest
from black_box.http_client import check_error, check_ok
from black_box.processes import wait_until
from black_box.store import RunningStore
from black_box.user import User, hash_of, new_user
from real_servers.server import wait_until_stopped

RESUMED_SECONDS = 60


@pytest.fixture
def user(frail_store: RunningStore) -> User:
    frail_store.wait_ready()
    return new_user(frail_store, "deleting")


def in_trash(user: User, node_id: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        answer = user.l1.get("/trash")
        return answer.status_code == 200 and node_id in {each["id"] for each in answer.json()["trash"]}
    return False


def delete_file(user: User, file_id: str, version: int) -> dict[str, Any]:
    return check_ok(user.l1.delete(f"/delete_file/{file_id}", json={"client_version": version}))


def test_a_deletion_waits_for_the_block_servers_and_outlives_every_l1_server(
    frail_store: RunningStore, user: User
):
    user.save("f", [b"content of f"])
    blocks = frail_store.servers("block")
    for process in blocks:
        process.signal(signal.SIGSTOP)
        wait_until_stopped(process.pid)
    try:
        delete_file(user, "f", 1)
        check_error(user.l1.get("/nodes/f"), 410)
        time.sleep(1)
        assert not in_trash(user, "f")
        for process in frail_store.servers("l1"):
            process.signal(signal.SIGKILL)
        wait_until(
            lambda: user.l1.get("/trash").status_code == 200, RESUMED_SECONDS, "L1 is there again", step=0.2
        )
        assert not in_trash(user, "f")
        check_error(user.l1.get("/nodes/f"), 410)
    finally:
        for process in blocks:
            process.signal(signal.SIGCONT)
    wait_until(lambda: in_trash(user, "f"), RESUMED_SECONDS, "the deletion ended", step=0.2)
    frail_store.wait_ready()
    chunk = check_ok(user.l3.get(f"/chunks/{hash_of(b'content of f')}/metadata"))
    assert chunk["state"] == "soft_deleted"
    check_ok(user.l1.post("/undelete/f"))
    assert user.read("f") == b"content of f"


def test_a_walk_below_a_directory_goes_on_after_kills(frail_store: RunningStore, user: User):
    user.make_directory("d", "/d")
    for number in range(20):
        user.make_directory(f"d{number}", f"/d{number}", "d")
        user.save(f"f{number}", [b"%d" % number], parent_dir_id=f"d{number}", name="f")
    check_ok(user.l1.delete("/delete_directory/d", json={"recursive": True}))
    for _ in range(3):
        for process in frail_store.servers("l1"):
            process.signal(signal.SIGKILL)
        time.sleep(1)
    wait_until(lambda: in_trash(user, "d"), RESUMED_SECONDS, "the deletion ended", step=0.2)
    frail_store.wait_ready()
    check_error(user.l1.get("/nodes/f7"), 410)
    check_ok(user.l1.post("/undelete/d"))
    for number in range(20):
        assert user.node(f"f{number}")["version"] == 2
        assert user.read(f"f{number}") == b"%d" % number
