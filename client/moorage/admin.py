"""The life cycle of users, with the admin token (PROTOCOL.md, Discovery and login)."""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

from msgspec import UNSET, Struct, UnsetType

from moorage.core.ids import parse_username
from moorage.core.wire import PasswordRequest, PutUserRequest, UserAnswer, UsersAnswer
from moorage.transport import Transport, decode, walk_pages


class Connection(Struct, frozen=True, kw_only=True):
    """`connection.json` as `moorage up` writes it."""

    url: str
    admin_token: str


class Admin:
    """Every call may be repeated with the same arguments."""

    def __init__(self, transport: Transport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection

    async def put_user(
        self, name: str, *, password: str | UnsetType = UNSET, disabled: bool | UnsetType = UNSET
    ) -> UserAnswer:
        """Add a user, or change one. UserExistsError for one who has another password."""
        body = PutUserRequest(password=password, disabled=disabled)
        return decode(await self._send("PUT", _path_of(name), body=body), UserAnswer)

    async def get_user(self, name: str) -> UserAnswer:
        return decode(await self._send("GET", _path_of(name)), UserAnswer)

    async def set_password(self, name: str, password: str) -> None:
        """The user's tokens end within a minute."""
        await self._send("POST", f"{_path_of(name)}/password", body=PasswordRequest(password=password))

    async def delete_user(self, name: str) -> None:
        await self._send("DELETE", _path_of(name))

    async def list_users(self) -> AsyncIterator[UserAnswer]:
        async def ask(query: Mapping[str, str]) -> UsersAnswer:
            return decode(await self._send("GET", "/auth/users", query=query), UsersAnswer)

        async for page in walk_pages(ask):
            for user in page.users:
                yield user

    async def _send(
        self, method: str, path: str, *, body: Any = None, query: Mapping[str, str] | None = None
    ) -> bytes:
        url = f"{self._connection.url.rstrip('/')}{path}"
        return await self._transport.send(
            method, url, token=self._connection.admin_token, body=body, query=query
        )


def _path_of(name: str) -> str:
    return f"/auth/users/{quote(parse_username(name), safe='')}"
