"""Revocation: is a token's generation still its user's? (PROTOCOL.md: a user disabled, or with a new password,
is refused within a minute.)

L1, L2 and L3 ask the auth servers; block servers ask L3, which answers from its own cache with the age of what
it knows, so that ages add up to no more than `MAX_AGE`. A generation only rises, and a user's id is never given
to another, so a token behind what is known is refused at once and only one ahead of it is worth a question.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from moorage.core.errors import MoorageError, NotFoundError
from moorage_nodes.peers import PeerClient
from moorage_nodes.tokens import Claims, TokenRefusedError

log = logging.getLogger("moorage.generation")
REFRESH_AGE = 30.0  # seconds after which a user's state is asked for again, behind the request that notices
MAX_AGE = 55.0  # seconds after which it is not believed any more
MAX_USERS = 20_000


class UserState(Struct, frozen=True, kw_only=True):
    """The answer of `GET /internal/users/{user_id}?generation=`: `generation` there is the least that is of use
    to who asks. `age` is how old the knowledge is, in seconds.
    """

    generation: int
    disabled: bool
    server_key: str
    username: str
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class _Known:
    """`state` None: there is no such user, and never will be again."""

    state: UserState | None
    learned: float  # monotonic seconds


class GenerationCache:
    """Users' generations, at most `MAX_AGE` old, of at most `MAX_USERS` users; look-ups of one user are shared.

    `peer_of` gives the servers to ask for a user of the cluster `server_key`.
    """

    def __init__(
        self, peer_of: Callable[[str], PeerClient], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._peer_of = peer_of
        self._monotonic = monotonic
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Known]] = {}

    def passes(self, claims: Claims) -> bool:
        """True when the token is known to be current and that knowledge is fresh: the path of nearly every
        request, without a task. False decides nothing: `check` does.
        """
        known = self._known.get(claims.subject)
        return (
            known is not None
            and self._monotonic() - known.learned < REFRESH_AGE
            and judge(known.state, claims) is True
        )

    async def check(self, claims: Claims) -> None:
        """TokenRefusedError when the user is gone, disabled or past the token's generation;
        StoreUnavailableError when that cannot be learned.
        """
        user_id, server_key = claims.subject, claims.text("server_key")
        known = self._known.get(user_id)
        verdict: bool | None = None
        if known is not None and (age := self._monotonic() - known.learned) < MAX_AGE:
            verdict = judge(known.state, claims)
            if verdict is not None and age >= REFRESH_AGE:
                self._ask(user_id, server_key, 0)  # for those who come after
        # Twice: a question already under way may have been asked before the token was issued.
        for _ in range(2):
            if verdict is not None:
                break
            known = await asyncio.shield(self._ask(user_id, server_key, claims.data.get("gen", 0)))
            verdict = judge(known.state, claims)
        if verdict is not True:
            raise TokenRefusedError("user gone, disabled or of another generation")

    async def state_of(self, user_id: str, server_key: str, *, generation: int = 0) -> UserState:
        """What is known of a user, at most `REFRESH_AGE` old where the peer answers and `MAX_AGE` where not, of
        at least `generation` where there is one; NotFoundError when there is no such user.
        """
        known = self._known.get(user_id)
        if known is None or not self._suffices(known, REFRESH_AGE, generation):
            try:
                known = await asyncio.shield(self._ask(user_id, server_key, generation))
            except MoorageError:
                if known is None or not self._suffices(known, MAX_AGE, generation):
                    raise
        if known.state is None:
            raise NotFoundError("There is no such user.")
        return replace(known.state, age=max(0.0, self._monotonic() - known.learned))

    def _suffices(self, known: _Known, max_age: float, generation: int) -> bool:
        if self._monotonic() - known.learned >= max_age:
            return False
        return known.state is None or known.state.generation >= generation

    def _ask(self, user_id: str, server_key: str, generation: int) -> asyncio.Task[_Known]:
        task = self._asking.get(user_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._learn(user_id, server_key, generation))
            self._asking[user_id] = task
            task.add_done_callback(lambda done: self._asked(user_id, done))
        return task

    async def _learn(self, user_id: str, server_key: str, generation: int) -> _Known:
        asked = self._monotonic()
        try:
            state = await self._peer_of(server_key).get(
                f"/internal/users/{user_id}?generation={generation}", UserState
            )
        except NotFoundError:
            known = _Known(None, asked)
        else:
            known = _Known(state, asked - state.age)
        self._known[user_id] = known
        self._known.move_to_end(user_id)
        if len(self._known) > MAX_USERS:
            self._known.popitem(last=False)
        return known

    def _asked(self, user_id: str, done: "asyncio.Task[_Known]") -> None:
        del self._asking[user_id]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.warning("a user's generation cannot be learned", extra={"reason": type(error).__name__})


def judge(state: UserState | None, claims: Claims) -> bool | None:
    """True: current. False: never again. None: the token is ahead of what is known.

    A capability (upload, download) without `gen` is current while its user is not disabled.
    """
    if state is None:
        return False
    generation = claims.data.get("gen")
    if generation is None:
        return not state.disabled
    if not isinstance(generation, int) or generation < state.generation:
        return False
    if generation > state.generation:
        return None
    return not state.disabled
