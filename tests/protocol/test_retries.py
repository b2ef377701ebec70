"""PROTOCOL.md: a timeout means "maybe", so every mutating call can be sent again; `Idempotency-Key` makes it exact."""

from concurrent.futures import ThreadPoolExecutor

import jwt
from black_box.http_client import check_error, check_ok
from black_box.plain import PlainClient
from black_box.user import User, hash_of, stored_form

KEY = {"Idempotency-Key": "retry-0001"}


def test_a_move_sent_again_under_its_key_answers_as_before_and_moves_nothing(user: User):
    user.save("file", [b"x"], name="first", parent_dir_id="root")
    body = {"parent_dir_id": "root", "name": "second"}
    first = user.l1.post("/move/file", json=body, headers=KEY)
    check_ok(user.l1.post("/move/file", json={"parent_dir_id": "root", "name": "third"}))
    again = user.l1.post("/move/file", json=body, headers=KEY)
    assert (again.status_code, again.json()) == (200, first.json())
    assert list(user.listing()) == ["third"]


def test_a_restore_sent_again_under_its_key_happens_once_even_after_other_commits(user: User):
    user.save("file", [b"one"])
    user.save("file", [b"two"], base=1)
    body = {"version": 1, "client_version": 2}
    first = user.l1.post("/files/file/restore", json=body, headers=KEY)
    user.save("file", [b"four"], base=3)
    again = user.l1.post("/files/file/restore", json=body, headers=KEY)
    assert (again.status_code, again.json()) == (200, first.json())
    assert user.read("file") == b"four"
    assert user.metadata("file")["version"] == 4


def test_creations_sent_again_under_their_key_answer_as_before_though_the_node_has_moved(user: User):
    calls = [
        ("/create_directory/dir", {"path": "/made/here", "parent_dir_id": "root"}, "dir"),
        ("/create_file/file", {"parent_dir_id": "root", "name": "made.txt"}, "file"),
    ]
    for number, (path, body, node) in enumerate(calls):
        key = {"Idempotency-Key": f"creation-{number}"}
        first = user.l1.put(path, json=body, headers=key)
        check_ok(user.l1.post(f"/move/{node}", json={"parent_dir_id": "root", "name": f"moved-{node}"}))
        again = user.l1.put(path, json=body, headers=key)
        assert (again.status_code, again.json()) == (200, first.json())
        assert user.node(node)["name"] == f"moved-{node}"


def test_a_key_is_one_users_and_one_requests(user: User, stranger: User):
    for owner in (user, stranger):
        owner.save("file", [b"x"], name="first", parent_dir_id="root")
        check_ok(owner.l1.post("/move/file", json={"parent_dir_id": "root", "name": "second"}, headers=KEY))
    other = user.l1.post("/move/file", json={"parent_dir_id": "root", "name": "third"}, headers=KEY)
    check_error(other, 400, 409, 422)
    assert list(user.listing()) == ["second"]


def test_a_wild_key_is_refused(user: User):
    user.save("file", [b"x"], name="first", parent_dir_id="root")
    for key in ("x" * 3000, ""):
        response = user.l1.post(
            "/move/file", json={"parent_dir_id": "root", "name": "second"}, headers={"Idempotency-Key": key}
        )
        check_error(response, 400, 422)
    assert list(user.listing()) == ["first"]


def test_an_update_sent_again_takes_the_place_of_the_one_before(user: User):
    """So a client that only has its access token still has one open upload."""
    for _ in range(3):
        token = user.begin("file")["upload_token"]
    check_ok(user.block.post("/store_chunk", json=[stored_form("chunk", b"text")]))
    check_ok(user.commit("file", token, 1))
    assert user.read("file") == b"text"


def test_an_update_sent_again_under_its_key_answers_the_same_upload_though_it_is_in_use(user: User):
    user.save("file", [b"one", b"two"])
    chunks = [{"hash": hash_of(data), "size": 3} for data in (b"one", b"new", b"two", b"too")]
    body = {"client_version": 1, "chunks": chunks}
    first = check_ok(user.l1.post("/files/file/update", json=body, headers=KEY))
    assert first["required_chunks"] == [hash_of(b"new"), hash_of(b"too")]
    user.store_chunks(first["upload_token"], {hash_of(b"new"): b"new"})
    again = check_ok(user.l1.post("/files/file/update", json=body, headers=KEY))
    assert again["required_chunks"] == first["required_chunks"]
    user.store_chunks(again["upload_token"], {hash_of(b"too"): b"too"})
    assert check_ok(user.commit("file", first["upload_token"], 2))["version"] == 2
    assert user.read("file") == b"onenewtwotoo"
    check_error(user.commit("file", user.begin("file", 2)["upload_token"], 2), 422, word="invalid_version")
    check_error(user.l1.post("/files/file/update", json=body, headers=KEY), 409, word="conflict")
    other = {**body, "client_version": 2}
    check_error(
        user.l1.post("/files/file/update", json=other, headers=KEY), 422, word="idempotency_key_reused"
    )


def test_a_short_update_under_its_key_keeps_what_was_stored_with_it(user: User):
    """Without the key the second one would begin another upload, and the bytes would belong to the first."""
    user.save("file", [b"one", b"two"])
    body = {"client_version": 1}
    first = check_ok(user.l1.post("/files/file/update", json=body, headers=KEY))
    user.store_chunks(first["upload_token"], {"c": b"three"})
    again = check_ok(user.l1.post("/files/file/update", json=body, headers=KEY))
    assert again["required_chunks"] == first["required_chunks"] == [hash_of(b"one"), hash_of(b"two")]
    assert check_ok(user.commit("file", again["upload_token"], 2))["version"] == 2
    assert user.read("file") == b"three"


def test_an_update_under_the_key_of_an_upload_that_has_ended_begins_anew(user: User):
    first = check_ok(user.l1.post("/files/file/update", json={"client_version": 0}, headers=KEY))
    user.begin("file")  # takes the place of the unused one
    again = check_ok(user.l1.post("/files/file/update", json={"client_version": 0}, headers=KEY))
    check_error(user.commit("file", first["upload_token"], 1, chunks=[]), 410, word="upload_ended")
    assert check_ok(user.commit("file", again["upload_token"], 1, chunks=[]))["version"] == 1


def test_many_updates_at_once_under_one_key_begin_one_upload(user: User):
    def begin(_: int) -> str:
        answer = check_ok(user.l1.post("/files/file/update", json={"client_version": 0}, headers=KEY))
        return str(answer["upload_token"])

    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(begin, range(24)))
    uploads = {jwt.decode(token, options={"verify_signature": False})["upload"] for token in tokens}
    assert len(uploads) == 1
    user.store_chunks(tokens[0], {"chunk": b"text"})
    assert check_ok(user.commit("file", tokens[-1], 1))["version"] == 1


def test_a_batch_update_sent_again_under_its_key_answers_the_same_with_its_refusals(user: User):
    user.save("stale", [b"one"])
    chunks = [{"hash": hash_of(b"text"), "size": 4}]
    files = [
        {"file_id": "planned", "client_version": 0, "chunks": chunks},
        {"file_id": "stale", "client_version": 0},
        {"file_id": "short", "client_version": 0},
    ]
    first = check_ok(user.l1.post("/files:batch_update", json={"files": files}, headers=KEY))
    assert [each["status"] for each in first["files"]] == ["proceed", "conflict", "proceed"]
    user.store_chunks(first["upload_token"], {hash_of(b"text"): b"text"})
    again = check_ok(user.l1.post("/files:batch_update", json={"files": files}, headers=KEY))
    without = {"upload_token": None}
    assert {**again, **without} == {**first, **without}
    commits = [{"file_id": "planned", "new_version": 1}, {"file_id": "short", "new_version": 1, "chunks": []}]
    body = {"upload_token": again["upload_token"], "files": commits}
    assert [each["status"] for each in check_ok(user.l1.post("/files:batch_commit", json=body))["files"]] == [
        "committed",
        "committed",
    ]
    assert user.read("planned") == b"text"


def test_a_device_named_again_under_its_key_keeps_the_name_that_it_has_got_since(user: User):
    check_ok(user.l1.put("/clients/laptop", json={"name": "old"}, headers=KEY))
    check_ok(user.l1.put("/clients/laptop", json={"name": "new"}))
    assert check_ok(user.l1.put("/clients/laptop", json={"name": "old"}, headers=KEY))["name"] == "old"
    assert check_ok(user.l1.put("/clients/laptop", json={"name": "new"}))["name"] == "new"


def test_a_commit_again_with_other_attributes_is_a_conflict_and_without_any_the_same(user: User):
    token = user.begin("file")["upload_token"]
    attrs = {"mtime": "2026-01-02T03:04:05Z", "mode": 0o600}
    check_ok(user.commit("file", token, 1, chunks=[], attrs=attrs))
    for same in ({"attrs": attrs}, {}):
        assert check_ok(user.commit("file", token, 1, chunks=[], **same))["version"] == 1
    for other in ({**attrs, "mode": 0o644}, {"mode": 0o600}, {}):
        error = check_error(user.commit("file", token, 1, chunks=[], attrs=other), 409, word="conflict")
        assert (error["status"], error["server_version"]) == ("conflict", 1)
    assert user.metadata("file")["attrs"] == attrs


def test_a_plain_client_starts_again_after_each_step_it_may_have_died_at(user: User):
    client = PlainClient(user.store.url, user.username, user.password)
    try:
        client.begin("file", 0)  # died here
        _, token = client.begin("file", 0)
        client.store(token, {"chunk_1": b"half of what was meant"})  # and here
        _, token = client.begin("file", 0)
        client.store(token, {"chunk_1": b"all ", "chunk_2": b"of it"})
        client.commit("file", token, 1)  # and here: the answer was lost
        client.commit("file", token, 1)
        assert client.read("file") == b"all of it"
        assert client.version("file") == 1
    finally:
        client.close()


def test_a_batch_sent_again_after_its_answer_was_lost_is_the_same(user: User):
    files = [
        {"file_id": f"f{number}", "client_version": 0, "chunks": [{"hash": hash_of(b"text"), "size": 4}]}
        for number in range(20)
    ]
    for _ in range(2):
        begun = check_ok(user.l1.post("/files:batch_update", json={"files": files}))
    user.store_chunks(begun["upload_token"], {hash_of(b"text"): b"text"})
    commits = [{"file_id": each["file_id"], "new_version": 1, "chunks": [hash_of(b"text")]} for each in files]
    body = {"upload_token": begun["upload_token"], "files": commits}
    answers = [check_ok(user.l1.post("/files:batch_commit", json=body)) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert {each["version"] for each in user.listing().values()} == {1}


def test_a_batch_commit_sent_again_under_its_key_answers_as_before_and_the_key_is_of_its_arguments(
    user: User,
):
    files = [{"file_id": file_id, "client_version": 0} for file_id in ("one", "two")]
    token = check_ok(user.l1.post("/files:batch_update", json={"files": files}))["upload_token"]
    commits = [{"file_id": file_id, "new_version": 1, "chunks": []} for file_id in ("one", "two")]
    body = {"upload_token": token, "files": commits}
    first = check_ok(user.l1.post("/files:batch_commit", json=body, headers=KEY))
    user.save("one", [b"newer"], base=1)
    assert check_ok(user.l1.post("/files:batch_commit", json=body, headers=KEY)) == first
    other = {"upload_token": token, "files": commits[:1]}
    check_error(
        user.l1.post("/files:batch_commit", json=other, headers=KEY), 422, word="idempotency_key_reused"
    )
    assert user.read("one") == b"newer"


def test_a_batch_commit_that_failed_in_part_is_judged_anew_under_its_key(user: User):
    chunk = {"hash": hash_of(b"text"), "size": 4}
    files = [{"file_id": file_id, "client_version": 0, "chunks": [chunk]} for file_id in ("one", "two")]
    token = check_ok(user.l1.post("/files:batch_update", json={"files": files}))["upload_token"]
    commits = [{"file_id": "one", "new_version": 1, "chunks": []}, {"file_id": "two", "new_version": 1}]
    body = {"upload_token": token, "files": commits}
    before = check_ok(user.l1.post("/files:batch_commit", json=body, headers=KEY))
    user.store_chunks(token, {hash_of(b"text"): b"text"})
    after = check_ok(user.l1.post("/files:batch_commit", json=body, headers=KEY))
    assert [each["status"] for each in before["files"]] == ["committed", "error"]
    assert [each["status"] for each in after["files"]] == ["committed", "committed"]
    assert (user.read("one"), user.read("two")) == (b"", b"text")
