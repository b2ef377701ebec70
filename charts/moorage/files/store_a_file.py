"""`helm test`: make a user, log in as she does, store a file, read it back, and take her away again.

usage: store_a_file.py URL ADMIN_TOKEN_FILE. Waits two minutes for the store to answer. Exit code 0: the file came back.
"""

import hashlib
import secrets
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

WAIT_SECONDS = 120


def main(url: str, token_file: str) -> None:
    admin = {"Authorization": f"Bearer {Path(token_file).read_text().strip()}"}
    username, password = f"helm-test-{secrets.token_hex(6)}", secrets.token_urlsafe(24)
    with httpx.Client(timeout=30, trust_env=False) as http:
        wait_for(http, f"{url}/get_servers")
        call(http, "PUT", f"{url}/auth/users/{username}", admin, json={"password": password})
        try:
            login = call(http, "POST", f"{url}/auth", json={"username": username, "password": password})
            store_and_read(http, url, {"Authorization": f"Bearer {login.json()['token']}"})
        finally:
            call(http, "DELETE", f"{url}/auth/users/{username}", admin)
    print(f"a file went to {url} and came back")


def wait_for(http: httpx.Client, url: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            if http.get(url).is_success:
                return
        except httpx.TransportError as error:
            print(f"waiting: {error}")
        if time.monotonic() > deadline:
            sys.exit(f"{url} does not answer")
        time.sleep(1)


def store_and_read(http: httpx.Client, url: str, user: dict[str, str]) -> None:
    servers = call(http, "GET", f"{url}/get_servers", user).json()
    scheme = urlsplit(url).scheme
    meta, block = (f"{scheme}://{servers[kind][0]}" for kind in ("meta_servers", "block_servers"))
    data = secrets.token_bytes(100_000)
    name = f"sha256_{hashlib.sha256(data).hexdigest()}"
    begin = {"client_version": 0, "parent_dir_id": "root", "name": "helm-test.bin"}
    begin["chunks"] = [{"chunk_id": name, "hash": name, "size": len(data)}]
    upload = call(http, "POST", f"{meta}/files/helm-test/update", user, json=begin).json()["upload_token"]
    call(http, "PUT", f"{block}/chunks/{name}", {"Authorization": f"Bearer {upload}"}, content=data)
    commit = {"upload_token": upload, "new_version": 1}
    call(http, "POST", f"{meta}/files/helm-test/commit", user, json=commit)
    came_back = call(http, "GET", f"{block}/files/helm-test/content", user).content
    if came_back != data:
        sys.exit("the file that came back is another one")


def call(
    http: httpx.Client, method: str, url: str, headers: dict[str, str] | None = None, **body: object
) -> httpx.Response:
    """503 and no answer mean: the same request once more. So does an answer without a request id: it is not the
    store's, but of something on the way, which may be a network that does not know a new Service yet.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        said = "no answer"
        try:
            response = http.request(method, url, headers=headers, **body)  # type: ignore[arg-type]
            if response.is_success:
                return response
            said = f"{response.status_code} {response.text[:500]}"
            again = response.status_code == 503 or "x-request-id" not in response.headers
        except httpx.TransportError:
            again = True
        if not again or time.monotonic() > deadline:
            sys.exit(f"{method} {url}: {said}")
        time.sleep(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
