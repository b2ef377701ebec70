"""Logins: one answer for every refusal, no guessing, tokens that say what they should."""

import asyncio
from typing import Any

import jwt
import pytest
from realm import Realm

from moorage.core.errors import StoreUnavailableError, ThrottledError, UnauthenticatedError
from moorage_nodes.auth import keys
from moorage_nodes.auth.login import Login, LoginRefusedError, Turns
from moorage_nodes.auth.passwords import Passwords
from moorage_nodes.auth.users import User, UserDirectory, Wish
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.tokens import Audience, TokenRefusedError, verify_token

NOW = 1_800_000_000.0
PASSWORD = "correct horse"
LIMIT = 5


@pytest.fixture
async def ann(users: UserDirectory) -> User:
    return await users.put("ann", Wish(password=PASSWORD))


async def test_a_login_answers_tokens_and_where_the_user_lives(login: Login, ann: User, realm: Realm):
    answer = await login.log_in("ann", PASSWORD)
    assert (answer.user_id, answer.server_key) == (ann.record.user_id, "c1")
    assert answer.root_dir_id == f"root:{ann.record.user_id}"
    assert answer.expires_at == "2027-01-15T08:15:00.000Z"
    claims = verify_token(answer.token, realm.trust(), NOW)
    assert (claims.audience, claims.subject, claims.expires) == (
        Audience.ACCESS,
        ann.record.user_id,
        NOW + 900,
    )
    assert claims.data == {"username": "ann", "server_key": "c1", "gen": 1}
    refresh = verify_token(answer.refresh_token, realm.trust(), NOW)
    assert (refresh.audience, refresh.subject, refresh.data) == (
        Audience.REFRESH,
        ann.record.user_id,
        {"gen": 1},
    )


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("ann", "wrong password"),
        ("ann", ""),
        ("nobody", PASSWORD),
        ("", ""),
        ("a/b\0c", PASSWORD),
        ("../realm", PASSWORD),
        ("x" * 5000, PASSWORD),
    ],
)
async def test_every_refusal_is_the_same(login: Login, ann: User, username: str, password: str):
    with pytest.raises(LoginRefusedError) as refused:
        await login.log_in(username, password)
    assert refused.value.as_answer() == LoginRefusedError("").as_answer()


async def test_a_disabled_user_is_refused_like_a_wrong_password(
    login: Login, users: UserDirectory, ann: User
):
    await users.put("ann", Wish(disabled=True))
    with pytest.raises(LoginRefusedError) as refused:
        await login.log_in("ann", PASSWORD)
    assert refused.value.as_answer() == LoginRefusedError("").as_answer()


class Counting:
    """A store, a hasher: whatever is called on it is noted."""

    def __init__(self, target: object, calls: list[str]) -> None:
        self._target = target
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        async def call(*args: Any, **options: Any) -> Any:
            self._calls.append(name)
            return await method(*args, **options)

        return call


async def test_known_and_unknown_users_cost_the_same_calls(
    login: Login, store: MetadataStore, passwords: Passwords, ann: User
):
    calls: list[str] = []
    counted_store: Any = Counting(store, calls)
    counted_passwords: Any = Counting(passwords, calls)
    login._store = login._throttle._store = counted_store
    login._passwords = counted_passwords
    noted: list[list[str]] = []
    for username in ("ann", "nobody"):
        for _ in range(2):
            calls.clear()
            with pytest.raises(LoginRefusedError):
                await login.log_in(username, "wrong password")
            noted.append(list(calls))
    assert noted[0] == noted[2] == ["get_many", "grant_lease", "transact", "verify"]
    assert noted[1] == noted[3] == ["get_many", "transact", "verify"]


@pytest.mark.parametrize("username", ["ann", "nobody"])
async def test_guessing_is_throttled_before_the_password_is_looked_at(login: Login, ann: User, username: str):
    for _ in range(LIMIT):
        with pytest.raises(LoginRefusedError):
            await login.log_in(username, "wrong password")
    for password in ("wrong password", PASSWORD):
        with pytest.raises(ThrottledError) as refused:
            await login.log_in(username, password)
        assert 1 <= refused.value.retry_after <= 60


async def test_a_burst_of_guesses_gets_no_more_tries(login: Login, ann: User):
    guesses = [login.log_in("ann", f"guess {number}") for number in range(40)]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(result, LoginRefusedError) for result in results) == LIMIT
    assert sum(isinstance(result, ThrottledError) for result in results) == 35


async def test_many_devices_with_the_right_password_all_get_in(login: Login, ann: User):
    answers = await asyncio.gather(*(login.log_in("ann", PASSWORD) for _ in range(4 * LIMIT)))
    assert len({answer.token for answer in answers}) == 4 * LIMIT


async def test_a_success_forgives_the_failures_before_it(login: Login, store: MetadataStore, ann: User):
    for _ in range(2):
        for _ in range(LIMIT - 1):
            with pytest.raises(LoginRefusedError):
                await login.log_in("ann", "wrong password")
        await login.log_in("ann", PASSWORD)
    assert await store.get(keys.throttle("ann")) is None


async def test_a_login_stands_when_only_forgiving_fails(
    login: Login, ann: User, monkeypatch: pytest.MonkeyPatch
):
    async def away(_lease: int) -> None:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(login._throttle, "forgive", away)
    assert (await login.log_in("ann", PASSWORD)).user_id == ann.record.user_id


async def test_a_refresh_token_gets_new_tokens(login: Login, ann: User, realm: Realm):
    first = await login.log_in("ann", PASSWORD)
    second = await login.refresh(first.refresh_token)
    assert second.user_id == first.user_id
    assert second.token != first.token
    assert verify_token(second.token, realm.trust(), NOW).data["gen"] == 1
    await login.refresh(second.refresh_token)


@pytest.mark.parametrize("change", ["password", "disable", "disable and enable", "remove", "namesake"])
async def test_a_refresh_token_ends_with_what_it_was_given_for(
    login: Login, users: UserDirectory, ann: User, change: str
):
    refresh_token = (await login.log_in("ann", PASSWORD)).refresh_token
    if change == "password":
        await users.set_password("ann", "a new password")
    if change.startswith("disable"):
        await users.put("ann", Wish(disabled=True))
    if change.endswith("enable"):
        await users.put("ann", Wish(disabled=False))
    if change in {"remove", "namesake"}:
        await users.remove("ann")
    if change == "namesake":
        await users.put("ann", Wish(password=PASSWORD))
    with pytest.raises(TokenRefusedError):
        await login.refresh(refresh_token)


async def test_only_a_refresh_token_refreshes(login: Login, ann: User, realm: Realm):
    access = (await login.log_in("ann", PASSWORD)).token
    expired = realm.signer("auth", lambda: NOW - 7200).sign(Audience.REFRESH, ann.record.user_id, 3600, gen=1)
    for token in (access, expired, "", "x.y.z", jwt.encode({"sub": "ann"}, "k" * 32, "HS256")):
        with pytest.raises(UnauthenticatedError):
            await login.refresh(token)


async def test_what_waits_for_a_turn_is_bounded():
    turns = Turns(2)
    go = asyncio.Event()

    async def hold(name: str) -> None:
        async with turns.take(name):
            await go.wait()

    held = [asyncio.create_task(hold(name)) for name in ("ann", "bob")]
    await asyncio.sleep(0)
    with pytest.raises(ThrottledError):
        await hold("zoe")
    go.set()
    await asyncio.gather(*held)
    await hold("zoe")
    assert not turns._turns
