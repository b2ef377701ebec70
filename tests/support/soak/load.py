"""Writers that own their files: each knows what must be there, and asks until it is told for good."""

import base64
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from black_box.http_client import Server
from black_box.user import User, entry, hash_of

FILES = 6
PATIENCE = 120.0  # seconds that one request is asked again
Answer = httpx.Response | None


class LostError(AssertionError):
    """What was acknowledged is not there, or what was refused is."""


@dataclass
class Owned:
    """A file as its writer knows it: `parts` of its newest version; None while it is deleted."""

    id: str
    version: int = 0
    parts: list[bytes] | None = None
    known: bool = True  # False: the last request on it had no final answer


@dataclass
class Writer:
    user: User
    name: str
    rng: random.Random
    files: list[Owned] = field(default_factory=list)
    acknowledged: int = 0
    tried_again: int = 0
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.files = [Owned(f"{self.name}-{number}") for number in range(FILES)]

    def run(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                self._step(self.rng.choice(self.files))
        except BaseException as error:  # told by the main thread
            self.failure = error

    def _step(self, file: Owned) -> None:
        if not file.known:
            self._learn(file)
        elif file.parts is None and file.version and self.rng.random() < 0.5:
            self._undelete(file)
        elif file.parts is not None and self.rng.random() < 0.15:
            self._delete(file)
        elif file.parts is not None and self.rng.random() < 0.3:
            self.check(file)
        elif file.parts is not None or not file.version:
            self._save(file)

    def _save(self, file: Owned) -> None:
        parts = [self.rng.randbytes(self.rng.choice([10, 500, 5_000, 300_000])) for _ in range(3)]
        if file.parts and self.rng.random() < 0.5:
            parts[0] = file.parts[0]  # some chunks stay
        body = {"client_version": file.version, "chunks": [entry(part) for part in parts]}
        answer = self._ask("POST", "l1", f"/files/{file.id}/update", body)
        if not self._is(answer, 200, file):
            return
        begun = answer.json()  # type: ignore[union-attr]
        wanted = set(begun["required_chunks"])
        chunks = [
            {"chunk_id": hash_of(part), "metadata": {"hash": hash_of(part)}, "data": _encode(part)}
            for part in parts
            if hash_of(part) in wanted
        ]
        if chunks:
            stored = self._ask("POST", "block", "/store_chunk", chunks, token=begun["upload_token"])
            if not self._is(stored, 200, file):
                return
        commit = {
            "upload_token": begun["upload_token"],
            "new_version": file.version + 1,
            "chunks": [hash_of(part) for part in parts],
        }
        answer = self._ask("POST", "l1", f"/files/{file.id}/commit", commit)
        if self._is(answer, 200, file):
            file.version, file.parts = file.version + 1, parts
            self.acknowledged += 1

    def _delete(self, file: Owned) -> None:
        answer = self._ask("DELETE", "l1", f"/delete_file/{file.id}", {"client_version": file.version})
        if self._is(answer, 200, file):
            file.version, file.parts = answer.json()["server_version"], None  # type: ignore[union-attr]
            self.acknowledged += 1
            self.check(file)

    def _undelete(self, file: Owned) -> None:
        before = file.version
        answer = self._ask("POST", "l1", f"/undelete/{file.id}", {})
        if self._is(answer, 200, file):
            self.acknowledged += 1
            self._learn(file)
            if file.version != before + 1:
                raise LostError(f"{file.id}: undeleted at version {file.version}, deleted at {before}")

    def _learn(self, file: Owned) -> None:
        """What came of a request without a final answer: nothing, or all of it."""
        answer = self._ask("GET", "l1", f"/files/{file.id}/metadata")
        if answer is None:
            return
        if answer.status_code == 200:
            version = answer.json()["version"]
            if version < file.version:
                raise LostError(f"{file.id}: version {version}, {file.version} was acknowledged")
            content = self._ask("GET", "block", f"/files/{file.id}/content")
            if content is None or content.status_code != 200:
                return
            file.version, file.parts, file.known = version, [content.content], True
        elif answer.status_code in {404, 410}:
            if answer.status_code == 404 and file.version:
                raise LostError(f"{file.id}: not found, version {file.version} was acknowledged")
            self.files[self.files.index(file)] = Owned(f"{file.id}x")  # begun anew under another id

    def check(self, file: Owned) -> None:
        """Read it back."""
        answer = self._ask("GET", "block", f"/files/{file.id}/content")
        if answer is None:
            return
        if file.parts is None:
            if answer.status_code not in {404, 410}:
                raise LostError(f"{file.id}: deleted, and read with {answer.status_code}")
        elif answer.status_code != 200 or answer.content != b"".join(file.parts):
            raise LostError(
                f"{file.id} version {file.version}: {answer.status_code}, {len(answer.content)} bytes"
            )

    def check_all(self) -> None:
        for file in self.files:
            if not file.known:
                self._learn(file)
            elif file.version:
                self.check(file)

    def _is(self, answer: Answer, status: int, file: Owned) -> bool:
        """Whether it was answered with this status. 410 for an upload: a late try of the same /update replaced it."""
        if answer is None:
            file.known = False
            return False
        if answer.status_code == status:
            return True
        if answer.status_code == 410 and answer.json()["error"] == "upload_ended":
            file.known = False
            return False
        raise LostError(
            f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
        )

    def _ask(
        self, method: str, name: str, path: str, body: Any = None, *, token: str | None = None
    ) -> Answer:
        """Asked again until there is a final answer; None after `PATIENCE`. `name`: of the user's servers."""
        deadline = time.monotonic() + PATIENCE
        options = {} if body is None else {"json": body}
        while time.monotonic() < deadline:
            server: Server = getattr(self.user, name)
            if token is not None:
                server = server.with_token(token)
            try:
                answer = server.request(method, path, **options)
                if answer.status_code == 401 and token is None:
                    self.user.log_in()
            except (httpx.TransportError, AssertionError):  # of the login: nobody answered that either
                self.tried_again += 1
            else:
                if answer.status_code not in {401, 429, 502, 503, 504}:
                    return answer
                self.tried_again += 1
            time.sleep(self.rng.uniform(0.05, 0.3))
        return None


def _encode(part: bytes) -> str:
    return base64.b64encode(part).decode()
