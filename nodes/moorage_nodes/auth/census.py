"""How many users live on each metadata cluster: asked for before a cluster is let go (DESIGN.md, Resources)."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moorage.core.errors import MoorageError
from moorage_nodes.auth.users import UserDirectory

FRESH_SECONDS = 30.0
PATIENCE_SECONDS = 1.0
PAGE = 500
PAUSE_SECONDS = 0.02
"""Between two pages: a census of many users takes its time and leaves the store to others."""

log = logging.getLogger("moorage.auth")


@dataclass(frozen=True, slots=True)
class Counted:
    """`users`: server key → users, those without any left out. `began`: monotonic seconds."""

    users: Mapping[str, int]
    began: float


class Census:
    """One per process. Users are counted page by page, by one walk at a time, and only when somebody asks; so a
    question costs no more than the answer that is there, however many users there are.
    """

    def __init__(self, users: UserDirectory, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._monotonic = monotonic
        self._last: Counted | None = None
        self._walk: asyncio.Task[None] | None = None

    async def ask(self) -> tuple[Mapping[str, int], float] | None:
        """The users of each server key, and how many seconds ago counting them began: whoever was made before that
        is counted. None while they are being counted for the first time, or the store is away.
        """
        last = self._last
        if last is None or self._monotonic() - last.began > FRESH_SECONDS:
            if self._walk is None or self._walk.done():
                self._walk = asyncio.create_task(self._count())
            await asyncio.wait((self._walk,), timeout=PATIENCE_SECONDS)
        last = self._last
        return None if last is None else (last.users, self._monotonic() - last.began)

    async def _count(self) -> None:
        began = self._monotonic()
        found: Counter[str] = Counter()
        after: str | None = None
        try:
            while True:
                page, more = await self._users.list(after, PAGE)
                found.update(user.record.server_key for user in page)
                if not more or not page:
                    break
                after = page[-1].username
                await asyncio.sleep(PAUSE_SECONDS)
        except MoorageError as error:
            log.warning("users not counted", extra={"reason": error.word})
            return
        self._last = Counted(dict(found), began)

    async def close(self) -> None:
        if self._walk is not None:
            self._walk.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._walk
