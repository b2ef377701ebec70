"""PROTOCOL.md: single chunks over the block servers, as base64 in JSON and as raw bytes."""

import base64
import os

import pytest
from black_box.http_client import check_error, check_ok, exchange
from black_box.store import RunningStore
from black_box.user import User, entry, hash_of, new_user, stored_form

LARGEST = 8 * 1024 * 1024


@pytest.fixture
def token(user: User) -> str:
    upload_token: str = user.begin("upload")["upload_token"]
    return upload_token


def is_kept(user: User, data: bytes) -> bool:
    """Whether anything of the namespace holds these bytes; both servers that know must agree."""
    answers = {
        user.l3.get(f"/chunks/{hash_of(data)}/metadata").status_code,
        user.block.get(f"/chunks/{hash_of(data)}").status_code,
    }
    assert len(answers) == 1
    assert answers <= {200, 404}
    return answers == {200}


def test_store_chunk_answers_for_each_chunk(user: User, token: str):
    answer = user.store_chunks(token, {"one": b"first", "two": b"second one"})
    (results,) = (value for value in answer.values() if isinstance(value, list))
    assert [each["chunk_id"] for each in results] == ["one", "two"]
    assert [each["hash"] for each in results] == [hash_of(b"first"), hash_of(b"second one")]


def test_a_stored_chunk_comes_back_in_both_forms_by_name_and_by_hash(user: User, token: str):
    data = os.urandom(5000)
    user.store_chunks(token, {"mine": data})
    check_ok(user.commit("upload", token, 1))
    for name in ("mine", hash_of(data)):
        answer = check_ok(user.block.get(f"/download_chunk/{name}"))
        assert answer["metadata"] == {"size": 5000, "hash": hash_of(data)}
        assert base64.b64decode(answer["data"], validate=True) == data
        assert user.block.get(f"/chunks/{name}").content == data


def test_of_a_chunk_with_a_wrong_hash_nothing_is_kept(user: User, token: str):
    wrong = stored_form("bad", b"these bytes", metadata={"hash": hash_of(b"other bytes")})
    check_error(user.block.with_token(token).post("/store_chunk", json=[wrong]), 422, word="hash_mismatch")
    assert not is_kept(user, b"these bytes")
    assert not is_kept(user, b"other bytes")
    check_error(user.commit("upload", token, 1, chunks=["bad"]), 409, word="missing_chunks")
    check_error(user.commit("upload", token, 1), 422, word="empty_commit")


def test_a_name_that_is_a_hash_must_be_that_of_the_bytes(user: User, token: str):
    lie = hash_of(b"what it claims")
    server = user.block.with_token(token)
    check_error(server.put(f"/chunks/{lie}", content=b"what it is"), 422, word="hash_mismatch")
    check_error(server.post("/store_chunk", json=[stored_form(lie, b"what it is")]), 422)
    assert not is_kept(user, b"what it claims")


def test_raw_bytes_are_put_and_got(user: User, token: str):
    data = os.urandom(300_000)
    check_ok(user.block.with_token(token).put(f"/chunks/{hash_of(data)}", content=data))
    response = user.block.get(f"/chunks/{hash_of(data)}")
    assert response.status_code == 200
    assert response.content == data
    assert response.headers["Content-Length"] == "300000"
    assert response.headers["ETag"]


def test_a_chunk_put_again_is_the_same(user: User, token: str):
    server = user.block.with_token(token)
    first, again = (server.put("/chunks/name", content=b"the bytes") for _ in range(2))
    check_ok(first)
    assert again.json() == first.json()
    check_ok(user.commit("upload", token, 1))
    assert user.read("upload") == b"the bytes"


def test_chunks_put_raw_are_committed_in_the_order_they_came(user: User, token: str):
    for name in ("z", "a", "k"):
        check_ok(user.block.with_token(token).put(f"/chunks/{name}", content=name.encode()))
    check_ok(user.commit("upload", token, 1))
    assert user.read("upload") == b"zak"


def test_the_largest_chunk_is_eight_mebibytes(user: User, token: str):
    data = os.urandom(LARGEST)
    server = user.block.with_token(token)
    check_ok(server.put(f"/chunks/{hash_of(data)}", content=data))
    assert user.block.get(f"/chunks/{hash_of(data)}").content == data
    encoded = os.urandom(LARGEST)
    check_ok(server.post("/store_chunk", json=[stored_form("largest", encoded)]))
    answer = check_ok(user.block.get(f"/download_chunk/{hash_of(encoded)}"))
    assert base64.b64decode(answer["data"]) == encoded


def test_a_chunk_one_byte_larger_is_refused_in_every_form(user: User, token: str):
    data = bytes(LARGEST + 1)
    server = user.block.with_token(token)
    raw = exchange(
        user.store.url,
        server.base.removeprefix(user.store.url) + "/chunks/big",
        method="PUT",
        headers={"Authorization": f"Bearer {token}", "Content-Length": str(len(data))},
        body=(data[first : first + 65536] for first in range(0, len(data), 65536)),
    )
    assert raw is not None
    assert raw.status == 413
    check_error(server.post("/store_chunk", json=[stored_form("big", data)]), 413)
    check_error(
        user.l1.post(
            "/files/f/update", json={"client_version": 0, "chunks": [{**entry(b""), "size": len(data)}]}
        ),
        413,
        422,
    )
    assert not is_kept(user, data)


BODY = bytes(range(256)) * 4
RANGES = {
    "bytes=0-9": (0, 9),
    "bytes=1000-": (1000, 1023),
    "bytes=-5": (1019, 1023),
    "bytes=-5000": (0, 1023),
    "bytes=1023-1023": (1023, 1023),
    "bytes=500-99999": (500, 1023),
    "bytes=0-": (0, 1023),
}


@pytest.fixture(scope="module")
def reader(store: RunningStore) -> User:
    """One for all who only read."""
    return new_user(store, "reader")


@pytest.fixture(scope="module")
def chunk(reader: User) -> str:
    reader.save("file", [BODY])
    return f"/chunks/{hash_of(BODY)}"


@pytest.mark.parametrize("asked", RANGES)
def test_a_range_of_a_chunk_is_just_that(reader: User, chunk: str, asked: str):
    first, last = RANGES[asked]
    response = reader.block.get(chunk, headers={"Range": asked})
    assert response.status_code == 206
    assert response.content == BODY[first : last + 1]
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/1024"
    assert response.headers["Content-Length"] == str(last + 1 - first)


@pytest.mark.parametrize(
    "asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0", "bytes=99999999999999999999-"]
)
def test_a_range_that_cannot_be_met_is_416_with_the_size(reader: User, chunk: str, asked: str):
    response = reader.block.get(chunk, headers={"Range": asked})
    check_error(response, 416)
    assert response.headers["Content-Range"] == "bytes */1024"


@pytest.mark.parametrize(
    "asked", ["bytes=9-3", "bytes=", "bytes=x-y", "lines=1-2", "bytes=1-2-3", "0-5", "bytes=--5"]
)
def test_a_header_that_is_no_range_is_ignored_or_refused(reader: User, chunk: str, asked: str):
    response = reader.block.get(chunk, headers={"Range": asked})
    if response.status_code == 200:
        assert response.content == BODY
    else:
        check_error(response, 400, 416, 422)


def test_several_ranges_at_once_are_never_answered_wrongly(reader: User, chunk: str):
    response = reader.block.get(chunk, headers={"Range": "bytes=0-1,5-9"})
    if response.status_code == 200:
        assert response.content == BODY
    elif response.status_code == 206:
        assert response.headers["Content-Type"].startswith("multipart/byteranges")
    else:
        check_error(response, 400, 416)


def test_who_has_the_chunk_is_told_so(reader: User, chunk: str):
    etag = reader.block.get(chunk).headers["ETag"]
    for known in (etag, f'"other", {etag}', "*"):
        response = reader.block.get(chunk, headers={"If-None-Match": known})
        assert response.status_code == 304
        assert response.content == b""
        assert response.headers["ETag"] == etag
    assert reader.block.get(chunk, headers={"If-None-Match": '"other"'}).content == BODY


def test_an_empty_chunk_is_stored_or_refused_clearly(user: User, token: str):
    response = user.block.with_token(token).put("/chunks/nothing", content=b"")
    if response.status_code == 200:
        assert user.block.get(f"/chunks/{hash_of(b'')}").content == b""
        assert user.block.get(f"/chunks/{hash_of(b'')}", headers={"Range": "bytes=0-"}).status_code in {
            200,
            416,
        }
    else:
        check_error(response, 400, 422)


def test_with_the_access_token_the_only_open_upload_is_meant(user: User, token: str):
    check_ok(user.block.post("/store_chunk", json=[stored_form("one", b"one,")]))
    check_ok(user.block.put("/chunks/two", content=b"two"))
    check_ok(user.commit("upload", token, 1))
    assert user.read("upload") == b"one,two"


def test_with_two_open_uploads_the_access_token_needs_to_name_one(user: User, token: str):
    other = user.begin("other")["upload_token"]
    body = [stored_form("one", b"bytes")]
    check_error(user.block.post("/store_chunk", json=body), 409, word="upload_token_required")
    check_error(user.block.put("/chunks/one", content=b"bytes"), 409, word="upload_token_required")
    assert not is_kept(user, b"bytes")
    check_ok(user.block.post("/store_chunk", json=body, headers={"X-Upload-Token": other}))
    check_ok(user.commit("other", other, 1))
    check_error(user.commit("upload", token, 1), 422, word="empty_commit")


def test_without_an_open_upload_the_access_token_stores_nothing(user: User):
    check_error(user.block.post("/store_chunk", json=[stored_form("one", b"bytes")]), 404, 409)
    assert not is_kept(user, b"bytes")


def test_an_upload_token_of_somebody_else_in_the_header_is_refused(user: User, stranger: User, token: str):
    headers = {"X-Upload-Token": token}
    body = [stored_form("one", b"bytes")]
    check_error(stranger.block.post("/store_chunk", json=body, headers=headers), 401, 403, 404)
    check_error(
        user.block.post("/store_chunk", json=body, headers={"X-Upload-Token": user.token}), 400, 401, 403, 422
    )
    assert not is_kept(user, b"bytes")
    assert not is_kept(stranger, b"bytes")


def test_an_upload_token_only_stores(user: User, token: str):
    user.save("file", [b"private"])
    for response in (
        user.l1.with_token(token).get("/list_directory/root"),
        user.l2.with_token(token).get("/files/file/chunks"),
        user.block.with_token(token).get("/files/file/content"),
        user.l1.with_token(token).post("/files/x/update", json={"client_version": 0}),
    ):
        check_error(response, 401, 403, 404)


def test_a_download_token_reads_the_chunks_of_its_file_and_nothing_else(user: User):
    user.save("shown", [b"shown"])
    user.save("hidden", [b"hidden"])
    answer = check_ok(user.l2.get("/files/shown/chunks"))
    holder = user.block.with_token(answer["download_token"])
    assert holder.get(f"/chunks/{hash_of(b'shown')}").content == b"shown"
    check_ok(holder.get(f"/download_chunk/{hash_of(b'shown')}"))
    for response in (
        holder.get(f"/chunks/{hash_of(b'hidden')}"),
        holder.get("/files/hidden/content"),
        holder.put("/chunks/x", content=b"x"),
        holder.post("/store_chunk", json=[stored_form("x", b"x")]),
        user.l1.with_token(answer["download_token"]).get("/list_directory/root"),
        user.l2.with_token(answer["download_token"]).get("/files/shown/chunks"),
    ):
        check_error(response, 401, 403, 404)


def test_the_same_small_chunks_in_one_call_and_again_in_another_are_kept_once_each(user: User, token: str):
    data = {f"c{number}": f"{number % 7}".encode() * 50 for number in range(40)}
    user.store_chunks(token, data)
    user.store_chunks(token, data)
    check_ok(user.commit("upload", token, 1, chunks=list(data)))
    assert user.read("upload") == b"".join(data.values())
