"""Bodies that no client should send, to every route that takes one: a clear 4xx in the one shape, and nothing done."""

import base64
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from black_box.http_client import Server, check_error, check_error_shape, exchange
from black_box.store import RunningStore
from black_box.user import User, entry, hash_of, new_user, stored_form

REFUSED = (400, 422)
ROUTES = (
    "auth",
    "refresh",
    "create_directory",
    "create_file",
    "move",
    "update",
    "commit",
    "batch_update",
    "batch_commit",
    "restore",
    "store_chunk",
)
REQUIRED = {
    "auth": ("username", "password"),
    "refresh": ("refresh_token",),
    "create_directory": ("path", "parent_dir_id"),
    "move": ("parent_dir_id", "name"),
    "update": ("client_version",),
    "commit": ("upload_token", "new_version"),
    "batch_update": ("files",),
    "batch_commit": ("upload_token", "files"),
    "restore": ("version",),
}
WRONG_VALUES: tuple[Any, ...] = (None, True, -1, 1.5, 10**30, "", [], {}, [[]], [None], {"a": 1})


@pytest.fixture(scope="module")
def user(store: RunningStore) -> User:
    """One for all: nothing here changes anything of hers."""
    return new_user(store)


@pytest.fixture(scope="module")
def calls(user: User) -> dict[str, tuple[Server, str, str, Any]]:
    """Of every route with a JSON body: server, method, path and a body that would be accepted."""
    user.save("file", [b"one"], parent_dir_id="root", name="file")
    user.save("file", [b"two"], base=1)
    token = user.begin("file", 2)["upload_token"]
    front = user.store.front()
    return {
        "auth": (front, "POST", "/auth", {"username": user.username, "password": user.password}),
        "refresh": (front, "POST", "/auth/refresh", {"refresh_token": user.refresh_token}),
        "create_directory": (user.l1, "PUT", "/create_directory/d", {"path": "/d", "parent_dir_id": "root"}),
        "create_file": (user.l1, "PUT", "/create_file/n", {"parent_dir_id": "root", "name": "n"}),
        "move": (user.l1, "POST", "/move/file", {"parent_dir_id": "root", "name": "moved"}),
        "update": (user.l1, "POST", "/files/n/update", {"client_version": 0}),
        "commit": (
            user.l1,
            "POST",
            "/files/file/commit",
            {"upload_token": token, "new_version": 3, "chunks": []},
        ),
        "batch_update": (
            user.l1,
            "POST",
            "/files:batch_update",
            {"files": [{"file_id": "n", "client_version": 0}]},
        ),
        "batch_commit": (
            user.l1,
            "POST",
            "/files:batch_commit",
            {"upload_token": token, "files": [{"file_id": "file", "new_version": 3, "chunks": []}]},
        ),
        "restore": (user.l1, "POST", "/files/file/restore", {"version": 1, "client_version": 2}),
        "store_chunk": (user.block.with_token(token), "POST", "/store_chunk", [stored_form("c", b"bytes")]),
    }


@pytest.fixture
def unchanged(user: User, calls: Any) -> Iterator[None]:
    before = user.listing()
    yield
    assert user.listing() == before
    assert user.read("file") == b"two"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", ROUTES)
def test_what_is_not_json_is_refused(calls: dict[str, tuple[Server, str, str, Any]], route: str):
    server, method, path, valid = calls[route]
    whole = json.dumps(valid).encode()
    for content in (
        b"",
        b"{",
        whole[:-1],
        whole + b"x",
        b"\xff\xfe{",
        b"\0",
        whole.replace(b'"', b"'"),
        b"NaN",
        b"[NaN]",
        b"<xml/>",
    ):
        check_error(server.request(method, path, content=content), *REFUSED)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", ROUTES)
def test_json_of_another_kind_is_refused(calls: dict[str, tuple[Server, str, str, Any]], route: str):
    server, method, path, valid = calls[route]
    other_kinds = [
        None,
        True,
        7,
        "text",
        {} if isinstance(valid, list) else [],
        [valid, valid] if isinstance(valid, dict) else valid[0],
    ]
    for body in other_kinds:
        check_error(server.request(method, path, content=json.dumps(body).encode()), *REFUSED)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", [route for route in ROUTES if route != "store_chunk"])
def test_unknown_fields_are_refused(calls: dict[str, tuple[Server, str, str, Any]], route: str):
    server, method, path, valid = calls[route]
    check_error(server.request(method, path, json={**valid, "surprise": 1}), *REFUSED)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", REQUIRED)
def test_missing_fields_are_refused_by_name(calls: dict[str, tuple[Server, str, str, Any]], route: str):
    server, method, path, valid = calls[route]
    for missing in REQUIRED[route]:
        body = {name: value for name, value in valid.items() if name != missing}
        error = check_error(server.request(method, path, json=body), *REFUSED)
        assert missing in json.dumps(error), "a person should be told which field it is"


def is_wrong(valid: Any, value: Any) -> bool:
    """Whether `value` is of another kind than what stood there."""
    if isinstance(valid, str):
        return not isinstance(value, str)
    if isinstance(valid, int):
        return type(value) is not int or not 0 <= value < 2**53
    return not isinstance(value, list) or value in ([[]], [None])


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", [route for route in ROUTES if route != "store_chunk"])
def test_fields_of_a_wrong_type_are_refused(calls: dict[str, tuple[Server, str, str, Any]], route: str):
    server, method, path, valid = calls[route]
    for field, value in itertools.product(valid, WRONG_VALUES):
        if is_wrong(valid[field], value):
            content = json.dumps({**valid, field: value}).encode()
            check_error(server.request(method, path, content=content), *REFUSED)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "change",
    [
        {"chunk_id": None},
        {"chunk_id": 5},
        {"metadata": None},
        {"metadata": {}},
        {"metadata": "sha256_"},
        {"metadata": {"hash": None}},
        {"metadata": {"hash": "md5_" + "0" * 32}},
        {"metadata": {"hash": hash_of(b"bytes").upper()}},
        {"metadata": {"hash": hash_of(b"bytes")[:-1]}},
        {"metadata": {"hash": hash_of(b"bytes") + "0"}},
        {"metadata": {"hash": hash_of(b"bytes"), "surprise": 1}},
        {"data": None},
        {"data": 5},
        {"data": ["Ynl0ZXM="]},
        {"data": "not base64!"},
        {"data": "Ynl0ZXM"},
        {"data": "Ynl0ZXM=="},
        {"data": "Yn l0ZXM="},
        {"data": base64.urlsafe_b64encode(b"\xfb\xef\xff" * 3).decode()},
        {"surprise": 1},
    ],
    ids=json.dumps,
)
def test_a_chunk_of_wrong_fields_is_refused_and_not_kept(user: User, calls: Any, change: dict[str, Any]):
    server, method, path, _ = calls["store_chunk"]
    check_error(server.request(method, path, json=[stored_form("c", b"bytes", **change)]), *REFUSED)
    check_error(user.l3.get(f"/chunks/{hash_of(b'bytes')}/metadata"), 404)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "change",
    [
        {"size": -1},
        {"size": 10**12},
        {"size": 10**30},
        {"size": "3"},
        {"size": 1.0},
        {"size": None},
        {"hash": "x"},
        {"hash": None},
        {"chunk_id": ""},
        {"surprise": 1},
    ],
    ids=json.dumps,
)
def test_a_manifest_of_wrong_entries_is_refused(user: User, calls: Any, change: dict[str, Any]):
    body = {"client_version": 0, "chunks": [{**entry(b"abc"), **change}]}
    check_error(user.l1.post("/files/n/update", json=body), 400, 413, 422)
    batch = {"files": [{"file_id": "n", **body}]}
    response = user.l1.post("/files:batch_update", json=batch)
    if response.status_code == 200:
        assert response.json()["files"][0]["status"] != "proceed"
    else:
        check_error(response, 400, 413, 422)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "attrs",
    [
        None,
        [],
        "x",
        {"mtime": 5},
        {"mode": "0644"},
        {"mode": -1},
        {"mode": 2**40},
        {"type": 5},
        {"type": "x" * 100_000},
        {"surprise": 1},
    ],
    ids=lambda attrs: json.dumps(attrs)[:30],
)
def test_wrong_attrs_are_refused(user: User, calls: dict[str, tuple[Server, str, str, Any]], attrs: Any):
    server, method, path, valid = calls["commit"]
    check_error(server.request(method, path, json={**valid, "attrs": attrs}), 400, 413, 422)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("nested", [b"[" * 15_000, b'{"a":' * 3000, b"[" * 7000 + b"]" * 7000])
def test_deep_nesting_is_refused(calls: dict[str, tuple[Server, str, str, Any]], route: str, nested: bytes):
    server, method, path, _ = calls[route]
    check_error(server.request(method, path, content=nested), *REFUSED)


def test_deep_nesting_where_large_bodies_are_taken_is_refused(user: User, calls: Any):
    server, method, path, _ = calls["store_chunk"]
    check_error(server.request(method, path, content=b"[" * 1_000_000), 400, 413, 422)


def targets(user: User) -> dict[str, tuple[str, str, str | None]]:
    """Method, target and token of one route of each server that reads a body."""
    token = user.begin("upload")["upload_token"]
    meta, block = (server.base.removeprefix(user.store.url) for server in (user.l1, user.block))
    return {
        "auth": ("POST", "/auth", None),
        "l1": ("POST", f"{meta}/files/f/update", user.token),
        "store_chunk": ("POST", f"{block}/store_chunk", token),
        "raw": ("PUT", f"{block}/chunks/c", token),
    }


@pytest.mark.parametrize("server", ["auth", "l1", "store_chunk", "raw"])
def test_a_body_said_to_be_too_large_is_refused_before_it_is_sent(user: User, server: str):
    method, target, token = targets(user)[server]
    headers = {"Content-Length": str(10 * 2**30), "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    answer = exchange(
        user.store.url, target, method=method, headers=headers, body=[b'{"username":"'], seconds=10
    )
    assert answer is not None
    assert answer.status == 413
    check_error_shape(answer.body.decode(), answer.headers["content-type"])


@pytest.mark.parametrize("server", ["auth", "l1", "store_chunk", "raw"])
def test_a_body_of_unsaid_length_is_refused_when_it_grows_too_large(user: User, server: str):
    method, target, token = targets(user)[server]
    headers = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(256):
            sent += 2**20
            yield b"100000\r\n" + b"x" * 2**20 + b"\r\n"

    answer = exchange(user.store.url, target, method=method, headers=headers, body=endless())
    assert answer is not None
    assert answer.status == 413
    check_error_shape(answer.body.decode(), answer.headers["content-type"])
    assert sent < 200 * 2**20, "the answer came only when everything was sent"


@pytest.mark.parametrize("server", ["auth", "l1", "store_chunk"])
def test_a_body_cut_off_halfway_does_nothing(user: User, store: RunningStore, server: str):
    method, target, token = targets(user)[server]
    before = user.listing()
    headers = {"Content-Length": "500", **({"Authorization": f"Bearer {token}"} if token else {})}
    exchange(
        user.store.url, target, method=method, headers=headers, body=[b'{"client_version": 0}'], truncate=True
    )
    assert user.listing() == before
    assert store.front().get("/get_servers").status_code == 200
