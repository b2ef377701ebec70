"""PROTOCOL.md: `GET /files/{id}/content`, a whole file for a browser or curl, and files larger than usual."""

import hashlib
import os
import random

import pytest
from black_box.http_client import check_error, check_ok, exchange
from black_box.store import RunningStore
from black_box.user import User, hash_of, new_user

PARTS = [os.urandom(size) for size in (1000, 1, 70_000, 300_000, 12)]
TEXT = b"".join(PARTS)


@pytest.fixture(scope="module")
def reader(store: RunningStore) -> User:
    """One for all who only read."""
    user = new_user(store, "reader")
    user.save("file", PARTS, attrs={"type": "text/plain"})
    return user


def test_the_whole_file_is_streamed_with_its_length(reader: User):
    response = reader.block.get("/files/file/content")
    assert response.status_code == 200
    assert response.content == TEXT
    assert response.headers["Content-Length"] == str(len(TEXT))
    assert response.headers["Accept-Ranges"] == "bytes"


def test_ranges_across_chunks_are_exact(reader: User):
    chosen = random.Random(4)
    ends = [0, 999, 1000, 1001, 71_000, 71_001, 371_000, len(TEXT) - 13, len(TEXT) - 1]
    spans = [tuple(sorted(chosen.sample(ends, 2))) for _ in range(15)]
    spans += [tuple(sorted(chosen.sample(range(len(TEXT)), 2))) for _ in range(15)]
    for first, last in spans:
        response = reader.block.get("/files/file/content", headers={"Range": f"bytes={first}-{last}"})
        assert response.status_code == 206
        assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(TEXT)}"
        assert response.content == TEXT[first : last + 1]


def test_the_end_of_a_file_can_be_asked_for(reader: User):
    response = reader.block.get("/files/file/content", headers={"Range": "bytes=-20"})
    assert (response.status_code, response.content) == (206, TEXT[-20:])
    response = reader.block.get("/files/file/content", headers={"Range": f"bytes={len(TEXT) - 4}-"})
    assert (response.status_code, response.content) == (206, TEXT[-4:])


def test_a_range_behind_the_end_is_416(reader: User):
    response = reader.block.get("/files/file/content", headers={"Range": f"bytes={len(TEXT)}-"})
    check_error(response, 416)
    assert response.headers["Content-Range"] == f"bytes */{len(TEXT)}"


def test_a_range_of_an_empty_file_cannot_be_met(user: User):
    user.save("empty", [])
    assert user.block.get("/files/empty/content").content == b""
    assert user.block.get("/files/empty/content", headers={"Range": "bytes=0-"}).status_code in {200, 416}


def test_content_is_the_newest_version(user: User):
    for version in range(4):
        user.save("file", [f"version {version + 1}".encode()], base=version)
        assert user.read("file") == f"version {version + 1}".encode()


def test_content_that_does_not_exist_is_not_found(user: User):
    check_error(user.block.get("/files/nothing/content"), 404)
    check_ok(user.l1.put("/create_file/blank", json={"parent_dir_id": "root", "name": "n"}))
    response = user.block.get("/files/blank/content")
    if response.status_code != 200:
        check_error(response, 404)
    else:
        assert response.content == b""


def test_a_reader_who_goes_away_harms_nobody(user: User):
    data = os.urandom(6 * 1024 * 1024)
    user.save("large", [data])
    for _ in range(5):
        with user.block.stream("/files/large/content") as response:  # nothing of the body is read
            assert response.status_code == 200
    assert user.read("large") == data


def test_fifty_megabytes_in_large_chunks_come_back_byte_for_byte(user: User):
    digest, hashes = hashlib.sha256(), []
    token = user.begin("video")["upload_token"]
    for number in range(13):
        data = random.Random(number).randbytes(4_000_000)
        digest.update(data)
        hashes.append(hash_of(data))
        check_ok(user.block.with_token(token).put(f"/chunks/{hashes[-1]}", content=data))
    check_ok(user.commit("video", token, 1, chunks=hashes))
    assert user.metadata("video")["size"] == 52_000_000
    assert hashlib.sha256(user.read("video")).digest() == digest.digest()


def test_a_file_of_a_hundred_thousand_distinct_chunks_works(user: User):
    count = 100_000
    token = user.begin("huge")["upload_token"]
    for first in range(0, count, 1000):
        user.store_chunks(
            token, {f"c{number}": f"{number:06d}".encode() for number in range(first, first + 1000)}
        )
    names = [f"c{number}" for number in range(count)]
    check_ok(user.commit("huge", token, 1, chunks=names))
    assert user.metadata("huge")["size"] == 6 * count
    seen, cursor = 0, ""
    while seen == 0 or cursor:
        page = check_ok(user.l2.get("/files/huge/chunks", params={"cursor": cursor}))
        for chunk in page["chunks"]:
            assert (chunk["chunk_id"], chunk["offset"]) == (f"c{seen}", 6 * seen)
            seen += 1
        cursor = page.get("next_cursor")
    assert seen == count
    for first in (0, 299_999, 6 * count - 60):
        response = user.block.get("/files/huge/content", headers={"Range": f"bytes={first}-{first + 59}"})
        whole = "".join(f"{number:06d}" for number in range(first // 6, min(first // 6 + 12, count)))
        assert response.content.decode() == whole[first % 6 : first % 6 + 60]
    assert user.read("huge") == b"".join(f"{number:06d}".encode() for number in range(count))


def test_one_chunk_a_hundred_thousand_times_is_a_file(user: User):
    token = user.begin("zeros")["upload_token"]
    user.store_chunks(token, {"z": b"0123456789"})
    check_ok(user.commit("zeros", token, 1, chunks=["z"] * 100_000))
    assert user.metadata("zeros")["size"] == 1_000_000
    response = user.block.get("/files/zeros/content", headers={"Range": "bytes=999985-"})
    assert response.content == b"567890123456789"


def test_an_upload_cut_off_halfway_leaves_nothing(user: User):
    token = user.begin("cut")["upload_token"]
    data = os.urandom(200_000)
    path = user.block.base.removeprefix(user.store.url) + "/chunks"
    for name in ("cut", hash_of(data), hash_of(data[:100_000])):
        exchange(
            user.store.url,
            f"{path}/{name}",
            method="PUT",
            headers={"Authorization": f"Bearer {token}", "Content-Length": "200000"},
            body=[data[:100_000]],
            truncate=True,
        )
    for kept in (data, data[:100_000]):
        check_error(user.l3.get(f"/chunks/{hash_of(kept)}/metadata"), 404)
        check_error(user.block.get(f"/chunks/{hash_of(kept)}"), 404)
    check_error(user.commit("cut", token, 1), 422, word="empty_commit")
    check_ok(user.block.with_token(token).put(f"/chunks/{hash_of(data)}", content=data))
    check_ok(user.commit("cut", token, 1))
    assert user.read("cut") == data
