"""A client written from the unmarked part of PROTOCOL.md alone. It knows no addition and sends none."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import httpx


class ConflictError(Exception):
    def __init__(self, server_version: int) -> None:
        super().__init__(f"the server has version {server_version}")
        self.server_version = server_version


class PlainClient:
    """Names its chunks as it likes, the same names in every file and version; sends no header but its token."""

    def __init__(self, url: str, username: str, password: str, *, store_with: str = "upload token") -> None:
        self.scheme, _, host = url.partition("://")
        self.http = httpx.Client(timeout=30, trust_env=False)
        login = self._post(host, "/auth", {"username": username, "password": password}, None)
        self.token: str = login["token"]
        self.store_with = store_with
        servers = self._answer(self.http.get(f"{url}/get_servers"))
        self.meta = next(name for name in servers["meta_servers"] if login["server_key"] in name.split("/"))
        self.block = servers["block_servers"][0]

    def close(self) -> None:
        self.http.close()

    def make_directory(self, dir_id: str, path: str, parent: str) -> None:
        url = f"{self.scheme}://{self.meta}/create_directory/{dir_id}"
        body = {"path": path, "parent_dir_id": parent}
        self._answer(self.http.put(url, json=body, headers=self._bearer(self.token)))

    def list_directory(self, dir_id: str) -> tuple[dict[str, str], dict[str, str]]:
        """Directories and files as {name: id}."""
        answer = self._get(self.meta, f"/list_directory/{dir_id}")
        directories, files = (
            {each["name"]: each["id"] for each in answer[kind]} for kind in ("directories", "files")
        )
        return directories, files

    def begin(self, file_id: str, base: int) -> tuple[list[str], str]:
        """The upload token, and the chunks that the server wants."""
        answer = self._post(self.meta, f"/files/{file_id}/update", {"client_version": base}, self.token)
        assert answer["status"] == "proceed"
        return answer["required_chunks"], answer["upload_token"]

    def store(self, upload_token: str, chunks: Mapping[str, bytes]) -> None:
        body = [
            {
                "chunk_id": name,
                "metadata": {"hash": "sha256_" + hashlib.sha256(data).hexdigest()},
                "data": base64.b64encode(data).decode(),
            }
            for name, data in chunks.items()
        ]
        bearer = upload_token if self.store_with == "upload token" else self.token
        self._post(self.block, "/store_chunk", body, bearer)

    def commit(self, file_id: str, upload_token: str, new_version: int) -> None:
        body = {"upload_token": upload_token, "new_version": new_version}
        self._post(self.meta, f"/files/{file_id}/commit", body, self.token)

    def write(self, file_id: str, base: int, chunks: Mapping[str, bytes]) -> int:
        """One update with these chunks, those that differ or all of them; the new version."""
        _, upload_token = self.begin(file_id, base)
        self.store(upload_token, chunks)
        self.commit(file_id, upload_token, base + 1)
        return base + 1

    def version(self, file_id: str) -> int:
        version: int = self._get(self.meta, f"/files/{file_id}/metadata")["version"]
        return version

    def chunk_list(self, file_id: str) -> list[dict[str, str]]:
        metadata = self._get(self.meta, f"/files/{file_id}/metadata")
        chunks: list[dict[str, str]] = self._get(metadata["l2_metadata_server"], f"/files/{file_id}/chunks")[
            "chunks"
        ]
        return chunks

    def download(self, chunk: dict[str, str]) -> bytes:
        """One chunk of a listing, checked against what the server says of it."""
        answer = self._get(chunk["block_server"], f"/download_chunk/{chunk['chunk_id']}")
        data = base64.b64decode(answer["data"], validate=True)
        assert answer["metadata"]["size"] == len(data)
        assert answer["metadata"]["hash"] == "sha256_" + hashlib.sha256(data).hexdigest()
        return data

    def read(self, file_id: str) -> bytes:
        return b"".join(map(self.download, self.chunk_list(file_id)))

    def _get(self, server: str, path: str) -> Any:
        return self._answer(
            self.http.get(f"{self.scheme}://{server}{path}", headers=self._bearer(self.token))
        )

    def _post(self, server: str, path: str, body: Any, token: str | None) -> Any:
        headers = self._bearer(token) if token else {}
        return self._answer(self.http.post(f"{self.scheme}://{server}{path}", json=body, headers=headers))

    @staticmethod
    def _bearer(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        if response.status_code == 409 and response.json().get("status") == "conflict":
            raise ConflictError(response.json()["server_version"])
        assert response.status_code == 200, f"{response.request.method} {response.url}: {response.text[:500]}"
        return response.json()
