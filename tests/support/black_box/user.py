"""A logged-in user who speaks all of PROTOCOL.md, and nothing else."""

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from black_box.http_client import Server, check_ok
from black_box.store import Store


def hash_of(data: bytes) -> str:
    return f"sha256_{hashlib.sha256(data).hexdigest()}"


def entry(data: bytes, chunk_id: str | None = None) -> dict[str, Any]:
    """One entry of a manifest to be; named by its hash unless a name is given."""
    return {"chunk_id": chunk_id or hash_of(data), "hash": hash_of(data), "size": len(data)}


def stored_form(chunk_id: str, data: bytes, /, **changes: Any) -> dict[str, Any]:
    """One entry of `POST /store_chunk`."""
    return {
        "chunk_id": chunk_id,
        "metadata": {"hash": hash_of(data)},
        "data": base64.b64encode(data).decode(),
        **changes,
    }


class User:
    def __init__(self, store: Store, username: str, password: str) -> None:
        self.store = store
        self.username = username
        self.password = password
        self.log_in()

    def log_in(self) -> None:
        answer = check_ok(
            self.store.front().post("/auth", json={"username": self.username, "password": self.password})
        )
        self.token: str = answer["token"]
        self.refresh_token: str = answer["refresh_token"]
        self.user_id: str = answer["user_id"]
        self.root: str = answer["root_dir_id"]
        self.server_key: str = answer["server_key"]
        servers = check_ok(self.store.front(self.token).get("/get_servers"))
        meta, block = servers["meta_servers"][0], servers["block_servers"][0]
        self.l1 = self.server(meta)
        self.l2 = self.server(f"{meta}/l2")
        self.l3 = self.server(f"{meta}/l3")
        self.block = self.server(block)
        self.notify = self.server(servers["notification_servers"][0])

    def server(self, name: str) -> Server:
        """A server by its name in an answer."""
        return Server(self.store.http, f"http://{name}", self.token)

    def make_directory(self, dir_id: str, path: str, parent: str = "root") -> str:
        body = {"path": path, "parent_dir_id": parent}
        check_ok(self.l1.put(f"/create_directory/{dir_id}", json=body))
        return dir_id

    def listing(self, dir_id: str = "root") -> dict[str, dict[str, Any]]:
        """Both kinds of entries by name, from the one answer that a client without paging gets."""
        answer = check_ok(self.l1.get(f"/list_directory/{dir_id}"))
        return {each["name"]: each for each in [*answer["directories"], *answer["files"]]}

    def node(self, node_id: str) -> dict[str, Any]:
        return check_ok(self.l1.get(f"/nodes/{node_id}"))

    def begin(self, file_id: str, base: int = 0, **more: Any) -> dict[str, Any]:
        return check_ok(self.l1.post(f"/files/{file_id}/update", json={"client_version": base, **more}))

    def store_chunks(self, upload_token: str, chunks: Mapping[str, bytes]) -> dict[str, Any]:
        body = [stored_form(name, data) for name, data in chunks.items()]
        return check_ok(self.block.with_token(upload_token).post("/store_chunk", json=body))

    def commit(self, file_id: str, upload_token: str, new_version: int, **more: Any) -> httpx.Response:
        body = {"upload_token": upload_token, "new_version": new_version, **more}
        return self.l1.post(f"/files/{file_id}/commit", json=body)

    def save(
        self, file_id: str, parts: Sequence[bytes], base: int = 0, attrs: Any = None, **place: Any
    ) -> int:
        """A whole update in the long form; the new version."""
        begun = self.begin(file_id, base, chunks=[entry(part) for part in parts], **place)
        required = set(begun["required_chunks"])
        chunks = {hash_of(part): part for part in parts if hash_of(part) in required}
        if chunks:
            self.store_chunks(begun["upload_token"], chunks)
        more = {"attrs": attrs} if attrs is not None else {}
        named = [hash_of(part) for part in parts]
        answer = check_ok(self.commit(file_id, begun["upload_token"], base + 1, chunks=named, **more))
        assert answer["version"] == base + 1
        return base + 1

    def metadata(self, file_id: str, **query: Any) -> dict[str, Any]:
        return check_ok(self.l1.get(f"/files/{file_id}/metadata", params=query))

    def chunks(self, file_id: str, **query: Any) -> list[dict[str, Any]]:
        chunks: list[dict[str, Any]] = check_ok(self.l2.get(f"/files/{file_id}/chunks", params=query))[
            "chunks"
        ]
        return chunks

    def read(self, file_id: str) -> bytes:
        response = self.block.get(f"/files/{file_id}/content")
        assert response.status_code == 200, response.text
        return response.content

    def read_version(self, file_id: str, version: int) -> bytes:
        """A kept version, chunk by chunk."""
        parts = []
        for chunk in self.chunks(file_id, version=version):
            response = self.server(chunk["block_server"]).get(f"/chunks/{chunk['hash']}")
            assert response.status_code == 200, response.text
            parts.append(response.content)
        return b"".join(parts)


def new_user(store: Store, prefix: str = "user", **placement: Any) -> User:
    """A user of her own for one test: made by the admin, logged in."""
    username = f"{prefix}-{secrets.token_hex(4)}"
    password = f"pw-{secrets.token_urlsafe(12)}"
    body = {"password": password, **placement}
    response = store.admin().put(f"/auth/users/{username}", json=body)
    assert response.is_success, response.text
    return User(store, username, password)
