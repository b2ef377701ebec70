"""PROTOCOL.md, Files: creation, metadata, versions and restore."""

import datetime as dt

import pytest
from black_box.http_client import check_error, check_ok
from black_box.user import User, hash_of


def test_a_created_file_has_version_zero_and_creating_it_again_is_the_same(user: User):
    body = {"parent_dir_id": "root", "name": "note.txt"}
    first = user.l1.put("/create_file/note", json=body)
    again = user.l1.put("/create_file/note", json=body)
    check_ok(first)
    assert again.json() == first.json()
    metadata = user.metadata("note")
    assert (metadata["version"], metadata["size"], metadata["name"]) == (0, 0, "note.txt")
    assert list(user.listing()) == ["note.txt"]


def test_a_file_can_be_created_by_path(user: User):
    user.make_directory("docs", "/docs")
    check_ok(user.l1.put("/create_file/note", json={"path": "/docs/note.txt"}))
    assert user.node("note")["path"] == "/docs/note.txt"


def test_a_taken_name_or_id_is_a_conflict(user: User):
    check_ok(user.l1.put("/create_file/one", json={"parent_dir_id": "root", "name": "name"}))
    user.make_directory("dir", "/dir")
    for file_id, name in (("two", "name"), ("one", "other"), ("dir", "other"), ("two", "dir")):
        body = {"parent_dir_id": "root", "name": name}
        check_error(user.l1.put(f"/create_file/{file_id}", json=body), 409)
    assert set(user.listing()) == {"name", "dir"}


def test_a_file_needs_a_parent_that_is_a_directory(user: User):
    user.save("file", [b"x"])
    for parent, statuses in (("no-such-dir", (404,)), ("file", (404, 409))):
        body = {"parent_dir_id": parent, "name": "n"}
        check_error(user.l1.put("/create_file/new", json=body), *statuses)
        check_error(user.l1.post("/files/new/update", json={"client_version": 0, **body}), *statuses)
    check_error(user.l1.put("/create_file/new", json={}), 400, 422)


def test_a_created_file_is_written_at_version_one(user: User):
    check_ok(user.l1.put("/create_file/note", json={"parent_dir_id": "root", "name": "note.txt"}))
    assert user.save("note", [b"text"]) == 1
    assert user.read("note") == b"text"
    assert list(user.listing()) == ["note.txt"]


def test_metadata_says_where_the_manifest_is_and_what_the_version_is(user: User):
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)
    user.save("file", [b"12345", b"678"], name="f", parent_dir_id="root")
    metadata = user.metadata("file")
    assert metadata["l2_metadata_server"].split("/")[0] == user.store.url.removeprefix("http://")
    assert (metadata["version"], metadata["name"], metadata["size"]) == (1, "f", 8)
    modified = dt.datetime.fromisoformat(metadata["modified"])
    assert modified.utcoffset() == dt.timedelta(0)
    assert before < modified < dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)


def test_the_hash_of_a_version_is_that_of_its_ordered_chunks(user: User):
    user.save("one", [b"a", b"b"])
    user.save("two", [b"a", b"b"])
    user.save("three", [b"b", b"a"])
    hashes = [user.metadata(file_id)["hash"] for file_id in ("one", "two", "three")]
    assert hashes[0] == hashes[1] != hashes[2]


def test_attrs_are_kept_with_the_version_they_came_with(user: User):
    first = {"mtime": "2023-05-01T10:00:00Z", "mode": 0o644, "type": "text/plain"}
    user.save("file", [b"one"], attrs=first)
    assert user.metadata("file")["attrs"] == first
    user.save("file", [b"two"], base=1, attrs={"mode": 0o755})
    assert user.metadata("file")["attrs"] == {"mode": 0o755}
    assert user.metadata("file", version=1)["attrs"] == first


def test_a_chunk_listing_is_in_file_order_with_places_and_hashes(user: User):
    parts = [b"first", b"second part", b"3"]
    user.save("file", parts)
    chunks = user.chunks("file")
    assert [each["hash"] for each in chunks] == [hash_of(part) for part in parts]
    assert [each["size"] for each in chunks] == [5, 11, 1]
    assert [each["offset"] for each in chunks] == [0, 5, 16]
    assert all(each["l3_server"] and each["block_server"] for each in chunks)


def test_old_versions_stay_readable(user: User):
    for version, text in enumerate((b"one", b"two", b"three")):
        user.save("file", [text, b"same end"], base=version)
    assert [user.read_version("file", version) for version in (1, 2, 3)] == [
        b"onesame end",
        b"twosame end",
        b"threesame end",
    ]
    assert user.metadata("file", version=1)["size"] == len(b"onesame end")
    assert user.metadata("file", version=1)["version"] == 1
    assert user.metadata("file")["version"] == 3


def test_the_kept_versions_are_listed(user: User):
    for version in range(3):
        user.save("file", [b"x" * (version + 1)], base=version)
    versions = check_ok(user.l1.get("/files/file/versions"))["versions"]
    sizes = {each["version"]: each["size"] for each in versions}
    assert {number: sizes[number] for number in (1, 2, 3)} == {1: 1, 2: 2, 3: 3}
    assert all(each["modified"] for each in versions)


def test_a_restored_version_is_the_next_version_and_restoring_again_is_the_same(user: User):
    user.save("file", [b"good"])
    user.save("file", [b"bad"], base=1)
    body = {"version": 1, "client_version": 2}
    first = user.l1.post("/files/file/restore", json=body)
    again = user.l1.post("/files/file/restore", json=body)
    assert check_ok(first)["version"] == 3
    assert again.json() == first.json()
    assert user.read("file") == b"good"
    assert user.metadata("file")["version"] == 3
    assert user.read_version("file", 2) == b"bad"


def test_a_restore_on_a_stale_version_is_a_conflict(user: User):
    user.save("file", [b"one"])
    user.save("file", [b"two"], base=1)
    response = user.l1.post("/files/file/restore", json={"version": 1, "client_version": 1})
    body = check_error(response, 409)
    assert (body["status"], body["server_version"]) == ("conflict", 2)
    assert user.read("file") == b"two"


@pytest.mark.parametrize("version", [2, 99, 2**53 - 1])
def test_a_version_that_never_was_is_not_found(user: User, version: int):
    user.save("file", [b"one"])
    check_error(user.l1.get("/files/file/metadata", params={"version": version}), 404, 410)
    check_error(user.l2.get("/files/file/chunks", params={"version": version}), 404, 410)
    response = user.l1.post("/files/file/restore", json={"version": version, "client_version": 1})
    check_error(response, 404, 410, 422)
    assert user.metadata("file")["version"] == 1


@pytest.mark.parametrize("version", ["-1", "x", "1.5", str(2**53), "9" * 40, ""])
def test_a_version_that_is_no_version_is_refused(user: User, version: str):
    user.save("file", [b"one"])
    for response in (
        user.l1.get(f"/files/file/metadata?version={version}"),
        user.l2.get(f"/files/file/chunks?version={version}"),
    ):
        check_error(response, 400, 422)


def test_a_directory_is_no_file(user: User):
    user.make_directory("dir", "/dir")
    for response in (
        user.l1.get("/files/dir/metadata"),
        user.l1.get("/files/dir/versions"),
        user.l2.get("/files/dir/chunks"),
        user.block.get("/files/dir/content"),
        user.l1.post("/files/dir/update", json={"client_version": 0}),
        user.l1.post("/files/dir/restore", json={"version": 1, "client_version": 1}),
    ):
        check_error(response, 404, 409)


def test_a_chunk_says_its_size_hash_state_and_where_it_is(user: User):
    user.save("file", [b"some bytes"])
    metadata = check_ok(user.l3.get(f"/chunks/{hash_of(b'some bytes')}/metadata"))
    assert (metadata["size"], metadata["hash"]) == (10, hash_of(b"some bytes"))
    assert metadata["state"]
    assert user.server(metadata["block_server"]).base == user.block.base
