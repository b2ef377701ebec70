"""uvicorn's HTTP/1.1 protocol, but for two things.

Bodies are handed on as they were read. uvicorn gathers what has come of a body in a bytearray, and makes bytes of that
again for whoever asks: two copies of each byte, a tenth of what a chunk of 4 MiB costs a block server. Mostly one part
is asked for before the next one has come, and then it can be handed on as it is.

Only what is the opening of a WebSocket (RFC 6455, 4.2.1) is taken for one. Another request that asks for an upgrade is
answered as if it did not, and then the connection ends. The parser takes what is behind the headers of such a request
for another protocol: so one with a body is marked (`CUT`) for the application to refuse, which would see none of it.
"""

import base64
import binascii

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEY_BYTES = 16
CUT = "moorage.cut"  # in a scope


class HttpProtocol(HttpToolsProtocol):
    _deaf = False

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            super().data_received(data)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.parser.should_upgrade() and not self._should_upgrade() and self._has_body():
            self.scope[CUT] = True  # type: ignore[literal-required]

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle.body or cycle.response_complete or self.parser.should_upgrade():
            super().on_body(body)
            return
        # `bytes(cycle.body)`, with which uvicorn takes it up, is then the same object; what comes behind it makes a
        # new one of both.
        cycle.body = body  # type: ignore[assignment]
        if len(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def _should_upgrade(self) -> bool:
        return super()._should_upgrade() and self._opens_websocket()

    def _opens_websocket(self) -> bool:
        # The scope has its method only when all headers are there.
        headers = dict(self.headers)
        return (
            self.parser.get_method() == b"GET"
            and headers.get(b"sec-websocket-version") == b"13"
            and _is_key(headers.get(b"sec-websocket-key", b""))
        )

    def _has_body(self) -> bool:
        headers = dict(self.headers)
        return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"

    def _unsupported_upgrade_warning(self) -> None:
        """Called behind such a request, with its answer still to come."""
        self._deaf = True
        if self.cycle is not None:
            self.cycle.keep_alive = False


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == KEY_BYTES
    except binascii.Error:
        return False
