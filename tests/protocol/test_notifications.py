"""PROTOCOL.md, Deletion 2 to 7 and push: who is told, by whom, how often, and who may say that it knows."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import ANY

import pytest
from black_box.http_client import Server, check_error, check_ok
from black_box.listener import listening
from black_box.processes import wait_until
from black_box.store import RunningStore, Store
from black_box.user import User, hash_of
from websockets.exceptions import ConnectionClosed, InvalidStatus

ENDED_SECONDS = 40
REVOKED_SECONDS = 60


def delete_file(user: User, file_id: str, version: int = 1, **more: Any) -> str:
    body = {"client_version": version, **more}
    answer = check_ok(user.l1.delete(f"/delete_file/{file_id}", json=body))
    assert answer["status"] == "pending_deletion"
    notification_id: str = answer["notification_id"]
    return notification_id


def acknowledge(server: Server, notification_id: str, client_id: str) -> dict[str, Any]:
    body = {"notification_id": notification_id, "client_id": client_id}
    return check_ok(server.post("/ack_deletion", json=body))


def poll(server: Server, client_id: str, timeout: int = 20, **more: Any) -> Any:
    """The answer's JSON; None for 204."""
    params = {"client_id": client_id, "timeout": timeout, **more}
    response = server.get("/poll", params=params)
    if response.status_code == 204:
        assert not response.content
        return None
    return check_ok(response)


def poll_delete(server: Server, client_id: str) -> dict[str, Any]:
    """The next deletion, passing over hints."""
    message = poll(server, client_id)
    while message["type"] != "delete":
        message = poll(server, client_id)
    return dict(message)


def in_trash(user: User, node_id: str) -> bool:
    return node_id in {each["id"] for each in check_ok(user.l1.get("/trash"))["trash"]}


def until_in_trash(user: User, node_id: str) -> None:
    wait_until(lambda: in_trash(user, node_id), ENDED_SECONDS, "the deletion ended", step=0.1)


@pytest.fixture
def root(user: User) -> Server:
    """The host's root, as the user."""
    return user.store.front(user.token)


@pytest.fixture
def replicas(local_store: RunningStore, user: User) -> list[Server]:
    """Both notification servers, past NGINX."""
    return [local_store.direct("notify", "public", number).with_token(user.token) for number in (0, 1)]


def test_the_whole_flow_by_websocket(user: User, root: Server):
    user.save("f", [b"bytes of f"])
    start = check_ok(user.l1.get("/changes"))["cursor"]
    with listening(user.notify, "laptop") as laptop:
        began = time.time()
        notification_id = delete_file(user, "f", client_id="phone")
        message = laptop.next("delete")
        assert (message["file_id"], message["notification_id"]) == ("f", notification_id)
        assert message["deadline"] > time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began))
        assert not in_trash(user, "f")
        check_error(user.l1.get("/files/f/metadata"), 410)
        for server in (root, user.notify, root):
            assert acknowledge(server, notification_id, "laptop") == {"status": "acknowledged"}
    until_in_trash(user, "f")
    chunk = check_ok(user.l3.get(f"/chunks/{hash_of(b'bytes of f')}/metadata"))
    assert chunk["state"] == "soft_deleted"
    changes = check_ok(user.l1.get(f"/changes?cursor={start}"))["changes"]
    told = [(c["type"], c["version"], c["state"]) for c in changes if c["id"] == "f"]
    assert told == [("delete", 2, "pending_deletion"), ("delete", 2, "deleted")]
    assert acknowledge(root, notification_id, "laptop") == {"status": "acknowledged"}


def test_the_same_by_long_poll_at_the_hosts_root(user: User, root: Server):
    user.save("f", [b"f"])
    assert poll(root, "laptop", timeout=0) in (None, {"type": "change", "cursor": ANY})
    notification_id = delete_file(user, "f")
    message = poll_delete(root, "laptop")
    assert message["notification_id"] == notification_id
    assert poll_delete(root, "laptop") == message
    assert message in poll(user.notify, "laptop", batch=1)["messages"]
    acknowledge(root, notification_id, "laptop")
    until_in_trash(user, "f")


def test_a_poll_waits_and_then_answers_204(root: Server):
    began = time.monotonic()
    assert poll(root, "laptop", timeout=2) is None
    assert time.monotonic() - began >= 2
    assert poll(root, "laptop", timeout=0, batch=1) is None


def test_a_poll_that_waits_is_answered_when_something_comes(user: User, root: Server):
    user.save("f", [b"f"])
    poll(root, "laptop", timeout=0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(poll_delete, root, "laptop")
        notification_id = delete_file(user, "f")
        assert waiting.result(ENDED_SECONDS)["notification_id"] == notification_id


def test_told_by_one_replica_and_acknowledged_at_the_other(user: User, replicas: list[Server]):
    user.save("f", [b"f"])
    with listening(replicas[0], "laptop") as laptop, listening(replicas[1], "phone") as phone:
        notification_id = delete_file(user, "f")
        for device in (laptop, phone):
            assert device.next("delete")["notification_id"] == notification_id
    with listening(replicas[1], "laptop") as laptop:
        assert laptop.next("delete")["notification_id"] == notification_id
    acknowledge(replicas[1], notification_id, "laptop")
    assert poll_delete(replicas[0], "phone")["notification_id"] == notification_id
    assert not in_trash(user, "f")
    acknowledge(replicas[0], notification_id, "phone")
    until_in_trash(user, "f")


def test_the_device_that_deletes_is_not_waited_for(user: User, root: Server):
    user.save("f", [b"f"])
    for device in ("mine", "other"):
        poll(root, device, timeout=0)
    notification_id = delete_file(user, "f", client_id="mine")
    assert poll_delete(root, "other")["notification_id"] == notification_id
    check_error(
        root.post("/ack_deletion", json={"notification_id": notification_id, "client_id": "mine"}), 404
    )
    acknowledge(root, notification_id, "other")
    until_in_trash(user, "f")


def test_a_directory_with_all_below_is_one_message(user: User, root: Server):
    user.make_directory("d", "/d")
    for number in range(3):
        user.save(f"f{number}", [b"%d" % number], parent_dir_id="d", name=f"f{number}")
    poll(root, "laptop", timeout=0)
    answer = check_ok(user.l1.delete("/delete_directory/d", json={"recursive": True}))
    message = poll_delete(root, "laptop")
    assert (message["file_id"], message["node"]) == ("d", "directory")
    acknowledge(root, answer["notification_id"], "laptop")
    until_in_trash(user, "d")


def test_undelete_while_pending_cancels_and_late_acknowledgements_change_nothing(user: User, root: Server):
    user.save("f", [b"f"])
    poll(root, "laptop", timeout=0)
    notification_id = delete_file(user, "f")
    assert poll_delete(root, "laptop")["notification_id"] == notification_id
    check_ok(user.l1.post("/undelete/f"))
    assert acknowledge(root, notification_id, "laptop") == {"status": "acknowledged"}
    time.sleep(0.5)
    assert user.read("f") == b"f"
    assert user.node("f")["version"] == 3
    again = delete_file(user, "f", 3)
    assert again != notification_id
    assert acknowledge(root, notification_id, "laptop") == {"status": "acknowledged"}
    assert not in_trash(user, "f")
    acknowledge(root, again, "laptop")
    until_in_trash(user, "f")


def test_a_change_between_two_polls_is_told_by_whichever_server_answers(user: User, root: Server):
    """Two servers answer in turn: neither of them may keep a hint to itself."""
    while poll(root, "laptop", timeout=0) is not None:
        pass
    for number in range(10):
        user.save(f"f{number}", [b"f"])
        newest = check_ok(user.l1.get("/changes"))["cursor"]
        deadline = time.monotonic() + ENDED_SECONDS
        while poll(root, "laptop", timeout=5) != {"type": "change", "cursor": newest}:
            assert time.monotonic() < deadline, "the newest change is told to nobody"


def test_another_users_notification_and_devices_are_unknown(user: User, stranger: User):
    user.save("f", [b"f"])
    for each in (user, stranger):
        poll(each.notify, "laptop", timeout=0)
    poll(stranger.notify, "theirs", timeout=0)
    notification_id = delete_file(user, "f")
    body = {"notification_id": notification_id, "client_id": "laptop"}
    check_error(stranger.notify.post("/ack_deletion", json=body), 404)
    check_error(user.notify.post("/ack_deletion", json={**body, "client_id": "theirs"}), 404)
    check_error(user.notify.post("/ack_deletion", json={**body, "notification_id": "n" + "0" * 36}), 404)
    assert poll(stranger.notify, "laptop", timeout=0) is None
    acknowledge(user.notify, notification_id, "laptop")
    until_in_trash(user, "f")
    check_error(stranger.notify.post("/ack_deletion", json=body), 404)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"notification_id": "n"},
        {"notification_id": "n", "client_id": "a/b"},
        {"notification_id": "", "client_id": "a"},
        {"notification_id": 1, "client_id": "a"},
        {"notification_id": "n", "client_id": "a", "more": 1},
    ],
)
def test_a_wrong_acknowledgement_is_refused(user: User, body: dict[str, Any]):
    check_error(user.notify.post("/ack_deletion", json=body), 422)


@pytest.mark.parametrize("query", ["", "client_id=a%2Fb", "client_id=a&timeout=soon", "client_id=a&batch=x"])
def test_a_wrong_poll_is_refused(user: User, query: str):
    check_error(user.notify.get(f"/poll?{query}"), 422)


def test_a_commit_is_hinted_to_the_other_devices_of_its_user_alone(user: User, stranger: User):
    start = check_ok(user.l1.get("/changes"))["cursor"]
    with (
        listening(user.notify, "laptop") as laptop,
        listening(user.store.front(user.token), "phone") as phone,
        listening(stranger.notify, "laptop") as another,
    ):
        user.save("f", [b"f"])
        for device in (laptop, phone):
            hint = device.next()
            assert hint["type"] == "change"
            assert isinstance(hint["cursor"], str)
        found = check_ok(user.l1.get(f"/changes?cursor={start}"))
        assert {change["id"] for change in found["changes"]} == {"f"}
        with pytest.raises(TimeoutError):
            another.next(seconds=0.5)


INTERNAL = [
    "/notify_deletion",
    "/deletion_status",
    "/delete_chunks",
    "/internal/changes",
    "/internal/clients",
    "/internal/withdraw",
]


@pytest.mark.parametrize("path", INTERNAL)
def test_internal_calls_are_not_routed(user: User, path: str):
    for server in (user.store.front(user.token), user.notify, user.l1, user.l2, user.l3, user.block):
        for asked in (server, server.with_token(None)):
            check_error(asked.post(path, json={"notification_id": "n"}), 404)


def test_no_wrong_token_gets_a_websocket(user: User):
    wrong = {
        "none": None,
        "garbage": "garbage",
        "refresh": user.refresh_token,
        "changed": user.token[:-4] + "AAAA",
    }
    for kind, token in wrong.items():
        for server in (user.notify.with_token(token), user.store.front(token)):
            with pytest.raises(InvalidStatus) as refused, listening(server, "laptop"):
                pass
            response = refused.value.response
            assert response.status_code == 401, kind
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            assert b'"error":"unauthenticated"' in response.body


def test_a_token_in_the_url_does_not_count(user: User):
    server = user.notify.with_token(None)
    with pytest.raises(InvalidStatus) as refused, listening(server, f"laptop&token={user.token}"):
        pass
    assert refused.value.response.status_code == 401


def test_what_clients_send_is_bounded_and_means_nothing(user: User):
    with listening(user.notify, "good") as good, listening(user.notify, "bad") as bad:
        bad.socket.send("anything")
        bad.socket.send(
            "x" * 5_000
        )  # one read of the server: what lies unread when it closes would break the answer
        with pytest.raises(ConnectionClosed) as closed:
            bad.next("never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        user.save("f", [b"f"])
        assert good.next()["type"] == "change"


def test_a_user_who_is_disabled_is_disconnected_within_a_minute(store: Store, user: User, stranger: User):
    closed = threading.Event()
    with listening(user.notify, "laptop") as laptop, listening(stranger.notify, "laptop") as another:

        def listen() -> None:
            with pytest.raises(ConnectionClosed) as end:
                laptop.next("never", REVOKED_SECONDS)
            assert end.value.rcvd is not None
            assert end.value.rcvd.code == 4401
            closed.set()

        with ThreadPoolExecutor(1) as pool:
            listened = pool.submit(listen)
            check_ok(store.admin().put(f"/auth/users/{user.username}", json={"disabled": True}))
            listened.result(REVOKED_SECONDS + 20)
        assert closed.is_set()
        stranger.save("f", [b"f"])
        assert another.next()["type"] == "change"


def test_a_new_device_is_registered_by_connecting(user: User, root: Server):
    for connect in (by_socket, by_poll):
        device = f"device-{connect.__name__}"
        connect(root, device)
        user.save(device, [b"f"])
        notification_id = delete_file(user, device)
        assert poll_delete(root, device)["notification_id"] == notification_id


def by_socket(server: Server, device: str) -> None:
    with listening(server, device):
        pass


def by_poll(server: Server, device: str) -> None:
    assert poll(server, device, timeout=0) in (None, {"type": "change", "cursor": ANY})
