"""Store a folder in Moorage through the batch calls, read it back and compare every byte.

    MOORAGE_PASSWORD=… python examples/store_tree.py --url http://127.0.0.1:8080 --user alice FOLDER [--into NAME]

Shows what a client of its own has to do: directories by id, files in batches of up to 1,000 that share one upload
token, only those chunks sent that the server asks for, small ones many to a call and large ones raw. What was stored
before is found again by its id: a second run makes a next version of each file and sends the chunks that changed.
"""

import argparse
import base64
import getpass
import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import httpx

CHUNK_BYTES = 4 * 1024 * 1024
SMALL_BYTES = 256 * 1024  # up to here chunks travel many to a call
CALL_BYTES = 4 * 1024 * 1024  # of small chunks in one call
BATCH_FILES = 1000
PARALLEL = 8


def id_of(path: PurePosixPath) -> str:
    """The same path has the same id in every run."""
    return "n_" + hashlib.sha256(str(path).encode()).hexdigest()[:40]


def hash_of(data: bytes) -> str:
    return "sha256_" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class LocalFile:
    source: Path
    path: PurePosixPath  # below the root of the store
    chunks: tuple[tuple[str, int], ...]  # hash and size, in file order

    @property
    def manifest(self) -> list[dict[str, Any]]:
        return [{"chunk_id": name, "hash": name, "size": size} for name, size in self.chunks]


def read_chunks(source: Path) -> Iterator[bytes]:
    with source.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            yield data


def scan(folder: Path, into: str) -> list[LocalFile]:
    """Every regular file below the folder, hashed; links and what cannot be read are left out."""
    files = []
    for source in sorted(folder.rglob("*")):
        if source.is_file() and not source.is_symlink():
            chunks = tuple((hash_of(data), len(data)) for data in read_chunks(source))
            files.append(
                LocalFile(source, PurePosixPath(into) / source.relative_to(folder).as_posix(), chunks)
            )
    return files


class Store:
    """A session with the servers that `GET /get_servers` names."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self.http = httpx.Client(timeout=60)
        self.url = url
        self.login = self.answer("POST", f"{url}/auth", json={"username": username, "password": password})
        servers = self.answer("GET", f"{url}/get_servers", headers=self.headers)
        scheme = url.partition("://")[0]
        self.meta = f"{scheme}://{servers['meta_servers'][0]}"
        self.block = f"{scheme}://{servers['block_servers'][0]}"

    @property
    def headers(self) -> dict[str, str]:
        """An access token is short-lived: it is renewed a while before it ends."""
        left = datetime.fromisoformat(self.login["expires_at"]) - datetime.now(UTC)
        if left < timedelta(minutes=2):
            body = {"refresh_token": self.login["refresh_token"]}
            self.login = self.answer("POST", f"{self.url}/auth/refresh", json=body)
        return {"Authorization": f"Bearer {self.login['token']}"}

    def answer(self, method: str, url: str, **options: Any) -> Any:
        """The JSON of an answer. 503 means that nothing was acknowledged: the same request may be sent again."""
        for wait in (0.2, 1, 5, None):
            response = self.http.request(method, url, **options)
            if response.status_code != 503 or wait is None:
                break
            time.sleep(wait)
        if response.status_code != 200:
            raise SystemExit(f"{method} {url}: {response.status_code} {response.text}")
        return response.json()

    def ask(self, method: str, path: str, body: object) -> Any:
        return self.answer(method, self.meta + path, json=body, headers=self.headers)

    def make_directory(self, path: PurePosixPath) -> None:
        body = {"path": f"/{path.name}", "parent_dir_id": parent_id(path)}
        self.ask("PUT", f"/create_directory/{id_of(path)}", body)

    def send_small(self, upload_token: str, chunks: list[tuple[str, bytes]]) -> None:
        body = [
            {"chunk_id": name, "metadata": {"hash": name}, "data": base64.b64encode(data).decode()}
            for name, data in chunks
        ]
        headers = {"Authorization": f"Bearer {upload_token}"}
        self.answer("POST", f"{self.block}/store_chunk", json=body, headers=headers)

    def send_large(self, upload_token: str, name: str, data: bytes) -> None:
        headers = {"Authorization": f"Bearer {upload_token}"}
        self.answer("PUT", f"{self.block}/chunks/{name}", content=data, headers=headers)

    def versions(self, path: PurePosixPath) -> dict[str, int]:
        """The files of a directory: id and version."""
        listing = self.answer("GET", f"{self.meta}/list_directory/{id_of(path)}", headers=self.headers)
        return {file["id"]: file["version"] for file in listing["files"]}

    def digest(self, file_id: str) -> bytes:
        """SHA-256 of a whole file as it is streamed back."""
        url = f"{self.block}/files/{file_id}/content"
        for wait in (0.2, 1, 5, None):
            with self.http.stream("GET", url, headers=self.headers) as response:
                if response.status_code == 200:
                    digest = hashlib.sha256()
                    for part in response.iter_raw():
                        digest.update(part)
                    return digest.digest()
                if response.status_code != 503 or wait is None:
                    break
            time.sleep(wait)
        raise SystemExit(f"GET {url}: {response.status_code}")


def parent_id(path: PurePosixPath) -> str:
    return id_of(path.parent) if path.parent.name else "root"


def batches(files: list[LocalFile]) -> Iterator[list[LocalFile]]:
    for first in range(0, len(files), BATCH_FILES):
        yield files[first : first + BATCH_FILES]


def wanted_chunks(files: Iterable[LocalFile], required: set[str]) -> Iterator[tuple[str, bytes]]:
    """The bytes of each required chunk, once."""
    left = set(required)
    for file in files:
        if left.isdisjoint(name for name, _ in file.chunks):
            continue
        for (name, _), data in zip(file.chunks, read_chunks(file.source), strict=True):
            if name in left:
                left.discard(name)
                yield name, data


def store_batch(store: Store, files: list[LocalFile], versions: dict[str, int]) -> int:
    """One upload for all of these files; the number of chunks that had to be sent."""
    updates: list[dict[str, Any]] = [
        {
            "file_id": id_of(file.path),
            "client_version": versions.get(id_of(file.path), 0),
            "parent_dir_id": parent_id(file.path),
            "name": file.path.name,
            "chunks": file.manifest,
        }
        for file in files
    ]
    begun = store.ask("POST", "/files:batch_update", {"files": updates})
    refused = [each for each in begun["files"] if each["status"] != "proceed"]
    if refused:
        raise SystemExit(f"{len(refused)} files were refused, the first: {refused[0]}")
    token, required = begun["upload_token"], set(begun["required_chunks"])
    with ThreadPoolExecutor(PARALLEL) as pool:
        sent, call, call_bytes = [], [], 0
        for name, data in wanted_chunks(files, required):
            if len(data) > SMALL_BYTES:
                sent.append(pool.submit(store.send_large, token, name, data))
                continue
            call.append((name, data))
            call_bytes += len(data)
            if call_bytes >= CALL_BYTES:
                sent.append(pool.submit(store.send_small, token, call))
                call, call_bytes = [], 0
        if call:
            sent.append(pool.submit(store.send_small, token, call))
        for each in sent:
            each.result()
    commits = [
        {
            "file_id": update["file_id"],
            "new_version": update["client_version"] + 1,
            "chunks": [name for name, _ in file.chunks],
            "attrs": {"mode": file.source.stat().st_mode & 0o7777},
        }
        for file, update in zip(files, updates, strict=True)
    ]
    done = store.ask("POST", "/files:batch_commit", {"upload_token": token, "files": commits})
    failed = [each for each in done["files"] if each.get("status") != "committed"]
    if failed:
        raise SystemExit(f"{len(failed)} files were not committed, the first: {failed[0]}")
    return len(required)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Store a folder in Moorage, read it back, compare every byte."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--user", required=True)
    parser.add_argument("--into", help="name of the directory in the store (default: the folder's)")
    arguments = parser.parse_args()
    password = os.environ.get("MOORAGE_PASSWORD") or getpass.getpass()
    folder = arguments.folder.resolve()

    files = scan(folder, arguments.into or folder.name)
    size = sum(length for file in files for _, length in file.chunks)
    print(f"{len(files)} files, {size / 1e6:.1f} MB in {folder}")
    store = Store(arguments.url, arguments.user, password)

    began = time.monotonic()
    directories = {parent for file in files for parent in file.path.parents if parent.name}
    versions: dict[str, int] = {}
    for path in sorted(directories, key=lambda path: len(path.parts)):
        store.make_directory(path)
    with ThreadPoolExecutor(PARALLEL) as pool:
        for found in pool.map(store.versions, sorted(directories)):
            versions |= found
    sent = sum(store_batch(store, batch, versions) for batch in batches(files))
    took = time.monotonic() - began
    print(f"stored in {took:.1f} s ({len(files) / took:.0f} files/s), {sent} chunks sent")

    began = time.monotonic()
    with ThreadPoolExecutor(PARALLEL) as pool:
        digests = pool.map(store.digest, [id_of(file.path) for file in files])
        different = [
            file.path
            for file, digest in zip(files, digests, strict=True)
            if digest != hashlib.sha256(file.source.read_bytes()).digest()
        ]
    took = time.monotonic() - began
    print(f"read back in {took:.1f} s ({len(files) / took:.0f} files/s)")
    if different:
        sys.exit(f"{len(different)} files differ, the first: {different[0]}")
    print("every byte is the same")


if __name__ == "__main__":
    main()
