"""Deletions and their clients when servers die: nobody is forgotten, no deadline is lost or early, nothing comes twice
that was acknowledged.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from black_box import steered_up
from black_box.http_client import Server, check_ok
from black_box.listener import listening
from black_box.processes import wait_until
from black_box.steered_up import Clock
from black_box.store import QUICKSTART, RunningStore
from black_box.user import User, new_user

ACK_SECONDS = 8
QUEUE_LIMIT = 10
ENDED_SECONDS = 90


@pytest.fixture(scope="module")
def clock(folder: Path) -> Clock:
    """Of the machine that the brisk store's servers believe to run on."""
    return Clock(folder / "steered")


@pytest.fixture(scope="module")
def brisk_store(folder: Path, clock: Clock) -> Iterator[RunningStore]:
    """Its notifier waits for seconds, and keeps few messages; one to stop, kill and start again."""
    documents = [each for each in yaml.safe_load_all(QUICKSTART.read_text()) if each]
    (notifier,) = (each for each in documents if each["kind"] == "Notifier")
    notifier["spec"] |= {"ackDeadline": f"{ACK_SECONDS}s", "queueLimit": QUEUE_LIMIT}
    manifest = folder / "brisk.yaml"
    manifest.write_text(yaml.safe_dump_all(documents))
    up = (sys.executable, steered_up.__file__, clock.folder)
    running = RunningStore(folder / "brisk", manifest=manifest, up=up)
    running.start()
    yield running
    running.end()


@pytest.fixture
def user(brisk_store: RunningStore) -> User:
    brisk_store.wait_ready()
    return new_user(brisk_store, "told")


def in_trash(user: User, node_id: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        answer = user.l1.get("/trash")
        return answer.status_code == 200 and node_id in {each["id"] for each in answer.json()["trash"]}
    return False


def until_in_trash(user: User, node_id: str) -> None:
    wait_until(lambda: in_trash(user, node_id), ENDED_SECONDS, "the deletion ended", step=0.1)


def delete_file(user: User, file_id: str) -> str:
    notification_id: str = check_ok(user.l1.delete(f"/delete_file/{file_id}", json={"client_version": 1}))[
        "notification_id"
    ]
    return notification_id


def messages(server: Server, client_id: str, timeout: int = 20) -> list[dict[str, Any]]:
    """All that there are; asked again while no server answers."""
    deadline = time.monotonic() + ENDED_SECONDS
    while True:
        with contextlib.suppress(httpx.TransportError):
            params = {"client_id": client_id, "timeout": timeout, "batch": 1}
            response = server.get("/poll", params=params)
            if response.status_code == 204:
                return []
            if response.status_code == 200:
                found: list[dict[str, Any]] = response.json()["messages"]
                return found
            assert response.status_code == 503, response.text
        assert time.monotonic() < deadline
        time.sleep(0.1)


def deletions(server: Server, client_id: str) -> list[str]:
    """The notification ids that wait for a client; there is at least one."""
    deadline = time.monotonic() + ENDED_SECONDS
    while True:
        found = [m["notification_id"] for m in messages(server, client_id) if m["type"] == "delete"]
        if found:
            return found
        assert time.monotonic() < deadline


def acknowledge(server: Server, notification_id: str, client_id: str) -> None:
    deadline = time.monotonic() + ENDED_SECONDS
    while True:
        with contextlib.suppress(httpx.TransportError):
            body = {"notification_id": notification_id, "client_id": client_id}
            response = server.post("/ack_deletion", json=body)
            if response.status_code == 200:
                assert response.json() == {"status": "acknowledged"}
                return
            assert response.status_code == 503, response.text
        assert time.monotonic() < deadline
        time.sleep(0.1)


def register(user: User, *clients: str) -> None:
    for client_id in clients:
        check_ok(user.l1.put(f"/clients/{client_id}", json={"name": client_id}))


def kill(store: RunningStore, *roles: str) -> None:
    for role in roles:
        for process in store.servers(role):
            process.signal(signal.SIGKILL)


def test_at_the_deadline_it_goes_on_without_who_is_silent_and_not_before(user: User):
    user.save("f", [b"f"])
    register(user, "answers", "silent")
    began = time.monotonic()
    notification_id = delete_file(user, "f")
    acknowledge(user.notify, notification_id, "answers")
    until_in_trash(user, "f")
    assert time.monotonic() - began >= ACK_SECONDS
    acknowledge(user.notify, notification_id, "silent")
    assert [m for m in messages(user.notify, "silent", 0) if m["type"] == "delete"] == []


@pytest.mark.parametrize("step", [3600.0, -3600.0], ids=["an hour ahead", "an hour back"])
def test_a_deadline_is_not_moved_by_a_clock_that_steps(
    brisk_store: RunningStore, clock: Clock, user: User, step: float
):
    """It steps while clients are waited for; then all notification servers die, and come back to the new time."""
    user.save("f", [b"f"])
    register(user, "answers", "silent")
    began = time.monotonic()
    notification_id = delete_file(user, "f")
    try:
        clock.set(step)
        user.log_in()
        assert not in_trash(user, "f")
        acknowledge(user.notify, notification_id, "answers")
        kill(brisk_store, "notify")
        until_in_trash(user, "f")
        assert time.monotonic() - began >= ACK_SECONDS
    finally:
        clock.set(0.0)


def test_killed_between_the_steps_servers_forget_nobody(brisk_store: RunningStore, user: User):
    register(user, "a", "b")
    for number, killed in enumerate((("notify",), ("l1",), ("notify", "l1"))):
        user.save(f"f{number}", [b"f"])
        notification_id = delete_file(user, f"f{number}")
        kill(brisk_store, *killed)
        assert deletions(user.notify, "a") == [notification_id]
        acknowledge(user.notify, notification_id, "a")
        kill(brisk_store, *killed)
        assert deletions(user.notify, "b") == [notification_id]
        acknowledge(user.notify, notification_id, "b")
        kill(brisk_store, *killed)
        until_in_trash(user, f"f{number}")
        assert [m for m in messages(user.notify, "a", 0) if m["type"] == "delete"] == []
        brisk_store.wait_ready()


def test_a_deadline_outlives_kills_of_all_that_count_it(brisk_store: RunningStore, user: User):
    user.save("f", [b"f"])
    register(user, "silent")
    began = time.monotonic()
    delete_file(user, "f")
    for _ in range(3):
        time.sleep(0.5)
        kill(brisk_store, "notify", "l1")
    until_in_trash(user, "f")
    assert time.monotonic() - began >= ACK_SECONDS


def test_a_restart_of_everything_finds_what_waits(brisk_store: RunningStore, user: User):
    user.save("f", [b"f"])
    register(user, "a")
    notification_id = delete_file(user, "f")
    assert deletions(user.notify, "a") == [notification_id]
    brisk_store.stop()
    brisk_store.start()
    with listening(user.notify, "a") as device:
        assert device.next("delete")["notification_id"] == notification_id
    acknowledge(user.notify, notification_id, "a")
    until_in_trash(user, "f")


def test_who_is_connected_to_a_killed_server_finds_another(brisk_store: RunningStore, user: User):
    user.save("f", [b"f"])
    with pytest.raises(Exception, match=r"close|lost|reset|1006"), listening(user.notify, "a") as device:  # noqa: PT012
        kill(brisk_store, "notify")
        device.next("never")
    notification_id = delete_file(user, "f")
    assert deletions(user.notify, "a") == [notification_id]


def test_a_full_queue_makes_its_client_start_over_and_the_deletions_go_on(user: User):
    register(user, "away")
    for number in range(QUEUE_LIMIT + 1):
        user.save(f"f{number}", [b"f"])
        delete_file(user, f"f{number}")
    with listening(user.notify, "away") as device:
        device.next("resync")
    for number in range(QUEUE_LIMIT + 1):
        until_in_trash(user, f"f{number}")
