"""HTTP as a careful outsider speaks it: every error answer is kept, so that none escapes the rules for errors."""

import contextlib
import json
import re
import select
import socket
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpx

PATIENCE_SECONDS = 90
PAUSE_SECONDS = 0.2

server_errors: list[str] = []
"""Every answer of status 500 and above that is not 503, of any test: there must be none."""


class Http:
    """One pool of connections; used from several threads."""

    Failure = httpx.TransportError

    def __init__(self) -> None:
        self.error_bodies: list[str] = []
        self._client = self._open()

    def _open(self) -> httpx.Client:
        return httpx.Client(
            timeout=60,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=50),
            event_hooks={"response": [self._note]},
        )

    def _note(self, response: httpx.Response) -> None:
        if response.status_code < 400:
            return
        response.read()
        self.error_bodies.append(response.text)
        if response.status_code >= 500 and response.status_code != 503:
            server_errors.append(
                f"{response.status_code} {response.request.method} {response.url}: {response.text[:500]}"
            )

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self._client.request(method, url, **options)

    def stream(self, url: str, **options: Any) -> contextlib.AbstractContextManager[httpx.Response]:
        return self._client.stream("GET", url, **options)

    def close(self) -> None:
        """The next request opens a new pool."""
        self._client.close()
        self._client = self._open()


class PatientHttp(Http):
    """No answer, or 503, means the same request once more. Counts what was tried again; after `PATIENCE_SECONDS` the
    last answer or error is what it is.
    """

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


class Server:
    """One server under its base URL, asked with one bearer token (or none)."""

    def __init__(self, http: Http, base: str, token: str | None = None) -> None:
        self.http = http
        self.base = base
        self.token = token

    def with_token(self, token: str | None) -> "Server":
        return Server(self.http, self.base, token)

    def request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token is not None else {}
        return self.http.request(method, self.base + path, headers={**bearer, **(headers or {})}, **options)

    def stream(self, path: str) -> contextlib.AbstractContextManager[httpx.Response]:
        """A GET whose body is read by the caller, or not at all."""
        return self.http.stream(self.base + path, headers={"Authorization": f"Bearer {self.token}"})

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PUT", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)


def check_ok(response: httpx.Response) -> dict[str, Any]:
    """The JSON of a 200."""
    assert response.status_code == 200, f"{response.request.method} {response.url}: {response.text[:800]}"
    body: dict[str, Any] = response.json()
    return body


def check_error(response: httpx.Response, *statuses: int, word: str | None = None) -> dict[str, Any]:
    """An error answer in the one shape (PROTOCOL.md, Errors); its JSON."""
    shown = f"{response.request.method} {response.url}: {response.status_code} {response.text[:800]}"
    assert response.status_code in statuses, f"expected {statuses}: {shown}"
    return check_error_shape(response.text, response.headers.get("content-type", ""), word, shown)


def check_error_shape(
    text: str, content_type: str, word: str | None = None, shown: str = ""
) -> dict[str, Any]:
    assert content_type.startswith("application/json"), f"{content_type!r}: {shown}"
    body: dict[str, Any] = json.loads(text)
    for field in ("error", "detail", "request_id"):
        assert isinstance(body.get(field), str), f"`{field}` is missing: {shown}"
        assert body[field], f"`{field}` is empty: {shown}"
    assert re.fullmatch(r"[a-z][a-z0-9_]*", body["error"]), shown
    assert word is None or body["error"] == word, f"expected `{word}`: {shown}"
    for leak in ("Traceback", 'File "', "site-packages"):
        assert leak not in text, shown
    return body


class RawAnswer:
    def __init__(self, received: bytes) -> None:
        head, _, self.body = received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status_line.split()[1])
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        if self.headers.get("transfer-encoding") == "chunked":
            self.body = _unchunked(self.body)


def is_whole(received: bytes) -> bool:
    """Whether a body of said length has arrived; the server may leave the connection open for a while."""
    head, end, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(end and length and len(body) >= int(length[1]))


def _unchunked(data: bytes) -> bytes:
    parts = []
    while data:
        length, _, data = data.partition(b"\r\n")
        size = int(length, 16)
        if size == 0:
            break
        parts.append(data[:size])
        data = data[size + 2 :]
    return b"".join(parts)


def exchange(
    url: str,
    target: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: Iterable[bytes] = (),
    seconds: float = 20,
    truncate: bool = False,
) -> RawAnswer | None:
    """One request exactly as written, byte for byte: nothing is normalised, counted or completed.

    Sends `body` until an answer begins. With `truncate` the connection is closed after the body, whatever
    Content-Length said, and None may come back.
    """
    host = urlsplit(url)
    assert host.hostname is not None
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host.netloc}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    deadline = time.monotonic() + seconds
    with socket.create_connection((host.hostname, host.port or 80), timeout=seconds) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for part in body:
                if select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(part)
        if truncate:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while time.monotonic() < deadline and not is_whole(received) and (part := connection.recv(65536)):
                received += part
    if not received and truncate:
        return None
    assert received, f"no answer to {method} {target}"
    return RawAnswer(received)
