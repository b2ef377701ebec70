"""From a password, or a refresh token, to tokens. Every refusal is the same to the caller, in words and in time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from moorage.core.errors import StoreUnavailableError, ThrottledError, UnauthenticatedError
from moorage.core.ids import root_id
from moorage.core.times import format_time
from moorage.core.wire import LoginAnswer
from moorage_nodes.auth import keys
from moorage_nodes.auth.passwords import Passwords
from moorage_nodes.auth.throttle import Throttle
from moorage_nodes.auth.users import User, UserDirectory, parse_user
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.tokens import Audience, Signer, TokenRefusedError, Verifier

MAX_LOGINS = 512  # under way or waiting in this process


class LoginRefusedError(UnauthenticatedError):
    """`reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__("The username or the password is wrong.")
        self.reason = reason


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Turns:
    """One at a time per account in this process: many devices that log in at once with the right password take
    their turns instead of running into the throttle, which counts attempts before it knows how they end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting = 0
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def take(self, username: str) -> AsyncIterator[None]:
        if self._waiting >= self._limit:
            raise ThrottledError("Too many logins at once; try again in a moment.", retry_after=1)
        turn = self._turns.setdefault(username, _Turn())
        turn.waiting += 1
        self._waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            self._waiting -= 1
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[username]


class Login:
    """Issues tokens. `token_ttl` and `refresh_ttl` in seconds."""

    def __init__(
        self,
        store: MetadataStore,
        users: UserDirectory,
        passwords: Passwords,
        throttle: Throttle,
        *,
        signer: Signer,
        verifier: Verifier,
        token_ttl: int,
        refresh_ttl: int,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._users = users
        self._passwords = passwords
        self._throttle = throttle
        self._signer = signer
        self._verifier = verifier
        self._token_ttl = token_ttl
        self._refresh_ttl = refresh_ttl
        self._clock = clock
        self._turns = Turns(MAX_LOGINS)

    async def log_in(self, username: str, password: str) -> LoginAnswer:
        """LoginRefusedError for an unknown user, a wrong password, a disabled user: after the same store calls
        and the same hashing. ThrottledError after too many of them.
        """
        async with self._turns.take(username):
            record_key, throttle_key = keys.user(username), keys.throttle(username)
            seen = (await self._store.get_many((record_key, throttle_key))).found
            lease = await self._throttle.admit(username, seen.get(throttle_key))
            kv = seen.get(record_key)
            user = parse_user(kv) if kv is not None else None
            matches = await self._passwords.verify(user.record.password_hash if user else None, password)
            if user is None or not matches:
                raise LoginRefusedError("unknown user or wrong password")
            if user.record.disabled:
                raise LoginRefusedError("user disabled")
            try:
                await self._throttle.forgive(lease)
            except StoreUnavailableError:
                # The right password stands; the attempt stays counted until the window ends.
                return self._answer(user)
            return self._answer(user)

    async def refresh(self, refresh_token: str) -> LoginAnswer:
        """TokenRefusedError when the token is not good, or its user gone, disabled or of a later generation."""
        claims = self._verifier.verify(refresh_token, Audience.REFRESH)
        user = await self._users.find_by_id(claims.subject)
        if user is None or user.record.disabled or claims.data.get("gen") != user.record.generation:
            raise TokenRefusedError("user gone, disabled or of another generation")
        return self._answer(user)

    def _answer(self, user: User) -> LoginAnswer:
        record = user.record
        expires = (int(self._clock()) + self._token_ttl) * 1000
        token = self._signer.sign(
            Audience.ACCESS,
            record.user_id,
            self._token_ttl,
            username=user.username,
            server_key=record.server_key,
            gen=record.generation,
        )
        refresh_token = self._signer.sign(
            Audience.REFRESH, record.user_id, self._refresh_ttl, gen=record.generation
        )
        return LoginAnswer(
            token=token,
            server_key=record.server_key,
            expires_at=format_time(expires),
            refresh_token=refresh_token,
            root_dir_id=root_id(record.user_id),
            user_id=record.user_id,
        )
