"""The main flows on both S3 servers that `moorage up` can stand on: SeaweedFS and MinIO."""

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from black_box.http_client import check_error, check_ok
from black_box.plain import PlainClient
from black_box.store import RunningStore
from black_box.user import User, entry, hash_of, new_user, stored_form
from real_servers.server import wait_until_stopped


@pytest.fixture(params=["seaweedfs", "minio"])
def engine_store(request: pytest.FixtureRequest) -> RunningStore:
    running: RunningStore = request.getfixturevalue(
        "local_store" if request.param == "seaweedfs" else "minio_store"
    )
    assert running.processes(r"(^|/)weed " if request.param == "seaweedfs" else r"(^|/)minio ")
    return running


@pytest.fixture
def user(engine_store: RunningStore) -> User:
    return new_user(engine_store, "engine")


def test_a_plain_client_writes_changes_and_reads(user: User):
    with contextlib.closing(PlainClient(user.store.url, user.username, user.password)) as client:
        for file_id in ("one", "two"):
            client.write(file_id, 0, {f"chunk_{n}": f"{file_id} {n};".encode() for n in (1, 2, 3)})
        client.write("one", 1, {"chunk_2": b"changed;"})
        assert client.read("one") == b"one 1;changed;one 3;"
        assert client.read("two") == b"two 1;two 2;two 3;"


def test_raw_chunks_of_every_size_come_back_with_ranges(user: User):
    token = user.begin("file")["upload_token"]
    parts = [os.urandom(size) for size in (1, 4096, 256 * 1024, 256 * 1024 + 1, 5_000_000, 8 * 1024 * 1024)]
    for part in parts:
        check_ok(user.block.with_token(token).put(f"/chunks/{hash_of(part)}", content=part))
    check_ok(user.commit("file", token, 1))
    assert user.read("file") == b"".join(parts)
    for part in parts:
        middle = len(part) // 2
        response = user.block.get(f"/chunks/{hash_of(part)}", headers={"Range": f"bytes={middle}-"})
        assert (response.status_code, response.content) == (206, part[middle:])


def test_many_small_files_are_packed_and_read_back(user: User):
    texts = {f"f{number}": os.urandom(4096) for number in range(200)}
    files = [{"file_id": each, "client_version": 0, "chunks": [entry(text)]} for each, text in texts.items()]
    token = check_ok(user.l1.post("/files:batch_update", json={"files": files}))["upload_token"]
    user.store_chunks(token, {hash_of(text): text for text in texts.values()})
    commits = [{"file_id": each, "new_version": 1, "chunks": [hash_of(text)]} for each, text in texts.items()]
    answer = check_ok(user.l1.post("/files:batch_commit", json={"upload_token": token, "files": commits}))
    assert {each["status"] for each in answer["files"]} == {"committed"}
    with ThreadPoolExecutor(8) as pool:
        read = dict(zip(texts, pool.map(user.read, texts), strict=True))
    assert read == texts


def test_the_same_bytes_stored_by_many_at_once_are_stored(user: User):
    data = os.urandom(400_000)
    token = user.begin("file")["upload_token"]
    server = user.block.with_token(token)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.put(f"/chunks/{hash_of(data)}", content=data), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    check_ok(user.commit("file", token, 1, chunks=[hash_of(data)]))
    assert user.read("file") == data


def test_nothing_of_a_wrong_chunk_is_kept(user: User):
    token = user.begin("file")["upload_token"]
    body = [stored_form("good", b"good"), stored_form("bad", b"bad", metadata={"hash": hash_of(b"other")})]
    check_error(user.block.with_token(token).post("/store_chunk", json=body), 422, word="hash_mismatch")
    check_error(user.l3.get(f"/chunks/{hash_of(b'bad')}/metadata"), 404)
    check_error(user.commit("file", token, 1, chunks=["bad"]), 409)


def test_a_stopped_s3_is_a_503_and_recovers(engine_store: RunningStore, user: User):
    user.save("file", [b"bytes"])
    servers = engine_store.processes(r"(^|/)(weed|minio) ")
    for process in servers:
        process.signal(signal.SIGSTOP)
        wait_until_stopped(process.pid)
    try:
        check_error(user.block.get("/files/file/content"), 503)
    finally:
        for process in servers:
            process.signal(signal.SIGCONT)
    engine_store.wait_ready()
    assert user.read("file") == b"bytes"


def test_ctrl_c_ends_everything_in_time_and_the_next_up_finds_all(minio_store: RunningStore):
    """On SeaweedFS the same is in test_restart.py, by SIGTERM."""
    user = new_user(minio_store, "engine")
    data = os.urandom(3_000_000)
    user.save("file", [data, b"small"])
    assert minio_store.stop(signal.SIGINT) <= 10
    minio_store.start()
    assert user.read("file") == data + b"small"
