"""Outcomes are told to L1 once they are due, by whichever server finds them, and no cluster waits for another's L1."""

import asyncio

import pytest

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.notify.settling import RESTING_SECONDS, Settling


class Told:
    """What the L1 servers of some clusters were told; those in `away` cannot be reached."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str], list[str]]] = []
        self.away: set[str] = set()
        self.tried: list[str] = []

    async def __call__(self, namespace, notification_id, notification) -> None:
        self.tried.append(notification_id)
        if notification.server_key in self.away:
            raise StoreUnavailableError("away")
        self.calls.append((notification_id, notification.acknowledged, notification.waiting))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def settling(queue, elapsed, told, time):
    made = Settling(queue, elapsed, told, lambda: time.monotonic)
    elapsed.subscribe(made.on_advance)
    yield made
    await made.close()


async def ended(settling: Settling) -> None:
    async with asyncio.timeout(20):
        while settling.under_way:
            await asyncio.sleep(0.01)


async def pass_by(time, elapsed, seconds: float) -> None:
    for _ in range(int(seconds / 2) + 1):
        time.pass_by(2.01)
        await elapsed.advance()


async def test_what_is_not_due_is_not_told(settling, queue, told, ask):
    await queue.enqueue(ask("n1", "a"))
    assert not await settling.settle("ann", "n1")
    assert not await settling.settle("ann", "unknown")
    assert told.calls == []


async def test_what_all_acknowledged_is_told_at_once_and_once(settling, queue, told, ask):
    await queue.enqueue(ask("n1", "a"))
    await queue.acknowledge("ann", "n1", "a")
    assert await settling.settle("ann", "n1")
    assert not await settling.settle("ann", "n1")
    assert told.calls == [("n1", ["a"], [])]


async def test_who_counts_the_deadline_tells(settling, queue, told, ask, time, elapsed):
    await queue.enqueue(ask("n1", "a", "b"))
    await queue.acknowledge("ann", "n1", "b")
    await pass_by(time, elapsed, 98)
    await ended(settling)
    assert told.calls == []
    await pass_by(time, elapsed, 6)
    await ended(settling)
    assert told.calls == [("n1", ["b"], ["a"])]


async def test_what_another_server_left_is_taken_up_by_the_second_scan(settling, queue, told, ask):
    await queue.enqueue(ask("n1", "a"))
    await queue.acknowledge("ann", "n1", "a")
    await settling.scan()
    await ended(settling)
    assert told.calls == []
    await settling.scan()
    await ended(settling)
    assert told.calls == [("n1", ["a"], [])]


async def test_a_cluster_whose_l1_is_away_is_tried_now_and_then_and_holds_up_no_other(
    settling, queue, told, ask, time
):
    told.away = {"c1"}
    for number in range(3):
        await queue.enqueue(ask(f"n{number}", "a"))
        await queue.acknowledge("ann", f"n{number}", "a")
    for number in range(3):
        with pytest.raises(StoreUnavailableError):
            await settling.settle("ann", f"n{number}")
    assert told.tried == ["n0"]
    told.away = set()
    time.pass_by(RESTING_SECONDS)
    for number in range(3):
        assert await settling.settle("ann", f"n{number}")
    assert [call[0] for call in told.calls] == ["n0", "n1", "n2"]
