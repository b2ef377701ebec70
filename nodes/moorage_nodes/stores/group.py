"""Group commit: independent transactions travel as nested transactions of one outer transaction.

One outer transaction costs etcd one proposal, one write to its log, one answer. Each member keeps its own compares
and its own outcome; members that touch one another's keys never share one (stores/footprint.py).
"""

import asyncio
from collections import deque
from typing import Protocol

from moorage.core.errors import RequestRefusedError
from moorage_nodes.stores.contracts import MAX_TXN_OPS, Txn, TxnResult
from moorage_nodes.stores.fanout import build_behind, build_own, should_fail_too
from moorage_nodes.stores.footprint import Extent, Together
from moorage_nodes.stores.observer import NullObserver, Observer

MAX_IN_FLIGHT = 2
MAX_MEMBERS = 60
SEND_FROM = 32
"""So many do not wait for what else comes in this turn of the loop: the store has work while the others are made."""
MAX_BATCH_BYTES = 1024 * 1024  # of etcd's 1.5 MiB
# How many that do not fit a batch may pass by.
_LOOK_AHEAD = 2 * MAX_MEMBERS


class Transactor(Protocol):
    async def transact(self, txn: Txn) -> TxnResult: ...


class _Member:
    __slots__ = ("_extent", "done", "since", "txn")

    def __init__(self, txn: Txn, done: "asyncio.Future[TxnResult]", since: float) -> None:
        self.txn = txn
        self.since = since  # by the event loop's clock
        self.done = done
        self._extent: Extent | None = None

    @property
    def extent(self) -> Extent:
        """Taken when first asked for: who travels alone for want of others needs none."""
        if self._extent is None:
            self._extent = Extent(self.txn)
        return self._extent

    def travels_alone(self) -> bool:
        """A bad lease fails the whole batch, and what is too large fits in none."""
        extent = self.extent
        return extent.leased or extent.ops > MAX_TXN_OPS - 2 or extent.size > MAX_BATCH_BYTES


class TransactionGroup:
    """`submit` is `store.transact` for many at once, with the same results and errors for each.

    What is submitted while `MAX_IN_FLIGHT` outer transactions are under way waits and goes together. Those that
    conflict are sent one behind the other, in the order they came; each compares for itself what it relies on.
    Outer transactions are never sent again.
    """

    def __init__(self, store: Transactor, observer: Observer | None = None) -> None:
        self._store = store
        self._observer = observer or NullObserver()
        self._waiting: deque[_Member] = deque()
        self._free = MAX_IN_FLIGHT
        self._pump_due = False
        self._flights: set[asyncio.Task[None]] = set()

    async def submit(self, txn: Txn) -> TxnResult:
        """Carry out `txn`; it may be cancelled like any call, and harms no other."""
        loop = asyncio.get_running_loop()
        member = _Member(txn, loop.create_future(), loop.time())
        self._waiting.append(member)
        if self._free:
            if len(self._waiting) >= SEND_FROM:
                self._pump()
            elif not self._pump_due:
                # Not at once: what else comes in this turn of the loop goes along.
                self._pump_due = True
                loop.call_soon(self._pump_what_came)
        return await member.done

    def _pump_what_came(self) -> None:
        self._pump_due = False
        self._pump()

    def _pump(self) -> None:
        """Send batches while there is room for them in flight."""
        while self._free and (batch := self._next_batch()):
            self._free -= 1
            flight = asyncio.get_running_loop().create_task(self._fly(batch))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    def _next_batch(self) -> list[_Member]:
        """Take from the line, in order, those that may go together; none when nobody waits."""
        waiting = self._waiting
        batch: list[_Member] = []
        left: list[_Member] = []
        taken, passed = Together(), Together()  # who conflicts with one that is left stays behind it
        ops = size = 0
        while waiting and len(left) < _LOOK_AHEAD:
            member = waiting.popleft()
            if member.done.done():  # its caller has gone
                continue
            if not waiting and not batch and not left:
                return [member]
            txn, extent = member.txn, member.extent
            if member.travels_alone():
                if not batch and not left:
                    return [member]
            elif (
                # Operations count along a path: the members, and those of the largest of them.
                len(batch) + 1 + max(ops, extent.ops) <= MAX_TXN_OPS
                and size + extent.size <= MAX_BATCH_BYTES
                and not taken.conflicts(txn)
                and not (left and passed.conflicts(txn))
            ):
                batch.append(member)
                taken.add(txn)
                ops = max(ops, extent.ops)
                size += extent.size
                if len(batch) == MAX_MEMBERS:
                    break
                continue
            left.append(member)
            passed.add(txn)
        waiting.extendleft(reversed(left))
        return batch

    async def _fly(self, batch: list[_Member]) -> None:
        self._observer.observe_batch("commit", len(batch))
        try:
            await self._carry(batch)
        finally:
            self._free += 1
            self._pump()

    async def _carry(self, batch: list[_Member]) -> None:
        """Carry out a batch and tell each member; nothing is raised but this task's own end."""
        try:
            if len(batch) == 1:
                _succeed(batch[0], await self._store.transact(batch[0].txn))
            else:
                outer = await self._store.transact(Txn(then=tuple(member.txn for member in batch)))
                for member, result in zip(batch, outer.results, strict=True):
                    assert type(result) is TxnResult
                    _succeed(member, result)
        except RequestRefusedError as error:
            if len(batch) == 1:
                _fail(batch[0], build_own(error))
            else:  # one bad member has it refused for all: nothing was written
                await asyncio.gather(*(self._carry([member]) for member in batch))
        except Exception as error:  # noqa: BLE001 - whatever it is, the members must hear of it
            for member in batch:
                _fail(member, build_own(error))
            self._fail_waiting(error)
        except BaseException:
            for member in batch:
                member.done.cancel()
            raise

    def _fail_waiting(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting and should_fail_too(error, self._waiting[0].since, now):
            _fail(self._waiting.popleft(), build_behind(error))


def _succeed(member: _Member, result: TxnResult) -> None:
    if not member.done.done():
        member.done.set_result(result)


def _fail(member: _Member, error: Exception) -> None:
    if not member.done.done():
        member.done.set_exception(error)
