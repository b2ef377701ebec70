"""The collector stands back: the more others write the longer, and not for what it writes itself."""

import pytest

from moorage_nodes.gc.pacing import ALONE_SECONDS, BESIDE_SECONDS, EQUAL_RATE, MAX_REST, Pacing, plan_rest
from moorage_nodes.gc.tenure import Tenure
from moorage_nodes.stores.contracts import Put, Txn
from moorage_nodes.stores.memory import MemoryStore


class Clocked:
    """A collector's run on a clock that only work and rests move; others write while it rests and works."""

    def __init__(self, rate: float) -> None:
        self.store = MemoryStore()
        self.rate = rate
        self.now = 100.0
        self.rests: list[float] = []
        self._owed = 0.0

    async def begin(self) -> None:
        self.tenure = await Tenure.begin(self.store, "c", lambda: self.now)
        self.pacing = Pacing(self.store, self.tenure, lambda: self.now, self.sleep)

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._owed += seconds * self.rate
        while self._owed >= 1:
            self._owed -= 1
            await self.store.transact(Txn(then=(Put(b"others", b"%f" % self.now),)))

    async def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        await self.pass_time(seconds)

    async def work(self, seconds: float, *, writes: bool = False) -> None:
        end = self.now + seconds
        while self.now < end:
            if writes:
                await self.store.transact(Txn(then=(Put(b"ours", b""),)))
                self.tenure.written += 1
            before = self.now
            await self.pass_time(0.01)
            await self.pacing.stand_back()
            end += self.now - before - 0.01  # what it rested


@pytest.mark.parametrize("writes", [False, True])
async def test_alone_it_never_rests_whatever_it_writes(writes):
    run = Clocked(rate=0.0)
    await run.begin()
    await run.work(20.0, writes=writes)
    assert run.rests == []


async def test_it_rests_in_proportion_to_what_others_write():
    shares = []
    for rate in (EQUAL_RATE / 2, EQUAL_RATE, 2 * EQUAL_RATE, 100 * EQUAL_RATE):
        run = Clocked(rate)
        await run.begin()
        await run.work(20.0)
        shares.append(sum(run.rests) / 20.0)
    assert shares == pytest.approx([0.5, 1.0, 2.0, MAX_REST], rel=0.2)


async def test_it_works_in_short_pieces_while_others_write_and_goes_on_when_they_stop():
    run = Clocked(rate=1000.0)
    await run.begin()
    await run.work(5.0)
    assert max(run.rests[2:]) <= (BESIDE_SECONDS + 0.02) * MAX_REST
    run.rate = 0.0
    await run.work(ALONE_SECONDS)
    rested = len(run.rests)
    await run.work(20.0)
    assert len(run.rests) == rested


def test_a_revision_that_seems_to_go_back_is_no_reason_to_rest():
    assert plan_rest(-5, 1.0) == 0.0
