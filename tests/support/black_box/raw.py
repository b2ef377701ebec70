"""One TCP connection, spoken on byte for byte: for what an HTTP library would not send, or would hide."""

import contextlib
import re
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Answer:
    def __init__(self, head: bytes, body: bytes) -> None:
        status_line, *lines = head.decode("latin-1").split("\r\n")
        self.version, status = status_line.split()[:2]
        self.status = int(status)
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        self.body = body


class RawConnection:
    """`with RawConnection(url) as connection:`; requests go out as they are given, answers are read one by one."""

    def __init__(self, url: str, seconds: float = 30) -> None:
        host = urlsplit(url)
        assert host.hostname is not None
        self.host = host.netloc
        self._socket = socket.create_connection((host.hostname, host.port or 80), timeout=seconds)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_for(self, data: bytes, seconds: float) -> None:
        """As `send`; TimeoutError when not all of it was taken in that time."""
        before = self._socket.gettimeout()
        self._socket.settimeout(seconds)
        try:
            self.send(data)
        finally:
            self._socket.settimeout(before)

    def send_head(self, method: str, target: str, headers: Mapping[str, str], version: str = "1.1") -> None:
        lines = [f"{method} {target} HTTP/{version}", f"Host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def read_answer(self, *, to_head: bool = False) -> Answer:
        """The next answer, of said length or up to the end of the connection. AssertionError when there is none."""
        while b"\r\n\r\n" not in self._received:
            assert self._more(), f"the connection ended without an answer: {self._received!r}"
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        answer = Answer(head, b"")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if to_head or answer.status == 304 or answer.status < 200:
            return answer
        if length is None:
            while self._more():
                pass
            answer.body, self._received = self._received, b""
            return answer
        size = int(length[1])
        while len(self._received) < size:
            assert self._more(), f"the connection ended within a body: {len(self._received)} of {size}"
        answer.body, self._received = self._received[:size], self._received[size:]
        return answer

    def is_closed_within(self, seconds: float) -> bool:
        """Whether the other side ends the connection, with nothing more said."""
        deadline = time.monotonic() + seconds
        before = self._socket.gettimeout()
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                with contextlib.suppress(TimeoutError):
                    return not self._more()
            return False
        finally:
            self._socket.settimeout(before)

    def _more(self) -> bool:
        try:
            part = self._socket.recv(1 << 20)
        except ConnectionResetError:
            return False
        self._received += part
        return bool(part)
