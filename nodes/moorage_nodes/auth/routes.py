"""The auth servers' routes (PROTOCOL.md, Discovery and login)."""

from dataclasses import dataclass
from typing import TypeVar

from msgspec import UNSET, Struct, UnsetType
from starlette.responses import Response

from moorage.core.errors import NotFoundError
from moorage.core.ids import parse_id, parse_username, root_id
from moorage.core.times import format_time
from moorage.core.wire import (
    LoginAnswer,
    LoginRequest,
    PasswordRequest,
    PutUserRequest,
    RefreshRequest,
    UserAnswer,
    UsersAnswer,
)
from moorage_nodes.auth.login import Login
from moorage_nodes.auth.placement import check_server_key
from moorage_nodes.auth.users import User, UserDirectory, Wish
from moorage_nodes.generation import UserState
from moorage_nodes.server import Shared
from moorage_nodes.settings import Auth
from moorage_nodes.tokens import ADMIN, PUBLIC, Allow, Audience, public_jwk
from moorage_nodes.web import Call, Routes, json_response

T = TypeVar("T")
BODY_LIMIT = 16 * 1024
DEFAULT_PAGE = 100
MAX_PAGE = 1000
PEERS = Allow(frozenset({Audience.SERVICE_AUTH}))


@dataclass(slots=True)
class AuthContext:
    shared: Shared
    settings: Auth
    users: UserDirectory
    login: Login
    realm_id: str


class RealmAnswer(Struct, frozen=True, kw_only=True):
    realm_id: str


public: Routes[AuthContext] = Routes()
internal: Routes[AuthContext] = Routes()


@public.post("/auth", allow=PUBLIC, body=LoginRequest, answer=LoginAnswer, limit=BODY_LIMIT)
async def log_in(call: Call[AuthContext]) -> LoginAnswer:
    """Log in with a password."""
    return await call.server.login.log_in(call.body.username, call.body.password)


@public.post("/auth/refresh", allow=PUBLIC, body=RefreshRequest, answer=LoginAnswer, limit=BODY_LIMIT)
async def refresh(call: Call[AuthContext]) -> LoginAnswer:
    """Log in again with a refresh token."""
    return await call.server.login.refresh(call.body.refresh_token)


@public.get("/auth/jwks.json", allow=PUBLIC)
async def jwks(call: Call[AuthContext]) -> Response:
    """The public keys that access tokens are signed with; two during a rotation."""
    keys = call.server.shared.trust.value.keys_for(Audience.ACCESS)
    return json_response({"keys": [public_jwk(key) for key in keys]}, headers={"Cache-Control": "max-age=60"})


@public.put("/auth/users/{username}", allow=ADMIN, body=PutUserRequest, answer=UserAnswer, limit=BODY_LIMIT)
async def put_user(call: Call[AuthContext]) -> UserAnswer:
    """Make a user, or enable or disable one."""
    username = parse_username(call.path("username"))
    wish = Wish(_given(call.body.password), _given(call.body.server_key), _given(call.body.disabled))
    if wish.server_key is not None:
        check_server_key(call.server.settings.clusters, wish.server_key)
    return _answer(await call.server.users.put(username, wish))


@public.get("/auth/users/{username}", allow=ADMIN, answer=UserAnswer)
async def get_user(call: Call[AuthContext]) -> UserAnswer:
    """One user."""
    return _answer(await call.server.users.get(parse_username(call.path("username"))))


@public.delete("/auth/users/{username}", allow=ADMIN, answer=UserAnswer)
async def delete_user(call: Call[AuthContext]) -> UserAnswer:
    """Remove a user; what the user stored is left to the operator."""
    return _answer(await call.server.users.remove(parse_username(call.path("username"))))


@public.post(
    "/auth/users/{username}/password",
    allow=ADMIN,
    body=PasswordRequest,
    answer=UserAnswer,
    limit=BODY_LIMIT,
)
async def set_password(call: Call[AuthContext]) -> UserAnswer:
    """Give a user a new password."""
    username = parse_username(call.path("username"))
    return _answer(await call.server.users.set_password(username, call.body.password))


@public.get("/auth/users", allow=ADMIN, answer=UsersAnswer)
async def list_users(call: Call[AuthContext]) -> UsersAnswer:
    """All users in the order of their names, in pages of `?limit=`; `?cursor=` is the last page's."""
    limit = call.query_int("limit", low=1, high=MAX_PAGE) or DEFAULT_PAGE
    cursor = call.query("cursor")
    after = parse_username(cursor, "cursor") if cursor is not None else None
    users, more = await call.server.users.list(after, limit)
    next_cursor = users[-1].username if more and users else None
    return UsersAnswer(users=[_answer(user) for user in users], next_cursor=next_cursor)


@internal.get("/internal/users/{user_id}", allow=PEERS, answer=UserState)
async def user_state(call: Call[AuthContext]) -> UserState:
    """A user's generation, for servers that check tokens against it."""
    user = await call.server.users.find_by_id(parse_id(call.path("user_id"), "user_id"))
    if user is None:
        raise NotFoundError("There is no such user.")
    record = user.record
    return UserState(
        generation=record.generation,
        disabled=record.disabled,
        server_key=record.server_key,
        username=user.username,
    )


@internal.get("/internal/realm", allow=PEERS, answer=RealmAnswer)
async def realm(call: Call[AuthContext]) -> RealmAnswer:
    """The realm's id, which metadata servers write into their own etcd once."""
    return RealmAnswer(realm_id=call.server.realm_id)


def _given(value: T | UnsetType) -> T | None:
    return None if value is UNSET else value


def _answer(user: User) -> UserAnswer:
    record = user.record
    return UserAnswer(
        username=user.username,
        user_id=record.user_id,
        server_key=record.server_key,
        root_dir_id=root_id(record.user_id),
        disabled=record.disabled,
        created=format_time(record.created),
    )
