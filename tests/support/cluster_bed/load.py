"""Clients at work while things break, who do what the protocol tells them: the same request once more."""

import secrets
import threading

import httpx
from black_box.http_client import PATIENCE_SECONDS
from black_box.store import Store
from black_box.user import User, new_user


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
