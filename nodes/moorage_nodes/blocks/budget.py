"""The bytes that a server holds for requests in flight: bounded, whatever the number of requests.

Bytes are charged as they come, so a slow sender holds no more than it has sent. When there is no room, those who
want more wait in order; but the request that holds bytes for the longest time always gets more, so that at
least one can always come to its end. So `capacity` is exceeded by no more than what one request may hold.

What one user sends holds at most half of it, but for the oldest of the user's requests: who sends many chunks slowly
waits for oneself, and nobody else does.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from types import TracebackType
from typing import Self

from moorage.core.errors import StoreUnavailableError

WAIT_SECONDS = 15.0


class ByteBudget:
    """For the tasks of one event loop."""

    def __init__(self, capacity: int, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._capacity = capacity
        self._wait_seconds = wait_seconds
        self.used = 0
        self._holders: OrderedDict[Room, None] = OrderedDict()
        self._held: Counter[str] = Counter()  # by owner
        self._waiting: deque[tuple[Room, int, asyncio.Future[None]]] = deque()

    def room(self, owner: str = "") -> "Room":
        """Room for one request: `with budget.room() as room: await room.grow(n)`. `owner`: the user whose share it is
        in; empty: nobody's.
        """
        return Room(self, owner)

    def fail_waiting(self, error: StoreUnavailableError) -> None:
        """Those who wait would meet the same: a store that is down must not be found out by one after the other."""
        while self._waiting:
            _, _, granted = self._waiting.popleft()
            if not granted.done():
                granted.set_exception(type(error)(error.detail))

    async def grow(self, room: "Room", size: int) -> None:
        if not self._waiting and self._has_room(room, size):
            self._grant(room, size)
            return
        if self._is_oldest(room):
            self._grant(room, size)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((room, size, granted))
        self._wake()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await granted
        except TimeoutError:
            self._abandon(room, size, granted)
            raise StoreUnavailableError(
                "This server is busy with other uploads and downloads; try again."
            ) from None
        except BaseException:
            self._abandon(room, size, granted)
            raise

    def try_grow(self, room: "Room", size: int) -> bool:
        """Hold `size` bytes more if that leaves half of all room to those who cannot do without."""
        if self._waiting or self.used + size > self._capacity // 2:
            return False
        self._grant(room, size)
        return True

    def shrink(self, room: "Room", size: int) -> None:
        room.held -= size
        self.used -= size
        self._held[room.owner] -= size
        if not self._held[room.owner]:
            del self._held[room.owner]
        if room.held == 0:
            self._holders.pop(room, None)
        self._wake()

    def _has_room(self, room: "Room", size: int) -> bool:
        if self._is_oldest(room):
            return True
        return self.used + size <= self._capacity and self._is_within_share(room, size)

    def _is_within_share(self, room: "Room", size: int) -> bool:
        if not room.owner or self._held[room.owner] + size <= self._capacity // 2:
            return True
        oldest = next((each for each in self._holders if each.owner == room.owner), room)
        return oldest is room

    def _is_oldest(self, room: "Room") -> bool:
        return not self._holders or next(iter(self._holders)) is room

    def _grant(self, room: "Room", size: int) -> None:
        room.held += size
        self.used += size
        self._held[room.owner] += size
        self._holders.setdefault(room)

    def _wake(self) -> None:
        oldest = next(iter(self._holders), None)
        for place, (room, size, granted) in enumerate(self._waiting):
            if room is oldest and not granted.done():
                del self._waiting[place]
                self._grant(room, size)
                granted.set_result(None)
                break
        still = deque[tuple[Room, int, asyncio.Future[None]]]()
        while self._waiting:
            room, size, granted = self._waiting.popleft()
            if granted.done():
                continue
            if self._has_room(room, size):
                self._grant(room, size)
                granted.set_result(None)
                continue
            still.append((room, size, granted))
            if self._is_within_share(room, size):
                break  # for room: nobody behind it is served before it
        self._waiting.extendleft(reversed(still))

    def _abandon(self, room: "Room", size: int, granted: "asyncio.Future[None]") -> None:
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            self.shrink(room, size)
            return
        granted.cancel()
        self._wake()


class Room:
    """What one request holds. All of it is given back at the end of the `with` block."""

    __slots__ = ("_budget", "held", "owner")

    def __init__(self, budget: ByteBudget, owner: str) -> None:
        self._budget = budget
        self.owner = owner
        self.held = 0

    async def grow(self, size: int) -> None:
        """Hold `size` bytes more, as soon as there is room. `StoreUnavailableError` when that takes too long."""
        await self._budget.grow(self, size)

    def try_grow(self, size: int) -> bool:
        """Hold `size` bytes more, unless that would take more than half of all room; never waits."""
        return self._budget.try_grow(self, size)

    def shrink(self, size: int) -> None:
        """Give `size` bytes back before the end."""
        self._budget.shrink(self, min(size, self.held))

    def close(self) -> None:
        """Give all of it back."""
        self._budget.shrink(self, self.held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
