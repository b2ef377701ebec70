"""PROTOCOL.md, Update, in the long form: manifests named beforehand, commits that name their chunks, retries."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from black_box.http_client import check_error, check_ok
from black_box.user import User, entry, hash_of, new_user

PARTS = [b"the first part;", b"the second part;", b"the third part;"]


def check_conflict(response: Any, server_version: int) -> None:
    body = check_error(response, 409)
    assert (body["status"], body["server_version"]) == ("conflict", server_version)


def begin_and_store(user: User, file_id: str, base: int, data: bytes) -> str:
    token: str = user.begin(file_id, base)["upload_token"]
    user.store_chunks(token, {"chunk_1": data})
    return token


def test_an_update_that_names_its_manifest_is_asked_for_what_the_namespace_lacks(user: User):
    manifest = [entry(part) for part in PARTS]
    assert user.begin("file", chunks=manifest)["required_chunks"] == [hash_of(part) for part in PARTS]
    user.save("file", PARTS)
    assert user.begin("copy", chunks=manifest)["required_chunks"] == []
    changed = [*manifest[:2], entry(b"another third")]
    assert user.begin("file", 1, chunks=changed)["required_chunks"] == [hash_of(b"another third")]


def test_a_chunk_needed_twice_is_asked_for_once(user: User):
    manifest = [entry(b"echo"), entry(b"echo")]
    assert user.begin("file", chunks=manifest)["required_chunks"] == [hash_of(b"echo")]
    user.save("file", [b"echo", b"echo"])
    assert user.read("file") == b"echoecho"


def test_what_other_users_hold_is_asked_for_all_the_same(user: User, stranger: User):
    stranger.save("theirs", PARTS)
    required = user.begin("file", chunks=[entry(part) for part in PARTS])["required_chunks"]
    assert required == [hash_of(part) for part in PARTS]


def test_a_copy_of_held_chunks_is_committed_without_sending_a_byte(user: User):
    user.save("file", PARTS)
    token = user.begin("copy", chunks=[entry(part) for part in reversed(PARTS)])["upload_token"]
    check_ok(user.commit("copy", token, 1, chunks=[hash_of(part) for part in reversed(PARTS)]))
    assert user.read("copy") == b"".join(reversed(PARTS))


def test_a_commit_that_names_nothing_takes_the_manifest_of_the_update(user: User):
    user.save("file", PARTS)
    manifest = [PARTS[2], b"new bytes", PARTS[0]]
    begun = user.begin("file", 1, chunks=[entry(part) for part in manifest])
    user.store_chunks(begun["upload_token"], {hash_of(b"new bytes"): b"new bytes"})
    check_ok(user.commit("file", begun["upload_token"], 2))
    assert user.read("file") == b"".join(manifest)


def test_a_commit_appends_shrinks_and_reorders_by_naming_chunks(user: User):
    user.save("file", PARTS)
    first, second, third = (hash_of(part) for part in PARTS)
    for version, (chunks, text) in enumerate(
        [
            ([first, second, third, first], b"".join([*PARTS, PARTS[0]])),
            ([second], PARTS[1]),
            ([third, first], PARTS[2] + PARTS[0]),
        ],
        start=1,
    ):
        token = user.begin("file", version)["upload_token"]
        check_ok(user.commit("file", token, version + 1, chunks=chunks))
        assert user.read("file") == text


def test_a_commit_names_chunks_by_the_clients_own_names(user: User):
    token = user.begin("file")["upload_token"]
    user.store_chunks(token, {"a": b"A", "b": b"B", "c": b"C"})
    check_ok(user.commit("file", token, 1, chunks=["c", "a", "a"]))
    assert user.read("file") == b"CAA"
    assert [each["chunk_id"] for each in user.chunks("file")] == ["c", "a", "a"]


def test_a_name_that_has_moved_on_is_listed_by_its_hash(user: User):
    for file_id, text in (("one", b"one's"), ("two", b"two's")):
        token = begin_and_store(user, file_id, 0, text)
        check_ok(user.commit(file_id, token, 1))
    assert [each["chunk_id"] for each in user.chunks("one")] == [hash_of(b"one's")]
    assert [each["chunk_id"] for each in user.chunks("two")] == ["chunk_1"]
    assert user.read("one") == b"one's"


def test_an_empty_file_is_committed_by_naming_no_chunks(user: User):
    token = user.begin("empty")["upload_token"]
    check_ok(user.commit("empty", token, 1, chunks=[]))
    assert user.read("empty") == b""
    assert user.chunks("empty") == []
    assert user.metadata("empty")["size"] == 0
    user.save("full", PARTS)
    token = user.begin("full", 1, chunks=[])["upload_token"]
    check_ok(user.commit("full", token, 2, chunks=[]))
    assert user.read("full") == b""


def test_a_commit_of_nothing_stored_and_nothing_named_is_refused(user: User):
    user.save("file", PARTS)
    token = user.begin("file", 1)["upload_token"]
    check_error(user.commit("file", token, 2), 422, word="empty_commit")
    assert user.read("file") == b"".join(PARTS)


@pytest.mark.parametrize("wrong", [0, 1, 3, 2**53 - 1])
def test_the_new_version_must_be_the_base_and_one(user: User, wrong: int):
    user.save("file", PARTS)
    token = begin_and_store(user, "file", 1, b"next")
    check_error(user.commit("file", token, wrong), 422)
    check_ok(user.commit("file", token, 2))
    assert user.metadata("file")["version"] == 2


def test_a_commit_of_chunks_that_are_not_stored_names_them_and_works_once_they_are(user: User):
    begun = user.begin("file", chunks=[entry(part) for part in PARTS])
    token = begun["upload_token"]
    user.store_chunks(token, {hash_of(PARTS[1]): PARTS[1]})
    named = [hash_of(part) for part in PARTS]
    body = check_error(user.commit("file", token, 1, chunks=named), 409, word="missing_chunks")
    lists = [value for value in body.values() if isinstance(value, list)]
    assert lists == [[named[0], named[2]]]
    check_error(user.l1.get("/files/file/metadata"), 404)
    user.store_chunks(token, {hash_of(part): part for part in (PARTS[0], PARTS[2])})
    check_ok(user.commit("file", token, 1, chunks=named))
    assert user.read("file") == b"".join(PARTS)


def test_a_commit_of_unknown_names_is_missing_chunks(user: User):
    token = user.begin("file")["upload_token"]
    check_error(user.commit("file", token, 1, chunks=["no-such-name"]), 409, word="missing_chunks")


def test_another_users_chunks_are_missing_chunks(user: User, stranger: User):
    stranger.save("theirs", PARTS)
    token = user.begin("file")["upload_token"]
    check_error(user.commit("file", token, 1, chunks=[hash_of(PARTS[0])]), 409, word="missing_chunks")


@pytest.mark.parametrize("base", [0, 1, 3, 2**53 - 1])
def test_an_update_on_another_version_than_the_servers_is_a_conflict(user: User, base: int):
    user.save("file", [b"one"])
    user.save("file", [b"two"], base=1)
    check_conflict(user.l1.post("/files/file/update", json={"client_version": base}), 2)


def test_an_unknown_file_is_only_made_from_version_zero(user: User):
    check_error(user.l1.post("/files/new/update", json={"client_version": 1}), 404, 409)
    assert user.listing() == {}


def test_the_same_commit_again_answers_the_same_even_after_newer_ones(user: User):
    token = begin_and_store(user, "file", 0, b"one")
    first = user.commit("file", token, 1)
    assert check_ok(first)["status"] == "committed"
    user.save("file", [b"two"], base=1)
    again = user.commit("file", token, 1)
    assert (again.status_code, again.json()) == (200, first.json())
    assert user.read("file") == b"two"
    assert user.metadata("file")["version"] == 2


def test_a_commit_of_other_chunks_under_a_spent_token_is_a_conflict_and_not_said_to_be_committed(user: User):
    user.save("held", PARTS)
    named, other = [hash_of(part) for part in PARTS[:2]], [hash_of(PARTS[2])]
    token = user.begin("file")["upload_token"]
    first = check_ok(user.commit("file", token, 1, chunks=named))
    check_conflict(user.commit("file", token, 1, chunks=other), 1)
    check_conflict(user.commit("file", token, 1, chunks=named[::-1]), 1)
    assert check_ok(user.commit("file", token, 1, chunks=named)) == first
    assert user.read("file") == b"".join(PARTS[:2])


def test_one_commit_sent_many_times_at_once_happens_once(user: User):
    token = begin_and_store(user, "file", 0, b"one")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: user.commit("file", token, 1), range(8)))
    assert [check_ok(answer)["version"] for answer in answers] == [1] * 8
    assert user.metadata("file")["version"] == 1


def test_an_update_sent_again_after_its_result_stands_is_a_conflict_or_the_same(user: User):
    """A retry of /update whose answer was lost: two uploads are begun, one commits."""
    first, second = (user.begin("file")["upload_token"] for _ in range(2))
    user.store_chunks(second, {"chunk_1": b"text"})
    check_ok(user.commit("file", second, 1))
    check_error(user.commit("file", first, 1), 409, 410, 422)
    assert user.read("file") == b"text"


def test_two_clients_on_one_base_version_get_one_200_and_one_409(user: User):
    for base in range(100):
        contenders = [f"{base} by {who}".encode() for who in ("one", "the other")]
        tokens = [begin_and_store(user, "contended", base, data) for data in contenders]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda token, new=base + 1: user.commit("contended", token, new), tokens))
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        won = [answer.status_code for answer in answers].index(200)
        check_conflict(answers[1 - won], base + 1)
        assert user.read("contended") == contenders[won]
    assert user.metadata("contended")["version"] == 100


def test_readers_see_the_old_file_or_the_new_one_never_a_mix(user: User):
    versions = [
        [letter * 1000 for letter in (b"a", b"b", b"c")],
        [letter * 1000 for letter in (b"x", b"y", b"z")],
    ]
    texts = {b"".join(parts) for parts in versions}
    user.save("file", versions[0])
    done = False

    def read_on() -> set[bytes]:
        seen: set[bytes] = set()
        while not done:
            seen.add(user.read("file"))
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read_on) for _ in range(2)]
        try:
            for base, parts in zip(range(1, 31), itertools.cycle(reversed(versions)), strict=False):
                user.save("file", parts, base=base)
        finally:
            done = True
        seen = set().union(*(reader.result() for reader in readers))
    assert seen <= texts


def test_an_upload_token_is_for_the_files_it_was_given_for(user: User):
    token = begin_and_store(user, "one", 0, b"bytes")
    check_error(user.commit("two", token, 1), 400, 401, 403, 404, 409, 410, 422)
    check_error(user.l1.get("/files/two/metadata"), 404)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "ACCESS", "REFRESH"])
def test_a_commit_with_what_is_no_upload_token_is_refused(user: User, token: str):
    wrong = {"ACCESS": user.token, "REFRESH": user.refresh_token}.get(token, token)
    check_error(user.commit("file", wrong, 1, chunks=[]), 400, 401, 403, 404, 422)
    assert user.listing() == {}


def test_another_users_upload_token_commits_nothing(user: User, stranger: User):
    token = begin_and_store(user, "file", 0, b"mine")
    check_error(stranger.commit("file", token, 1), 401, 403, 404)
    assert stranger.listing() == {}
    check_ok(user.commit("file", token, 1))


def test_a_new_file_is_named_at_its_first_update_and_not_there_before_its_commit(user: User):
    user.make_directory("dir", "/dir")
    token = user.begin("file", parent_dir_id="dir", name="n.txt")["upload_token"]
    user.store_chunks(token, {"c": b"text"})
    assert user.listing("dir") == {}
    check_error(user.l1.get("/files/file/metadata"), 404)
    check_ok(user.commit("file", token, 1))
    assert list(user.listing("dir")) == ["n.txt"]


def test_a_new_file_whose_name_was_taken_meanwhile_is_a_conflict(user: User):
    token = user.begin("mine", parent_dir_id="root", name="name")["upload_token"]
    user.store_chunks(token, {"c": b"mine"})
    user.save("theirs", [b"theirs"], parent_dir_id="root", name="name")
    check_error(user.commit("mine", token, 1), 409)
    assert user.listing()["name"]["id"] == "theirs"


def test_two_users_may_use_the_same_ids_and_know_nothing_of_each_other(user: User):
    other = new_user(user.store)
    for owner, text in ((user, b"user's"), (other, b"other's")):
        owner.make_directory("dir", "/dir")
        owner.save("file", [text], parent_dir_id="dir", name="f")
    assert user.read("file") == b"user's"
    assert other.read("file") == b"other's"


def test_sixty_four_files_committed_at_once_are_all_there(user: User):
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: user.save(f"f{number}", [f"text {number}".encode()]), range(64)))
    assert len(user.listing()) == 64
    for number in range(0, 64, 9):
        assert user.read(f"f{number}") == f"text {number}".encode()
