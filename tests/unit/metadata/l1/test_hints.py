"""Change hints leave L1 soon, together, and never in the way of a change."""

import asyncio
from typing import Any

import pytest

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.metadata.l1 import hints as module
from moorage_nodes.metadata.l1.changes import parse_cursor
from moorage_nodes.metadata.l1.hints import Hints
from moorage_nodes.peer_api import HintsAnswer

PATIENCE = 20


class Heard:
    """Notes what would be sent; what the notification servers make of it is tested with them (tests/unit/notify)."""

    def __init__(self) -> None:
        self.calls: list[dict[str, int]] = []
        self.away = False
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def post(self, path: str, body: Any, answer: type[Any]) -> Any:
        assert path == "/internal/changes"
        await self.let_go.wait()
        if self.away:
            raise StoreUnavailableError("away")
        self.calls.append({c.namespace: parse_cursor(c.cursor, c.namespace).sequence for c in body.changes})
        return HintsAnswer(told=len(body.changes))


@pytest.fixture
async def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(module, "PAUSE_AFTER_FAILURE_SECONDS", 0.02)
    return Heard()


@pytest.fixture
async def hints(heard: Heard):
    made = Hints(heard, "inc")  # type: ignore[arg-type]
    yield made
    await made.close()


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_first_goes_at_once_and_those_behind_it_together_newest_alone(hints, heard):
    heard.let_go.clear()
    hints.tell("ann", 1)
    await asyncio.sleep(0.01)
    for sequence in range(2, 10):
        hints.tell("ann", sequence)
    hints.tell("bob", 1)
    heard.let_go.set()
    await until(lambda: len(heard.calls) == 2)
    assert heard.calls == [{"ann": 1}, {"ann": 9, "bob": 1}]


async def test_after_a_failure_it_goes_on_with_what_comes_next(hints, heard):
    heard.away = True
    hints.tell("ann", 1)
    await until(lambda: hints._telling is None)
    heard.away = False
    hints.tell("ann", 2)
    await until(lambda: heard.calls)
    assert heard.calls == [{"ann": 2}]


async def test_more_than_one_call_takes_go_in_several(hints, heard, monkeypatch):
    monkeypatch.setattr(module, "MAX_HINTS", 3)
    heard.let_go.clear()
    hints.tell("first", 1)
    await asyncio.sleep(0.01)
    for number in range(7):
        hints.tell(f"ns{number}", 1)
    heard.let_go.set()
    await until(lambda: len(heard.calls) == 4)
    assert [len(call) for call in heard.calls] == [1, 3, 3, 1]
