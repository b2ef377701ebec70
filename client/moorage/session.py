"""Who is logged in where, and the access token, renewed as it ends."""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from moorage.core.errors import NotLoggedInError, UnauthenticatedError
from moorage.core.wire import LoginAnswer, LoginRequest, RefreshRequest
from moorage.transport import Transport, decode


class Session(Struct, frozen=True, kw_only=True):
    """What a login gave. `url` has no slash at its end."""

    url: str
    username: str
    user_id: str
    token: str
    refresh_token: str


async def log_in(transport: Transport, url: str, username: str, password: str) -> Session:
    """UnauthenticatedError when name or password is wrong, ThrottledError after too many of them."""
    base = url.rstrip("/")
    request = LoginRequest(username=username, password=password)
    answer = await transport.send("POST", f"{base}/auth", body=request)
    return _build_session(base, username, answer)


class Tokens:
    """The access token of a session. `on_renewed` gets each new session, to be kept."""

    def __init__(
        self, transport: Transport, session: Session, on_renewed: Callable[[Session], None] = lambda _: None
    ) -> None:
        self._transport = transport
        self.session = session
        self._on_renewed = on_renewed
        self._renewing = asyncio.Lock()

    async def renew(self, refused: str) -> None:
        """In place of the token that was `refused`; once, however many find it out together. That a token has ended is
        for the server to say: this machine's clock may be wrong.

        NotLoggedInError when the login itself has ended.
        """
        async with self._renewing:
            old = self.session
            if old.token != refused:
                return
            request = RefreshRequest(refresh_token=old.refresh_token)
            try:
                answer = await self._transport.send("POST", f"{old.url}/auth/refresh", body=request)
            except UnauthenticatedError:
                raise NotLoggedInError(
                    f"The login of {old.username} has ended: `moorage login {old.url}` logs in again."
                ) from None
            self.session = _build_session(old.url, old.username, answer)
            self._on_renewed(self.session)


def _build_session(url: str, username: str, answer: bytes) -> Session:
    login = decode(answer, LoginAnswer)
    return Session(
        url=url,
        username=username,
        user_id=login.user_id,
        token=login.token,
        refresh_token=login.refresh_token,
    )
