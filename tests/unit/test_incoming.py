"""Letting the rest of a body pass: bounded in bytes and in time, and never waited for where none comes."""

import asyncio

import pytest

from moorage_nodes import incoming
from moorage_nodes.incoming import Incoming


class Sender:
    """Gives `parts` bodies of `size` bytes, then stays silent; counts what was taken."""

    def __init__(self, parts: int, size: int, *, ends: bool = True) -> None:
        self.left, self.size, self.ends, self.taken = parts, size, ends, 0

    async def __call__(self):
        if not self.left:
            await asyncio.Event().wait()
        self.left -= 1
        self.taken += 1
        return {
            "type": "http.request",
            "body": bytes(self.size),
            "more_body": bool(self.left) or not self.ends,
        }


def request(sender: Sender, **headers: str) -> Incoming:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Incoming({"type": "http", "headers": pairs}, sender)


async def test_what_is_left_is_taken_to_its_end():
    sender = Sender(5, 10)
    body = request(sender, content_length="50")
    await body()
    await body.let_pass()
    assert sender.taken == 5


async def test_a_body_that_has_been_read_is_not_waited_for():
    sender = Sender(1, 10)
    body = request(sender, content_length="10")
    await body()
    await body.let_pass()
    assert sender.taken == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content_length": "0"},
        {"content_length": str(incoming.MOST_BYTES + 1)},
        {"content_length": "9" * 40},
        {"content_length": "10", "expect": "100-continue"},
    ],
)
async def test_where_no_body_is_to_be_had_none_is_waited_for(headers):
    sender = Sender(3, 10)
    await request(sender, **headers).let_pass()
    assert sender.taken == 0


async def test_an_endless_body_is_left_after_a_bound():
    sender = Sender(1000, 1024 * 1024)
    await request(sender, transfer_encoding="chunked").let_pass()
    assert sender.taken * sender.size == incoming.MOST_BYTES


async def test_a_sender_that_falls_silent_is_left(monkeypatch):
    monkeypatch.setattr(incoming, "IDLE_SECONDS", 0.01)
    sender = Sender(2, 10, ends=False)
    async with asyncio.timeout(10):
        await request(sender, content_length="1000").let_pass()
    assert sender.taken == 2


async def test_a_sender_that_goes_on_for_ever_is_left(monkeypatch):
    monkeypatch.setattr(incoming, "MOST_SECONDS", 0.05)

    class Drop(Sender):
        async def __call__(self):
            await asyncio.sleep(0.01)
            return await super().__call__()

    sender = Drop(10_000, 1)
    await request(sender, content_length="10000").let_pass()
    assert 0 < sender.taken < 100
