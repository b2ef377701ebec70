"""PROTOCOL.md: `/files:batch_update` and `/files:batch_commit`, many files with one upload token."""

from typing import Any

import pytest
from black_box.http_client import check_error, check_ok
from black_box.store import RunningStore
from black_box.user import User, entry, hash_of, new_user


def begin(user: User, files: list[dict[str, Any]]) -> dict[str, Any]:
    return check_ok(user.l1.post("/files:batch_update", json={"files": files}))


def commit(user: User, token: str, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answer = check_ok(user.l1.post("/files:batch_commit", json={"upload_token": token, "files": files}))
    results: list[dict[str, Any]] = answer["files"]
    assert [each["file_id"] for each in results] == [each["file_id"] for each in files]
    return results


def new_file(file_id: str, *parts: bytes, base: int = 0, **more: Any) -> dict[str, Any]:
    return {"file_id": file_id, "client_version": base, "chunks": [entry(part) for part in parts], **more}


def commit_of(file_id: str, *parts: bytes, version: int = 1) -> dict[str, Any]:
    return {"file_id": file_id, "new_version": version, "chunks": [hash_of(part) for part in parts]}


def test_a_thousand_files_are_stored_by_a_few_calls_and_read_back(user: User):
    user.make_directory("dir", "/tree")
    texts = {f"file_{number}": f"content of file {number};".encode() * 100 for number in range(1000)}
    begun = begin(
        user, [new_file(each, text, parent_dir_id="dir", name=each) for each, text in texts.items()]
    )
    assert [each["file_id"] for each in begun["files"]] == list(texts)
    assert {each["status"] for each in begun["files"]} == {"proceed"}
    assert sorted(begun["required_chunks"]) == sorted(map(hash_of, texts.values()))
    user.store_chunks(begun["upload_token"], {hash_of(text): text for text in texts.values()})
    results = commit(user, begun["upload_token"], [commit_of(each, text) for each, text in texts.items()])
    assert all((each["status"], each["version"]) == ("committed", 1) for each in results)
    listed = user.listing("dir")
    assert {name: each["size"] for name, each in listed.items()} == {
        name: len(text) for name, text in texts.items()
    }
    for number in range(0, 1000, 37):
        assert user.read(f"file_{number}") == texts[f"file_{number}"]


@pytest.mark.parametrize("named", [True, False])
def test_a_thousand_files_are_committed_by_another_server_than_began_them(
    local_store: RunningStore, named: bool
):
    user = new_user(local_store)
    first, second = (
        user.server(f"127.0.0.1:{settings['listen']['public']}/meta/{user.server_key}")
        for settings in local_store.settings("l1")
    )
    texts = {f"file_{number}": f"content of {number}".encode() for number in range(1000)}
    user.l1 = first
    user.make_directory("dir", "/dir")
    begun = begin(
        user, [new_file(each, text, parent_dir_id="dir", name=each) for each, text in texts.items()]
    )
    user.store_chunks(begun["upload_token"], {hash_of(text): text for text in texts.values()})
    user.l1 = second
    commits = [commit_of(each, text) for each, text in texts.items()]
    if not named:
        commits = [{"file_id": each["file_id"], "new_version": 1} for each in commits]
    results = commit(user, begun["upload_token"], commits)
    assert all((each["status"], each["version"]) == ("committed", 1) for each in results)
    assert commit(user, begun["upload_token"], commits) == results


def test_some_of_a_batch_update_fail_alone(user: User):
    user.save("stale", [b"one"])
    user.save("stale", [b"two"], base=1)
    user.make_directory("dir", "/dir")
    begun = begin(
        user,
        [
            new_file("good", b"good"),
            new_file("stale", b"three", base=1),
            new_file("homeless", b"x", parent_dir_id="no-such-dir", name="n"),
            new_file("dir", b"x"),
            new_file("also-good", b"also good"),
        ],
    )
    results = {each["file_id"]: each for each in begun["files"]}
    assert results["good"]["status"] == results["also-good"]["status"] == "proceed"
    assert (results["stale"]["status"], results["stale"]["server_version"]) == ("conflict", 2)
    for failed in ("homeless", "dir"):
        assert results[failed]["status"] != "proceed"
    user.store_chunks(begun["upload_token"], {hash_of(each): each for each in (b"good", b"also good")})
    done = commit(
        user, begun["upload_token"], [commit_of("good", b"good"), commit_of("also-good", b"also good")]
    )
    assert [each["status"] for each in done] == ["committed"] * 2


def test_some_of_a_batch_commit_fail_alone(user: User):
    user.save("raced", [b"base"])
    files = [
        new_file("good", b"good"),
        new_file("raced", b"mine", base=1),
        new_file("unstored", b"never sent"),
        new_file("crowded", b"good", parent_dir_id="root", name="name"),
        new_file("last", b"last"),
    ]
    token = begin(user, files)["upload_token"]
    user.store_chunks(token, {hash_of(each): each for each in (b"good", b"mine", b"last")})
    user.save("raced", [b"theirs"], base=1)
    user.save("squatter", [b"x"], parent_dir_id="root", name="name")
    results = commit(
        user,
        token,
        [
            commit_of("good", b"good"),
            commit_of("raced", b"mine", version=2),
            commit_of("unstored", b"never sent"),
            commit_of("crowded", b"good"),
            commit_of("last", b"last"),
        ],
    )
    good, raced, unstored, crowded, last = results
    assert good["status"] == last["status"] == "committed"
    assert (raced["status"], raced["server_version"]) == ("conflict", 2)
    assert unstored["error"] == "missing_chunks"
    assert [hash_of(b"never sent")] in unstored.values()
    assert crowded["status"] != "committed"
    assert user.read("raced") == b"theirs"
    assert user.read("last") == b"last"
    assert set(user.listing()) == {"good", "raced", "name", "last"}


def test_a_batch_commit_sent_again_answers_the_same(user: User):
    token = begin(user, [new_file(f"f{number}", b"text") for number in range(50)])["upload_token"]
    user.store_chunks(token, {hash_of(b"text"): b"text"})
    commits = [commit_of(f"f{number}", b"text") for number in range(50)]
    first = commit(user, token, commits)
    assert commit(user, token, commits) == first
    assert {each["version"] for each in user.listing().values()} == {1}


def test_a_batch_can_be_committed_in_parts(user: User):
    token = begin(user, [new_file(f"f{number}", b"text") for number in range(10)])["upload_token"]
    user.store_chunks(token, {hash_of(b"text"): b"text"})
    for first in (0, 5):
        results = commit(
            user, token, [commit_of(f"f{number}", b"text") for number in range(first, first + 5)]
        )
        assert {each["status"] for each in results} == {"committed"}
    assert len(user.listing()) == 10


def test_a_batch_changes_files_that_exist(user: User):
    for number in range(5):
        user.save(f"f{number}", [b"before"])
    token = begin(user, [new_file(f"f{number}", b"after", base=1) for number in range(5)])["upload_token"]
    user.store_chunks(token, {hash_of(b"after"): b"after"})
    results = commit(user, token, [commit_of(f"f{number}", b"after", version=2) for number in range(5)])
    assert {each["version"] for each in results} == {2}
    assert user.read("f3") == b"after"


def test_two_files_of_one_batch_that_want_one_name_get_it_once(user: User):
    files = [new_file(each, b"x", parent_dir_id="root", name="prize") for each in ("a", "b")]
    begun = begin(user, files)
    user.store_chunks(begun["upload_token"], {hash_of(b"x"): b"x"})
    results = commit(user, begun["upload_token"], [commit_of(each, b"x") for each in ("a", "b")])
    assert sorted(each["status"] == "committed" for each in results) == [False, True]
    assert len(user.listing()) == 1


def test_files_within_a_batch_may_be_empty(user: User):
    token = begin(user, [new_file("empty"), new_file("full", b"text")])["upload_token"]
    user.store_chunks(token, {hash_of(b"text"): b"text"})
    results = commit(user, token, [commit_of("empty"), commit_of("full", b"text")])
    assert {each["status"] for each in results} == {"committed"}
    assert user.read("empty") == b""


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_is_of_one_to_a_thousand_files(user: User, count: int):
    files = [{"file_id": f"f{number}", "client_version": 0} for number in range(count)]
    check_error(user.l1.post("/files:batch_update", json={"files": files}), 400, 413, 422)
    token = user.begin("other")["upload_token"]
    commits = [{"file_id": f"f{number}", "new_version": 1, "chunks": []} for number in range(count)]
    response = user.l1.post("/files:batch_commit", json={"upload_token": token, "files": commits})
    check_error(response, 400, 413, 422)
    assert user.listing() == {}


def test_a_file_twice_in_one_batch_is_not_committed_twice(user: User):
    files = [new_file("twin", b"one"), new_file("twin", b"two")]
    response = user.l1.post("/files:batch_update", json={"files": files})
    if response.status_code != 200:
        check_error(response, 400, 409, 422)
        return
    token = response.json()["upload_token"]
    user.store_chunks(token, {hash_of(each): each for each in (b"one", b"two")})
    body = {"upload_token": token, "files": [commit_of("twin", b"one"), commit_of("twin", b"two")]}
    response = user.l1.post("/files:batch_commit", json=body)
    if response.status_code != 200:
        check_error(response, 400, 409, 422)
        return
    assert [each.get("version") for each in response.json()["files"]].count(1) <= 1
    assert user.metadata("twin")["version"] == 1
