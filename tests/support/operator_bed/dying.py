"""An operator that dies after so many writes, again and again."""

import asyncio
import os
from typing import Any

from moorage_operator.reconcile.operator import Operator
from operator_bed.bed import Bed

WRITES_IN_A_LIFE = int(os.environ.get("MOORAGE_WRITES_IN_A_LIFE", "7"))
"""Of the operator that is killed again and again: 1 is every point there is (`make soak-operator`), which takes minutes."""


async def live_once(bed: Bed, writes: int) -> bool:
    """An operator on this bed until it has nothing more to do, or died after so many writes: whether it did."""
    async with bed.running(prepare=lambda operator: _die_after_writes(operator, writes)) as operator:
        died: asyncio.Event = bed.prepared
        done = asyncio.create_task(bed.settled(0.5))
        dying = asyncio.create_task(died.wait())
        await asyncio.wait((done, dying), return_when=asyncio.FIRST_COMPLETED)
        for task in (done, dying):
            task.cancel()
        await asyncio.gather(done, dying, return_exceptions=True)
        operator.lease._lost = True  # it is dead: it gives nothing back
    return died.is_set()


def _die_after_writes(operator: Operator, count: int) -> asyncio.Event:
    """The event is set when `count` writes have been answered; no other one is sent.

    What is under way at that moment has landed: a request that lands after its sender's death may come after the next
    one has looked, which then writes the same again.
    """
    died = asyncio.Event()
    sent = answered = 0
    original = operator.kube._write

    async def write(*arguments: Any, **named: Any) -> Any:
        nonlocal sent, answered
        if sent >= count:
            await asyncio.Event().wait()
        sent += 1
        try:
            return await original(*arguments, **named)
        finally:
            answered += 1
            if answered == count:
                died.set()
                await asyncio.Event().wait()

    operator.kube._write = write  # type: ignore[method-assign]
    return died
