"""uvicorn's HTTP/1.1 protocol, with bodies handed on as they were read.

uvicorn gathers what has come of a body in a bytearray, and makes bytes of that again for whoever asks: two copies of
each byte, which is a tenth of what a chunk of 4 MiB costs a block server. Mostly one part is asked for before the next
one has come, and then it can be handed on as it is.
"""

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class BodyProtocol(HttpToolsProtocol):
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
