"""Work with a name is done once at a time, again when it fails or is asked for meanwhile, and no request is lost."""

import asyncio

import pytest

from moorage.core.errors import StoreUnavailableError
from moorage_nodes import pursuit
from moorage_nodes.pursuit import Pursuit


class Work:
    """Fails `failures` times; `gate` holds it up inside."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.done: list[str] = []
        self.tries = 0
        self.failures = failures
        self.error = error or StoreUnavailableError("away")
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = self.most_running = 0

    async def __call__(self, _namespace: str, notification_id: str) -> None:
        self.tries += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.gate.wait()
            if self.failures:
                self.failures -= 1
                raise self.error
        finally:
            self.running -= 1
        self.done.append(notification_id)


def pursue(work: Work, at_once: int = 2, most: int = 10) -> Pursuit:
    return Pursuit(work, "a test", at_once=at_once, most=most)


async def until_idle(pursuit: Pursuit) -> None:
    async with asyncio.timeout(10):
        while pursuit.under_way:
            await asyncio.sleep(0.001)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(pursuit, "PAUSES", (0.01, 0.02))


async def test_what_fails_is_tried_again_and_then_left(quick):
    for error in (StoreUnavailableError("away"), ValueError("a bug")):
        work = Work(failures=2, error=error)
        pursued = pursue(work)
        pursued.kick("ann", "n1")
        await until_idle(pursued)
        assert (work.tries, work.done) == (3, ["n1"])
    hopeless = Work(failures=100)
    pursued = pursue(hopeless)
    pursued.kick("ann", "n1")
    await until_idle(pursued)
    assert (hopeless.tries, hopeless.done) == (3, [])


async def test_who_asks_while_it_is_under_way_has_it_done_once_more():
    work = Work()
    work.gate.clear()
    pursued = pursue(work)
    for _ in range(3):
        pursued.kick("ann", "n1")
        await asyncio.sleep(0)
    work.gate.set()
    await until_idle(pursued)
    assert work.done == ["n1", "n1"]


async def test_a_request_at_the_very_end_is_not_lost():
    """Whenever it comes, the work begins once more behind it."""
    for turns in range(12):
        work = Work()
        pursued = pursue(work)
        pursued.kick("ann", "n1")
        for _ in range(turns):
            await asyncio.sleep(0)
        before = work.tries
        pursued.kick("ann", "n1")
        await until_idle(pursued)
        assert work.tries > before, f"after {turns} turns"


async def test_who_asks_while_it_waits_to_be_tried_again_ends_the_wait():
    work = Work(failures=1)
    pursued = pursue(work)
    pursued.kick("ann", "n1")
    while work.failures:
        await asyncio.sleep(0)
    async with asyncio.timeout(pursuit.PAUSES[0] / 2):
        pursued.kick("ann", "n1")
        await until_idle(pursued)
    assert work.done == ["n1"]


async def test_what_waits_to_be_tried_again_takes_nobodys_place():
    work = Work(failures=1)
    pursued = pursue(work, at_once=1)
    pursued.kick("ann", "n1")
    while work.failures:
        await asyncio.sleep(0)
    pursued.kick("ann", "n2")
    async with asyncio.timeout(pursuit.PAUSES[0] / 2):
        while work.done != ["n2"]:
            await asyncio.sleep(0.001)
    await pursued.close()


async def test_only_so_many_go_on_at_once_and_are_kept():
    work = Work()
    work.gate.clear()
    pursued = pursue(work, at_once=2, most=3)
    for number in range(5):
        pursued.kick("ann", f"n{number}")
    assert pursued.under_way == 3
    await asyncio.sleep(0.01)
    work.gate.set()
    await until_idle(pursued)
    assert sorted(work.done) == ["n0", "n1", "n2"]
    assert work.most_running == 2


async def test_what_is_closed_is_done_no_more():
    work = Work()
    work.gate.clear()
    pursued = pursue(work)
    pursued.kick("ann", "n1")
    await asyncio.sleep(0)
    await pursued.close()
    assert (work.done, work.running, pursued.under_way) == ([], 0, 0)
