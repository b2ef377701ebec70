"""Clients that do what the protocol tells them: no answer, or 503, means the same request once more."""

import secrets
import threading
import time
from typing import Any

import httpx
from black_box.http_client import Http
from black_box.store import Store
from black_box.user import User, new_user

PATIENCE_SECONDS = 90
PAUSE_SECONDS = 0.2


class PatientHttp(Http):
    """Counts what was tried again; after `PATIENCE_SECONDS` the last answer or error is what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.tried_again = 0

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                response = super().request(method, url, **options)
                if response.status_code != 503 or time.monotonic() > deadline:
                    return response
            except self.Failure:
                if time.monotonic() > deadline:
                    raise
            self.tried_again += 1
            time.sleep(PAUSE_SECONDS)


class Load:
    """Users who save files and read them back until `stop`; each acknowledged file is remembered."""

    def __init__(self, store: Store, users: int = 3) -> None:
        self._users = [new_user(store, "load") for _ in range(users)]
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(user,), daemon=True) for user in self._users
        ]
        self.failures: list[str] = []
        self.saved: list[tuple[User, str, bytes]] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS * 2)
            assert not thread.is_alive(), "a client hangs"

    def _work(self, user: User) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            data, file_id = secrets.token_bytes(20_000), f"file-{number}"
            try:
                user.save(file_id, [data], parent_dir_id="root", name=f"{number}.bin")
                self.saved.append((user, file_id, data))
                assert user.read(file_id) == data, f"{file_id} came back changed"
            except (AssertionError, httpx.HTTPError) as error:
                self.failures.append(f"{user.username} {file_id}: {type(error).__name__} {error}")
