"""PROTOCOL.md, Deletion: what is deleted is gone at once, ends in the trash, and comes back until that lets go."""

import time
from collections.abc import Callable
from typing import Any

import httpx
from black_box.http_client import check_error, check_ok
from black_box.store import RunningStore
from black_box.user import User, hash_of


def delete(user: User, file_id: str, version: int, **more: Any) -> httpx.Response:
    return user.l1.delete(f"/delete_file/{file_id}", json={"client_version": version, **more})


def delete_directory(user: User, dir_id: str, *, recursive: bool = True) -> httpx.Response:
    return user.l1.delete(f"/delete_directory/{dir_id}", json={"recursive": recursive})


def undelete(user: User, node_id: str, **place: str) -> httpx.Response:
    return user.l1.post(f"/undelete/{node_id}", json=place)


def trash(user: User, **query: Any) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in check_ok(user.l1.get("/trash", params=query))["trash"]}


def wait_until(condition: Callable[[], Any], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.1)


def test_a_deleted_file_is_gone_everywhere_at_once(user: User):
    user.save("f", [b"content"], name="f.txt", parent_dir_id="root")
    answer = check_ok(delete(user, "f", 1))
    assert answer == {
        "status": "pending_deletion",
        "notification_id": answer["notification_id"],
        "server_version": 2,
    }
    assert user.listing() == {}
    for asked in (
        user.l1.get("/nodes/f"),
        user.l1.get("/files/f/metadata"),
        user.l1.get("/files/f/versions"),
        user.l2.get("/files/f/chunks"),
        user.l2.get("/files/f/chunks?version=1"),
        user.block.get("/files/f/content"),
    ):
        check_error(asked, 410, word="gone")
    check_error(user.l1.get("/resolve?path=/f.txt"), 404)
    user.save("g", [b"another"], name="f.txt", parent_dir_id="root")
    assert user.listing()["f.txt"]["id"] == "g"


def test_the_same_deletion_again_answers_the_same_and_a_stale_one_is_a_conflict(user: User):
    user.save("f", [b"one"])
    user.save("f", [b"two"], base=1)
    assert check_error(delete(user, "f", 1), 409, word="conflict")["server_version"] == 2
    first = check_ok(delete(user, "f", 2))
    assert check_ok(delete(user, "f", 2)) == first
    wait_until(lambda: "f" in trash(user))
    assert check_ok(delete(user, "f", 2)) == first


def test_it_ends_in_the_trash_with_its_chunks_marked(user: User):
    user.save("f", [b"first part", b"second part"], name="f.txt", parent_dir_id="root")
    check_ok(delete(user, "f", 1, client_id="my-laptop"))
    wait_until(lambda: "f" in trash(user))
    entry = trash(user)["f"]
    assert (entry["type"], entry["name"], entry["parent_dir_id"]) == ("file", "f.txt", user.root)
    assert (entry["version"], entry["size"]) == (2, 21)
    for part in (b"first part", b"second part"):
        chunk = check_ok(user.l3.get(f"/chunks/{hash_of(part)}/metadata"))
        assert chunk["state"] == "soft_deleted"
    # Who needs a chunk again clears the mark.
    user.save("g", [b"first part"])
    assert user.read("g") == b"first part"


def test_what_comes_back_is_whole_and_one_version_on(user: User):
    user.save("f", [b"old"], name="f.txt", parent_dir_id="root")
    user.save("f", [b"content"], base=1)
    check_ok(delete(user, "f", 2))
    assert check_ok(undelete(user, "f"))["version"] == 4
    assert user.read("f") == b"content"
    check_ok(delete(user, "f", 4))
    wait_until(lambda: "f" in trash(user))
    back = check_ok(user.l1.post("/undelete/f"))
    assert (back["version"], back["path"], back["state"]) == (6, "/f.txt", "live")
    assert check_ok(undelete(user, "f")) == back
    assert trash(user) == {}
    assert user.read("f") == b"content"
    assert user.read_version("f", 1) == b"old"
    user.save("f", [b"newer"], base=6)
    assert user.read("f") == b"newer"


def test_a_taken_place_is_a_conflict_and_another_one_can_be_named(user: User):
    user.make_directory("d", "/d")
    user.save("f", [b"f"], name="x", parent_dir_id="d")
    check_ok(delete(user, "f", 1))
    user.save("g", [b"g"], name="x", parent_dir_id="d")
    check_error(undelete(user, "f"), 409, word="name_taken")
    check_ok(undelete(user, "f", name="y"))
    assert set(user.listing("d")) == {"x", "y"}
    check_ok(delete(user, "f", 3))
    check_ok(delete_directory(user, "d"))
    check_error(undelete(user, "f"), 409, word="place_gone")
    assert check_ok(undelete(user, "f", parent_dir_id="root"))["path"] == "/y"
    assert user.read("f") == b"f"


def test_a_pending_directory_refuses_changes_below_with_the_ways_out(user: User):
    user.make_directory("d", "/d")
    user.save("f", [b"f"], name="f", parent_dir_id="d")
    begun = user.begin("f", 1)
    check_ok(delete_directory(user, "d"))
    refused = user.commit("f", begun["upload_token"], 2, chunks=[hash_of(b"f")])
    assert refused.json()["error"] in {"pending_deletion", "gone"}
    check_error(refused, 409, 410)
    check_error(user.block.get("/files/f/content"), 410)
    check_error(user.l1.get("/list_directory/d"), 410)


def test_a_directory_goes_with_all_below_it_and_comes_back(user: User):
    user.make_directory("d", "/d")
    user.make_directory("e", "/deep/er", "d")
    for number in range(5):
        user.save(f"f{number}", [b"%d" % number], name=f"{number}", parent_dir_id="e")
    check_error(delete_directory(user, "d", recursive=False), 409, word="not_empty")
    answer = check_ok(delete_directory(user, "d"))
    assert answer["status"] == "pending_deletion"
    check_error(user.l1.get("/nodes/f0"), 410)
    wait_until(lambda: "d" in trash(user))
    assert check_ok(delete_directory(user, "d")) == answer
    assert set(trash(user)) == {"d"}
    check_ok(undelete(user, "d"))
    for number in range(5):
        assert user.read(f"f{number}") == b"%d" % number
        assert user.node(f"f{number}")["version"] == 2
    check_error(user.l1.post("/files/f0/update", json={"client_version": 1}), 409, word="conflict")


def test_the_root_is_not_deleted(user: User):
    user.save("f", [b"f"])
    for root in ("root", user.root):
        check_error(delete_directory(user, root), 409, word="root_directory")
        check_error(delete(user, root, 0), 404)
    assert list(user.listing()) == ["f"]


def test_what_is_not_there_is_not_found(user: User, stranger: User):
    stranger.save("theirs", [b"x"])
    stranger.make_directory("their-dir", "/d")
    user.make_directory("dir", "/dir")
    for node_id in ("theirs", "nothing", "dir"):
        check_error(delete(user, node_id, 1), 404)
    for node_id in ("their-dir", "nothing"):
        check_error(delete_directory(user, node_id), 404)
    check_error(undelete(user, "theirs"), 404)
    assert stranger.read("theirs") == b"x"


def test_bad_input_is_told(user: User):
    user.save("f", [b"f"])
    for body in (
        {},
        {"client_version": -1},
        {"client_version": "1"},
        {"client_version": 1, "client_id": "/"},
    ):
        check_error(user.l1.delete("/delete_file/f", json=body), 422)
    for body in ({}, {"recursive": "yes"}):
        check_error(user.l1.delete("/delete_directory/d", json=body), 422)
    check_error(user.l1.get("/trash?cursor=forged"), 422)
    check_error(user.l1.get("/trash?limit=0"), 422)
    check_error(undelete(user, "f", name="a/b"), 422)
    assert user.read("f") == b"f"


def test_the_trash_is_read_in_pages(user: User):
    for number in range(5):
        user.save(f"f{number}", [b"x"])
        check_ok(delete(user, f"f{number}", 1))
    wait_until(lambda: len(trash(user)) == 5)
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = check_ok(user.l1.get("/trash", params={"limit": 2, **cursor}))
        found += [each["id"] for each in page["trash"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == [f"f{number}" for number in range(5)]


def test_the_internal_calls_are_no_business_of_clients(user: User, local_store: RunningStore):
    body = {
        "namespace": user.user_id,
        "server_key": user.server_key,
        "chunk_ids": [],
        "deletion_mode": "soft",
    }
    check_error(user.block.post("/delete_chunks", json=body), 404)
    check_error(user.l3.post("/internal/mark", json={"namespace": user.user_id, "ids": []}), 404)
    check_error(
        local_store.direct("block", "internal").with_token(user.token).post("/delete_chunks", json=body), 401
    )
    check_error(
        local_store.direct("l3", "internal").with_token(user.token).post("/internal/mark", json=body), 401
    )
