"""Revocation: who is refused when, how old knowledge may be, and how often it is asked for."""

import asyncio
from typing import Any

import pytest

from moorage.core.errors import NotFoundError, StoreUnavailableError
from moorage_nodes import generation
from moorage_nodes.generation import MAX_AGE, REFRESH_AGE, GenerationCache, UserState, judge
from moorage_nodes.tokens import Audience, Claims, TokenRefusedError


class Directory:
    """The peer: answers from `users`, or as a server that is away."""

    def __init__(self) -> None:
        self.users: dict[str, UserState] = {}
        self.asked: list[str] = []
        self.away = False
        self.pause = 0.0

    async def get(self, path: str, answer: type[UserState]) -> UserState:
        assert answer is UserState
        self.asked.append(path)
        await asyncio.sleep(self.pause)
        if self.away:
            raise StoreUnavailableError("away")
        user_id = path.removeprefix("/internal/users/").partition("?")[0]
        if user_id not in self.users:
            raise NotFoundError("unknown")
        return self.users[user_id]

    def set(self, user_id: str, generation: int, *, disabled: bool = False, age: float = 0.0) -> None:
        self.users[user_id] = UserState(
            generation=generation, disabled=disabled, server_key="c1", username="ann", age=age
        )


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def access(gen: Any = 1, user_id: str = "u1") -> Claims:
    return Claims(Audience.ACCESS, "auth", user_id, "t", 9e9, {"gen": gen, "server_key": "c1"})


@pytest.fixture
def directory() -> Directory:
    directory = Directory()
    directory.set("u1", 1)
    return directory


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(directory: Directory, clock: Clock) -> GenerationCache:
    return GenerationCache(lambda _key: directory, clock)  # type: ignore[arg-type, return-value]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_current_token_is_asked_about_once(cache: GenerationCache, directory: Directory):
    assert not cache.passes(access())
    await cache.check(access())
    for _ in range(10):
        assert cache.passes(access())
        await cache.check(access())
    assert directory.asked == ["/internal/users/u1?generation=1"]


@pytest.mark.parametrize(
    ("generation", "disabled", "token", "verdict"),
    [
        (2, False, 2, True),
        (2, False, 1, False),
        (2, False, 3, None),
        (2, True, 2, False),
        (2, True, 1, False),
        (2, True, 3, None),
        (2, False, None, True),
        (2, True, None, False),
        (2, False, "2", False),
    ],
)
def test_a_token_is_judged_by_its_generation(
    generation: int, disabled: bool, token: Any, verdict: bool | None
):
    state = UserState(generation=generation, disabled=disabled, server_key="c1", username="ann")
    assert judge(state, access(token)) is verdict


def test_nobody_is_never_current():
    assert judge(None, access()) is False


async def test_a_stale_token_is_refused_without_asking_again(cache: GenerationCache, directory: Directory):
    directory.set("u1", 2)
    for _ in range(5):
        with pytest.raises(TokenRefusedError):
            await cache.check(access(1))
        assert not cache.passes(access(1))
    assert len(directory.asked) == 1


@pytest.mark.parametrize("user", ["unknown", "disabled"])
async def test_a_user_gone_or_disabled_is_refused(cache: GenerationCache, directory: Directory, user: str):
    directory.set("disabled", 1, disabled=True)
    for _ in range(3):
        with pytest.raises(TokenRefusedError):
            await cache.check(access(1, user))
    assert len(directory.asked) == 1


async def test_a_token_newer_than_what_is_known_is_let_in_at_once(
    cache: GenerationCache, directory: Directory
):
    """After a new password the user logs in and goes on; nobody waits for a cache to age."""
    await cache.check(access(1))
    directory.set("u1", 2)
    await cache.check(access(2))
    assert directory.asked[-1] == "/internal/users/u1?generation=2"
    with pytest.raises(TokenRefusedError):
        await cache.check(access(1))


async def test_a_change_is_known_within_a_minute(cache: GenerationCache, directory: Directory, clock: Clock):
    """The first request after `REFRESH_AGE` still passes and has the answer fetched for those behind it; after
    `MAX_AGE` nobody passes on old knowledge."""
    await cache.check(access())
    directory.set("u1", 2)
    clock.now += REFRESH_AGE
    assert not cache.passes(access())
    await cache.check(access())
    await settle()
    with pytest.raises(TokenRefusedError):
        await cache.check(access())
    assert MAX_AGE < 60


async def test_after_the_longest_age_the_answer_is_waited_for(
    cache: GenerationCache, directory: Directory, clock: Clock
):
    await cache.check(access())
    directory.set("u1", 2)
    clock.now += MAX_AGE
    with pytest.raises(TokenRefusedError):
        await cache.check(access())


async def test_a_short_outage_of_the_peer_is_not_noticed(
    cache: GenerationCache, directory: Directory, clock: Clock, caplog: pytest.LogCaptureFixture
):
    await cache.check(access())
    directory.away = True
    clock.now += MAX_AGE - 1
    await cache.check(access())
    await settle()
    assert "cannot be learned" in caplog.text
    clock.now += 1
    with pytest.raises(StoreUnavailableError):
        await cache.check(access())
    directory.away = False
    await cache.check(access())


async def test_an_unknown_user_waits_for_the_peer_and_hears_that_it_is_away(
    cache: GenerationCache, directory: Directory
):
    directory.away = True
    with pytest.raises(StoreUnavailableError):
        await cache.check(access())


async def test_look_ups_of_one_user_are_shared(cache: GenerationCache, directory: Directory):
    directory.pause = 0.02
    directory.set("u2", 1)
    await asyncio.gather(*(cache.check(access(1, user)) for user in ("u1", "u2") * 20))
    assert len(directory.asked) == 2


async def test_a_waiter_that_leaves_takes_the_answer_from_nobody(
    cache: GenerationCache, directory: Directory
):
    directory.pause = 0.02
    first, second = (asyncio.create_task(cache.check(access())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert len(directory.asked) == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_question_that_was_under_way_when_the_token_was_made_is_asked_again(
    cache: GenerationCache, directory: Directory
):
    directory.pause = 0.02
    old = asyncio.create_task(cache.check(access(1)))
    new = asyncio.create_task(cache.check(access(2)))
    await old
    # What was asked before has been answered with the old generation; the next answer will have the new one.
    directory.set("u1", 2)
    await new
    assert len(directory.asked) == 2


async def test_a_token_ahead_of_the_directory_itself_is_refused(cache: GenerationCache, directory: Directory):
    """After the auth store came back from a backup, say: ask, then refuse; never for ever."""
    with pytest.raises(TokenRefusedError):
        await cache.check(access(5))
    assert len(directory.asked) == 2


async def test_ages_add_up_over_a_chain_of_caches(directory: Directory, clock: Clock):
    """Auth -> L3 -> block: what block believes is never older than one cache may be."""
    l3 = GenerationCache(lambda _key: directory, clock)  # type: ignore[arg-type, return-value]

    class FromL3:
        async def get(self, path: str, _answer: type[UserState]) -> UserState:
            user_id, _, generation = path.removeprefix("/internal/users/").partition("?generation=")
            return await l3.state_of(user_id, "c1", generation=int(generation))

    block = GenerationCache(lambda _key: FromL3(), clock)  # type: ignore[arg-type, return-value]
    await l3.state_of("u1", "c1")
    directory.set("u1", 2)
    clock.now += REFRESH_AGE - 1
    await block.check(access())  # L3 still answers from what it learned 29 s ago
    clock.now += 1
    assert not block.passes(access())
    await block.check(access())
    await settle()
    with pytest.raises(TokenRefusedError):
        await block.check(access())
    await block.check(access(2))


async def test_a_chain_lets_a_new_token_in_at_once(directory: Directory, clock: Clock):
    l3 = GenerationCache(lambda _key: directory, clock)  # type: ignore[arg-type, return-value]
    assert (await l3.state_of("u1", "c1")).generation == 1
    directory.set("u1", 2)
    assert (await l3.state_of("u1", "c1")).generation == 1
    assert (await l3.state_of("u1", "c1", generation=2)).generation == 2


async def test_what_is_told_on_says_its_age(cache: GenerationCache, directory: Directory, clock: Clock):
    directory.set("u1", 1, age=10)
    assert (await cache.state_of("u1", "c1")).age == 10
    clock.now += 5
    assert (await cache.state_of("u1", "c1")).age == 15
    directory.set("u1", 1)
    clock.now += 15
    assert (await cache.state_of("u1", "c1")).age == 0


async def test_what_is_told_on_may_be_older_while_the_peer_is_away(
    cache: GenerationCache, directory: Directory, clock: Clock
):
    await cache.state_of("u1", "c1")
    directory.away = True
    clock.now += MAX_AGE - 1
    assert (await cache.state_of("u1", "c1")).age == MAX_AGE - 1
    with pytest.raises(StoreUnavailableError):
        await cache.state_of("u1", "c1", generation=2)
    clock.now += 1
    with pytest.raises(StoreUnavailableError):
        await cache.state_of("u1", "c1")


async def test_an_unknown_user_is_not_found(cache: GenerationCache):
    with pytest.raises(NotFoundError):
        await cache.state_of("nobody", "c1")


async def test_the_number_of_users_is_bounded(
    cache: GenerationCache, directory: Directory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(generation, "MAX_USERS", 3)
    for number in range(5):
        directory.set(f"u{number}", 1)
        await cache.check(access(1, f"u{number}"))
    assert list(cache._known) == ["u2", "u3", "u4"]
