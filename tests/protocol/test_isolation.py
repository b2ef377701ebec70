"""What belongs to another user answers exactly as what never was: same status, same body, on every route."""

import secrets
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from black_box.http_client import check_error
from black_box.store import RunningStore
from black_box.user import User, hash_of, new_user, stored_form

SECRET = b"the owner's secret bytes"


@pytest.fixture(scope="module")
def user(store: RunningStore) -> User:
    """Who asks. Nothing that is asked here changes anything."""
    asking = new_user(store)
    asking.save("own", [b"my own"])
    return asking


@pytest.fixture(scope="module")
def owner(store: RunningStore) -> User:
    stranger = new_user(store, "stranger")
    stranger.make_directory("dir", "/private")
    stranger.save("file", [SECRET], parent_dir_id="dir", name="diary.txt")
    stranger.save("file", [SECRET, b" and more"], base=1)
    upload = stranger.begin("file", 2)["upload_token"]
    stranger.store_chunks(upload, {"named-chunk": b"named bytes"})
    assert stranger.commit("file", upload, 3, chunks=["named-chunk", hash_of(SECRET)]).status_code == 200
    return stranger


ASKING: dict[str, tuple[str, Callable[[User, str], httpx.Response]]] = {
    "list_directory": ("dir", lambda me, id_: me.l1.get(f"/list_directory/{id_}")),
    "list the root": ("root", lambda me, id_: me.l1.get(f"/list_directory/{id_}")),
    "node, directory": ("dir", lambda me, id_: me.l1.get(f"/nodes/{id_}")),
    "node, file": ("file", lambda me, id_: me.l1.get(f"/nodes/{id_}")),
    "node, root": ("root", lambda me, id_: me.l1.get(f"/nodes/{id_}")),
    "node, root by username": ("name", lambda me, id_: me.l1.get(f"/nodes/{id_}")),
    "create a directory below": (
        "dir",
        lambda me, id_: me.l1.put("/create_directory/mine", json={"path": "/x", "parent_dir_id": id_}),
    ),
    "create a directory below the root": (
        "root",
        lambda me, id_: me.l1.put("/create_directory/mine", json={"path": "/x", "parent_dir_id": id_}),
    ),
    "create a file below": (
        "dir",
        lambda me, id_: me.l1.put("/create_file/mine", json={"parent_dir_id": id_, "name": "x"}),
    ),
    "update below": (
        "dir",
        lambda me, id_: me.l1.post(
            "/files/mine/update", json={"client_version": 0, "parent_dir_id": id_, "name": "x"}
        ),
    ),
    "move": ("file", lambda me, id_: me.l1.post(f"/move/{id_}", json={"parent_dir_id": "root", "name": "x"})),
    "move a directory": (
        "dir",
        lambda me, id_: me.l1.post(f"/move/{id_}", json={"parent_dir_id": "root", "name": "x"}),
    ),
    "move to": ("dir", lambda me, id_: me.l1.post("/move/own", json={"parent_dir_id": id_, "name": "x"})),
    "metadata": ("file", lambda me, id_: me.l1.get(f"/files/{id_}/metadata")),
    "metadata of a version": ("file", lambda me, id_: me.l1.get(f"/files/{id_}/metadata?version=1")),
    "versions": ("file", lambda me, id_: me.l1.get(f"/files/{id_}/versions")),
    "restore": (
        "file",
        lambda me, id_: me.l1.post(f"/files/{id_}/restore", json={"version": 1, "client_version": 3}),
    ),
    "update": ("file", lambda me, id_: me.l1.post(f"/files/{id_}/update", json={"client_version": 3})),
    "delete": ("file", lambda me, id_: me.l1.delete(f"/delete_file/{id_}", json={"client_version": 3})),
    "delete a directory": (
        "dir",
        lambda me, id_: me.l1.delete(f"/delete_directory/{id_}", json={"recursive": True}),
    ),
    "undelete": ("file", lambda me, id_: me.l1.post(f"/undelete/{id_}")),
    "chunks": ("file", lambda me, id_: me.l2.get(f"/files/{id_}/chunks")),
    "chunks of a version": ("file", lambda me, id_: me.l2.get(f"/files/{id_}/chunks?version=1")),
    "content": ("file", lambda me, id_: me.block.get(f"/files/{id_}/content")),
    "chunk metadata by name": ("chunk", lambda me, id_: me.l3.get(f"/chunks/{id_}/metadata")),
    "chunk metadata by hash": ("hash", lambda me, id_: me.l3.get(f"/chunks/{id_}/metadata")),
    "chunk by name": ("chunk", lambda me, id_: me.block.get(f"/chunks/{id_}")),
    "chunk by hash": ("hash", lambda me, id_: me.block.get(f"/chunks/{id_}")),
    "chunk with a range": (
        "hash",
        lambda me, id_: me.block.get(f"/chunks/{id_}", headers={"Range": "bytes=0-3"}),
    ),
    "download by name": ("chunk", lambda me, id_: me.block.get(f"/download_chunk/{id_}")),
    "download by hash": ("hash", lambda me, id_: me.block.get(f"/download_chunk/{id_}")),
}


def told(response: httpx.Response, asked: str) -> tuple[int, dict[str, Any], set[str]]:
    """All that an answer says, but for its request id, its time and the id that was asked for."""
    body = {name: value for name, value in response.json().items() if name != "request_id"}
    shown = {
        name: value.replace(asked, "ID").replace(asked.removeprefix("root:"), "ID")
        if isinstance(value, str)
        else value
        for name, value in body.items()
    }
    return response.status_code, shown, set(response.headers)


@pytest.mark.parametrize("question", ASKING)
def test_another_users_id_answers_as_an_unknown_one(user: User, owner: User, question: str):
    kind, ask = ASKING[question]
    theirs = {
        "dir": "dir",
        "file": "file",
        "root": owner.root,
        "name": f"root:{owner.username}",
        "chunk": "named-chunk",
        "hash": hash_of(SECRET),
    }[kind]
    unknown = {
        "root": "root:" + secrets.token_hex(len(owner.user_id) // 2),
        "name": f"root:nobody-{secrets.token_hex(4)}",
        "hash": hash_of(secrets.token_bytes(8)),
    }.get(kind, f"no-such-{secrets.token_hex(4)}")
    answer = ask(user, theirs)
    check_error(answer, 404)
    assert told(answer, theirs) == told(ask(user, unknown), unknown)
    assert list(user.listing()) == ["own"]
    assert owner.read("file") == b"named bytes" + SECRET


def test_another_users_upload_is_no_upload(user: User, owner: User):
    token = owner.begin("file", 3)["upload_token"]
    own = user.begin("mine")["upload_token"]
    answers = []
    for upload in (token, own[:-4] + "AAAA"):
        answers.append(
            user.block.post("/store_chunk", json=[stored_form("c", b"x")], headers={"X-Upload-Token": upload})
        )
        answers.append(user.commit("file", upload, 4, chunks=[]))
    for answer in answers:
        check_error(answer, 401, 403, 404)
    assert owner.metadata("file")["version"] == 3


def test_what_others_hold_shows_in_no_required_chunks_and_no_error(user: User, owner: User):
    manifest = [{"hash": hash_of(SECRET), "size": len(SECRET)}]
    begun = user.begin("guess", chunks=manifest)
    assert begun["required_chunks"] == [hash_of(SECRET)]
    missing = check_error(user.commit("guess", begun["upload_token"], 1, chunks=[hash_of(SECRET)]), 409)
    assert missing["error"] == "missing_chunks"
    assert list(user.listing()) == ["own"]
