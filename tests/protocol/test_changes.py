"""PROTOCOL.md, Clients and changes: devices, and the feed that a client follows from its snapshot on."""

import base64
import secrets
import time
from typing import Any

from black_box.http_client import check_error, check_ok
from black_box.user import User


def changes(user: User, cursor: str | None = None, **query: Any) -> dict[str, Any]:
    """All pages; `cursor` and `changes` of them together."""
    found: list[dict[str, Any]] = []
    while True:
        params = {**query, **({} if cursor is None else {"cursor": cursor})}
        answer = check_ok(user.l1.get("/changes", params=params))
        found += answer["changes"]
        cursor = answer["cursor"]
        if not answer["more"]:
            return {"changes": found, "cursor": cursor}


def brief(answer: dict[str, Any]) -> list[tuple[str, str, int, str]]:
    return [(each["type"], each["id"], each["version"], each["state"]) for each in answer["changes"]]


def test_every_change_comes_once_in_order_with_what_it_made(user: User):
    start = changes(user)
    assert start["changes"] == []
    user.make_directory("d", "/d")
    user.save("f", [b"1"], name="f", parent_dir_id="d")
    user.save("f", [b"2"], base=1)
    check_ok(user.l1.post("/move/f", json={"parent_dir_id": "root", "name": "g"}))
    check_ok(user.l1.post("/files/f/restore", json={"version": 1, "client_version": 2}))
    seen = changes(user, start["cursor"])
    assert brief(seen) == [
        ("create", "d", 0, "live"),
        ("commit", "f", 1, "live"),
        ("commit", "f", 2, "live"),
        ("move", "f", 2, "live"),
        ("restore", "f", 3, "live"),
    ]
    assert seen["changes"][0] == {
        "type": "create",
        "id": "d",
        "parent_dir_id": user.root,
        "name": "d",
        "version": 0,
        "state": "live",
        "node": "directory",
    }
    moved = seen["changes"][3]
    assert (moved["parent_dir_id"], moved["name"], moved["node"]) == (user.root, "g", "file")
    assert changes(user, seen["cursor"])["changes"] == []
    assert changes(user, start["cursor"], limit=1)["changes"] == seen["changes"]


def test_a_deletion_comes_as_pending_then_as_a_tombstone(user: User):
    user.save("f", [b"1"])
    start = changes(user)
    check_ok(user.l1.delete("/delete_file/f", json={"client_version": 1}))
    deadline = time.monotonic() + 40
    while len(brief(changes(user, start["cursor"]))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    check_ok(user.l1.post("/undelete/f"))
    assert brief(changes(user, start["cursor"])) == [
        ("delete", "f", 2, "pending_deletion"),
        ("delete", "f", 2, "deleted"),
        ("undelete", "f", 3, "live"),
    ]


def test_without_a_cursor_one_gets_what_is_there_and_then_what_came_since(user: User):
    for number in range(5):
        user.save(f"f{number}", [b"1"])
    user.make_directory("gone", "/gone")
    user.save("below", [b"1"], name="below", parent_dir_id="gone")
    check_ok(user.l1.delete("/delete_directory/gone", json={"recursive": True}))
    page = check_ok(user.l1.get("/changes?limit=2"))
    assert page["more"] is True
    user.save("f0", [b"2"], base=1)
    user.save("new", [b"1"])
    rest = changes(user, page["cursor"], limit=2)
    seen = {
        each["id"]: each["version"]
        for each in [*page["changes"], *rest["changes"]]
        if each["state"] == "live"
    }
    assert seen == {"f0": 2, "f1": 1, "f2": 1, "f3": 1, "f4": 1, "new": 1}
    snapshot = changes(user)
    assert {each["id"] for each in snapshot["changes"]} == {"f0", "f1", "f2", "f3", "f4", "new"}
    assert {each["type"] for each in snapshot["changes"]} == {"create"}


def test_a_forged_or_foreign_cursor_is_refused(user: User, stranger: User):
    user.save("f", [b"1"])
    theirs = changes(stranger)["cursor"]
    own = changes(user)["cursor"]
    raw = base64.urlsafe_b64decode(own + "=" * (-len(own) % 4))
    forged = [
        theirs,
        "",
        "x",
        own[:-3],
        own + "AAAA",
        secrets.token_urlsafe(40),
        base64.urlsafe_b64encode(raw.replace(user.user_id.encode(), stranger.user_id.encode())).decode(),
        base64.urlsafe_b64encode(raw[:1] + b"\x02" + raw[2:]).decode(),
    ]
    for cursor in forged:
        check_error(user.l1.get("/changes", params={"cursor": cursor}), 422, word="invalid_field")
    check_error(user.l1.get("/changes?limit=0"), 422)
    assert changes(user, own)["changes"] == []


def test_a_cursor_from_before_a_restore_is_a_reset(user: User):
    own = changes(user)["cursor"]
    raw = base64.urlsafe_b64decode(own + "=" * (-len(own) % 4))
    place = raw.index(user.user_id.encode()) + len(user.user_id.encode())
    # Two bytes of msgpack say that 32 hex digits follow: another incarnation.
    other = raw[: place + 2] + b"0" * 32 + raw[place + 34 :]
    cursor = base64.urlsafe_b64encode(other).decode().rstrip("=")
    assert check_ok(user.l1.get("/changes", params={"cursor": cursor})) == {
        "reset": True,
        "reason": "restored",
    }


def test_a_device_is_registered_once(user: User, stranger: User):
    first = check_ok(user.l1.put("/clients/laptop", json={"name": "Ada's laptop"}))
    assert (first["client_id"], first["name"]) == ("laptop", "Ada's laptop")
    assert check_ok(user.l1.put("/clients/laptop", json={"name": "Ada's laptop"})) == first
    assert check_ok(user.l1.put("/clients/laptop", json={"name": "old laptop"}))["name"] == "old laptop"
    other = check_ok(stranger.l1.put("/clients/laptop", json={"name": "mine"}))
    assert other["name"] == "mine"
    assert changes(user)["changes"] == []
    user.save("f", [b"1"])
    check_ok(user.l1.delete("/delete_file/f", json={"client_version": 1, "client_id": "laptop"}))


def test_a_device_needs_an_id_and_a_name(user: User):
    for body in ({}, {"name": ""}, {"name": 1}, {"name": "x" * 300}, {"name": "a\x00b"}):
        check_error(user.l1.put("/clients/laptop", json=body), 422)
    check_error(user.l1.put("/clients/lap%20top", json={"name": "x"}), 422)
