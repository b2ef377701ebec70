"""PROTOCOL.md: `POST /move` renames and moves, replaces a file in one step, and never makes a cycle."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from black_box.http_client import check_error, check_ok
from black_box.user import User


def move(user: User, node_id: str, parent: str, name: str, **more: Any) -> httpx.Response:
    return user.l1.post(f"/move/{node_id}", json={"parent_dir_id": parent, "name": name, **more})


def test_a_file_is_renamed_and_keeps_id_version_and_content(user: User):
    user.save("file", [b"content"], name="old", parent_dir_id="root")
    check_ok(move(user, "file", "root", "new"))
    assert list(user.listing()) == ["new"]
    assert user.metadata("file")["version"] == 1
    assert user.metadata("file")["name"] == "new"
    assert user.read("file") == b"content"


def test_a_directory_moves_with_all_below_it(user: User):
    user.make_directory("a", "/a")
    user.make_directory("b", "/b/deep")
    user.save("file", [b"content"], name="f", parent_dir_id="a")
    check_ok(move(user, "a", "b", "moved"))
    assert user.node("file")["path"] == "/b/deep/moved/f"
    assert "a" not in user.listing()


def test_moving_again_with_the_same_arguments_is_the_same(user: User):
    user.make_directory("d", "/d")
    user.save("file", [b"x"], name="f", parent_dir_id="root")
    first = move(user, "file", "d", "g")
    again = move(user, "file", "d", "g")
    check_ok(first)
    assert again.json() == first.json()


def test_a_taken_name_is_a_conflict_and_nothing_moves(user: User):
    user.save("one", [b"1"], name="one", parent_dir_id="root")
    user.save("two", [b"2"], name="two", parent_dir_id="root")
    user.make_directory("three", "/three")
    check_error(move(user, "one", "root", "two"), 409)
    check_error(move(user, "one", "root", "three"), 409)
    check_error(move(user, "three", "root", "two"), 409)
    assert {name: each["id"] for name, each in user.listing().items()} == {
        "one": "one",
        "two": "two",
        "three": "three",
    }


def test_a_name_that_was_moved_away_is_free(user: User):
    user.save("one", [b"1"], name="name", parent_dir_id="root")
    check_ok(move(user, "one", "root", "other"))
    user.save("two", [b"2"], name="name", parent_dir_id="root")
    assert user.listing()["name"]["id"] == "two"


def test_replace_puts_a_file_over_another_in_one_step(user: User):
    user.save("doc", [b"old text"], name="doc.txt", parent_dir_id="root")
    user.save("temp", [b"new text"], name=".doc.txt.swp", parent_dir_id="root")
    check_ok(move(user, "temp", "root", "doc.txt", replace={"id": "doc"}))
    assert {name: each["id"] for name, each in user.listing().items()} == {"doc.txt": "temp"}
    assert user.read("temp") == b"new text"
    assert user.block.get("/files/doc/content").status_code in {404, 409, 410}


def test_replace_replaces_only_what_it_names(user: User):
    user.save("doc", [b"old text"], name="doc.txt", parent_dir_id="root")
    user.save("temp", [b"new text"], name="temp", parent_dir_id="root")
    user.make_directory("dir", "/dir")
    check_error(move(user, "temp", "root", "doc.txt", replace={"id": "no-such-file"}), 404, 409)
    check_error(move(user, "temp", "root", "doc.txt", replace={"id": "temp"}), 409, 422)
    check_error(move(user, "temp", "root", "dir", replace={"id": "dir"}), 404, 409, 422)
    assert set(user.listing()) == {"doc.txt", "temp", "dir"}
    assert user.read("doc") == b"old text"


def test_a_directory_is_never_moved_below_itself(user: User):
    user.make_directory("leaf", "/top/middle/leaf")
    top = user.listing()["top"]["id"]
    check_error(move(user, top, "leaf", "x"), 409)
    check_error(move(user, top, top, "x"), 409)
    assert user.node("leaf")["path"] == "/top/middle/leaf"


def test_the_root_does_not_move(user: User):
    user.make_directory("d", "/d")
    for root in ("root", user.root):
        check_error(move(user, root, "d", "x"), 400, 403, 404, 409, 422)
    assert list(user.listing()) == ["d"]


def test_moving_what_is_not_there_or_to_what_is_not_there_is_not_found(user: User):
    user.save("file", [b"x"], name="f", parent_dir_id="root")
    check_error(move(user, "nothing", "root", "x"), 404)
    check_error(move(user, "file", "no-such-dir", "x"), 404)
    check_error(move(user, "file", "file", "x"), 404, 409)
    assert list(user.listing()) == ["f"]


def test_moves_count_in_meta_version_and_leave_the_version_alone(user: User):
    user.save("file", [b"x"], name="f", parent_dir_id="root")
    before = user.node("file")
    check_ok(move(user, "file", "root", "g"))
    after = user.node("file")
    assert after["meta_version"] == before["meta_version"] + 1
    assert after["version"] == before["version"]


def test_a_stale_meta_version_is_a_conflict(user: User):
    user.save("file", [b"x"], name="f", parent_dir_id="root")
    seen = user.node("file")["meta_version"]
    check_ok(move(user, "file", "root", "g", meta_version=seen))
    check_error(move(user, "file", "root", "h", meta_version=seen), 409)
    check_error(move(user, "file", "root", "h", meta_version=seen + 7), 409)
    check_ok(move(user, "file", "root", "h", meta_version=seen + 1))


def test_crossing_moves_never_make_a_cycle(user: User):
    """a into b while b goes into a, sent at once: at most one may win, and both stay reachable."""
    for number in range(20):
        a, b = (
            user.make_directory(f"a{number}", f"/a{number}"),
            user.make_directory(f"b{number}", f"/b{number}"),
        )
        with ThreadPoolExecutor(2) as pool:
            moves = [pool.submit(move, user, a, b, "in"), pool.submit(move, user, b, a, "in")]
        answers = sorted(each.result().status_code for each in moves)
        assert answers == [200, 409]
        for node in (a, b):
            assert user.node(node)["path"].startswith("/")


def test_of_many_moves_to_one_name_one_wins(user: User):
    for number in range(8):
        user.make_directory(f"m{number}", f"/m{number}")
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda number: move(user, f"m{number}", "root", "prize").status_code, range(8))
        )
    assert sorted(answers) == [200] + [409] * 7
    assert len(user.listing()) == 8
