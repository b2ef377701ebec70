"""How many users each metadata cluster has, as the operator asks for it."""

import asyncio
import time
from collections.abc import Mapping

import httpx
import pytest
from realm import ADMIN_TOKEN

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.auth import census as module
from moorage_nodes.auth.census import FRESH_SECONDS, Census
from moorage_nodes.auth.passwords import Passwords
from moorage_nodes.auth.users import UserDirectory, Wish
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.tokens import Audience
from moorage_operator.reconcile.servers import parse_users

PASSWORD = "correct horse battery"


async def asked(census: Census) -> tuple[Mapping[str, int], float]:
    """What a caller gets that asks again while users are being counted."""
    async with asyncio.timeout(60):
        while (found := await census.ask()) is None:
            pass
    return found


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def counting(users: UserDirectory, now: list[float]) -> Census:
    return Census(users, lambda: now[0])


async def test_each_user_counts_where_it_lives_until_it_is_removed(
    counting: Census, users: UserDirectory, now: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "PAGE", 2)
    for name, key in (("ann", "c1"), ("bob", "c2"), ("cem", "c2"), ("dia", "c1"), ("eve", "c2")):
        await users.put(name, Wish(PASSWORD, server_key=key))
    assert await asked(counting) == ({"c1": 2, "c2": 3}, 0.0)  # over three pages
    for name in ("ann", "dia"):
        await users.remove(name)
    now[0] += 5
    # What is there is told with its age, and counted anew when that is too much.
    assert await asked(counting) == ({"c1": 2, "c2": 3}, 5.0)
    now[0] += FRESH_SECONDS
    assert await asked(counting) == ({"c2": 3}, 0.0)
    await counting.close()


class Stuck(UserDirectory):
    """Users in a store that does not answer, or says that it is away."""

    def __init__(self, store: MetadataStore, passwords: Passwords) -> None:
        super().__init__(store, passwords, place=lambda: "c1", clock=time.time)
        self.walks = 0
        self.away = False

    async def list(self, after, limit):
        self.walks += 1
        if self.away:
            raise StoreUnavailableError("away")
        await asyncio.sleep(3600)
        raise AssertionError


async def test_nobody_waits_for_a_long_walk_and_there_is_one_at_a_time(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)
    stuck = Stuck(MemoryStore(), passwords)
    census = Census(stuck)
    assert await asyncio.gather(*(census.ask() for _ in range(5))) == [None] * 5
    assert stuck.walks == 1
    await census.close()


async def test_a_store_that_is_away_is_asked_again(passwords: Passwords):
    stuck = Stuck(MemoryStore(), passwords)
    stuck.away = True
    census = Census(stuck)
    assert await census.ask() is None
    assert await census.ask() is None
    assert stuck.walks == 2
    await census.close()


async def test_status_tells_the_operator_who_has_users_and_who_gets_new_ones(serve, realm):
    server = await serve(clusters=[{"server_key": "c1"}])
    operator = {"Authorization": "Bearer " + realm.signer("operator").sign(Audience.OPERATOR, "operator", 60)}
    async with httpx.AsyncClient() as client:
        answer = await client.put(
            server.public + "/auth/users/ann",
            json={"password": PASSWORD},
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        )
        assert answer.status_code in {200, 201}
        async with asyncio.timeout(60):
            while True:
                found = parse_users((await client.get(server.internal + "/status", headers=operator)).content)
                assert found is not None  # the operator reads what auth servers write
                if found.users is not None:
                    break
    assert found.placing == {"c1"}
    assert found.users == {"c1": 1}
    assert found.age >= 0


async def test_with_no_cluster_left_to_place_on_new_users_are_refused(serve):
    server = await serve(clusters=[])
    async with httpx.AsyncClient() as client:
        answer = await client.put(
            server.public + "/auth/users/ann",
            json={"password": PASSWORD},
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        )
    assert (answer.status_code, answer.json()["error"]) == (409, "no_cluster")
