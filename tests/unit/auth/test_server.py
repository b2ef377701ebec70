"""Auth servers over real HTTP: two replicas on one etcd."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import jwt
import pytest
from realm import ADMIN_TOKEN, Realm, new_key, private_pem, trust_entry
from serving import Serving

from moorage.core.errors import InvalidFieldError
from moorage_nodes.auth.server import open_server
from moorage_nodes.generation import GenerationCache, UserState
from moorage_nodes.metrics import Metrics
from moorage_nodes.peers import PeerDirectory
from moorage_nodes.server import open_shared
from moorage_nodes.settings import Peers
from moorage_nodes.tokens import Audience, Claims, TokenRefusedError, Verifier

Serve = Callable[..., Awaitable[Serving]]
PASSWORD = "correct horse"
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture
async def replicas(serve: Serve) -> list[Serving]:
    return [await serve(throttle_failures=5), await serve(throttle_failures=5)]


@pytest.fixture
async def one(replicas: list[Serving]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=replicas[0].public) as client:
        yield client


@pytest.fixture
async def other(replicas: list[Serving]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=replicas[1].public) as client:
        yield client


async def make(client: httpx.AsyncClient, name: str = "ann", **more: Any) -> dict[str, Any]:
    answer = await client.put(f"/auth/users/{name}", headers=ADMIN, json={"password": PASSWORD, **more})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def log_in(client: httpx.AsyncClient, name: str = "ann", password: str = PASSWORD) -> httpx.Response:
    return await client.post("/auth", json={"username": name, "password": password})


async def test_a_user_made_on_one_replica_logs_in_on_the_other(
    one: httpx.AsyncClient, other: httpx.AsyncClient
):
    made = await make(one)
    assert made.keys() == {"username", "user_id", "server_key", "root_dir_id", "disabled", "created"}
    assert made["server_key"] == "c1"
    answer = await log_in(other)
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {
        "token",
        "server_key",
        "expires_at",
        "refresh_token",
        "root_dir_id",
        "user_id",
    }
    assert (body["user_id"], body["root_dir_id"]) == (made["user_id"], made["root_dir_id"])
    again = await one.post("/auth/refresh", json={"refresh_token": body["refresh_token"]})
    assert again.status_code == 200
    assert again.json()["user_id"] == made["user_id"]


async def test_guessing_is_throttled_over_both_replicas(one: httpx.AsyncClient, other: httpx.AsyncClient):
    await make(one)
    for name in ("ann", "nobody"):
        answers = await asyncio.gather(
            *(log_in(client, name, f"guess {n}") for n in range(10) for client in (one, other))
        )
        statuses = [answer.status_code for answer in answers]
        assert (statuses.count(401), statuses.count(429)) == (5, 15)
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 300
        assert refused.json()["error"] == "throttled"
        assert (await log_in(other, name)).status_code == 429


async def test_all_refused_logins_are_one_answer(one: httpx.AsyncClient):
    await make(one)
    await make(one, "off", disabled=True)
    answers = [
        await log_in(one, "ann", "wrong password"),
        await log_in(one, "nobody", PASSWORD),
        await log_in(one, "off", PASSWORD),
        await log_in(one, "a/b", PASSWORD),
        await log_in(one, "x" * 3000, PASSWORD),
    ]
    bodies = [{k: v for k, v in answer.json().items() if k != "request_id"} for answer in answers]
    assert [answer.status_code for answer in answers] == [401] * 5
    assert all(body == bodies[0] for body in bodies)
    assert len({frozenset(answer.headers) for answer in answers}) == 1


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b'{"username": "ann"}', 422),
        (b'{"username": "ann", "password": 5}', 422),
        (b'{"username": "ann", "password": "x", "more": 1}', 422),
        (b'{"username": "ann", "password": "' + b"x" * 20_000 + b'"}', 413),
    ],
)
async def test_a_login_that_makes_no_sense_is_refused_as_such(
    one: httpx.AsyncClient, content: bytes, status: int
):
    assert (await one.post("/auth", content=content)).status_code == status


async def test_the_life_of_a_user(one: httpx.AsyncClient, other: httpx.AsyncClient):
    made = await make(one)
    assert await make(other) == made
    assert (await other.get("/auth/users/ann", headers=ADMIN)).json() == made
    taken = await one.put("/auth/users/ann", headers=ADMIN, json={"password": "another password"})
    assert (taken.status_code, taken.json()["error"]) == (409, "user_exists")
    assert "POST /auth/users/ann/password" in taken.json()["detail"]
    moved = await one.put("/auth/users/ann", headers=ADMIN, json={"server_key": "c2"})
    assert (moved.status_code, moved.json()["error"]) == (409, "user_exists")
    off = await one.put("/auth/users/ann", headers=ADMIN, json={"disabled": True})
    assert off.json() == {**made, "disabled": True}
    assert (await log_in(other)).status_code == 401
    await one.put("/auth/users/ann", headers=ADMIN, json={"disabled": False})
    changed = await one.post("/auth/users/ann/password", headers=ADMIN, json={"password": "a new password"})
    assert changed.json() == made
    assert (await log_in(other)).status_code == 401
    assert (await log_in(other, password="a new password")).status_code == 200
    assert (await one.delete("/auth/users/ann", headers=ADMIN)).json() == made
    assert (await log_in(other, password="a new password")).status_code == 401
    for answer in (
        await other.get("/auth/users/ann", headers=ADMIN),
        await other.delete("/auth/users/ann", headers=ADMIN),
        await other.post("/auth/users/ann/password", headers=ADMIN, json={"password": PASSWORD}),
    ):
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


async def test_a_cluster_may_be_chosen_also_one_that_takes_nobody_by_itself(one: httpx.AsyncClient):
    assert (await make(one, server_key="c2"))["server_key"] == "c2"
    answer = await one.put("/auth/users/bob", headers=ADMIN, json={"password": PASSWORD, "server_key": "c9"})
    assert (answer.status_code, answer.json()["field"]) == (422, "server_key")


async def test_when_no_cluster_takes_users_a_new_one_is_refused(serve: Serve):
    running = await serve(clusters=[{"server_key": "c1", "accept_new_users": False}])
    async with httpx.AsyncClient(base_url=running.public) as client:
        answer = await client.put("/auth/users/ann", headers=ADMIN, json={"password": PASSWORD})
        assert (answer.status_code, answer.json()["error"]) == (409, "no_cluster")


@pytest.mark.parametrize("name", ["%C3%BC", "a%20b", "x" * 65, "..", "%2E%2E", "a%00b", "%0a", "a%2Fb"])
async def test_a_name_out_of_the_alphabet_is_no_name(one: httpx.AsyncClient, name: str):
    answer = await one.put(f"/auth/users/{name}", headers=ADMIN, json={"password": PASSWORD})
    assert answer.status_code in {404, 405, 422}
    assert (await one.get("/auth/users", headers=ADMIN)).json()["users"] == []


async def test_users_are_listed_in_pages(one: httpx.AsyncClient):
    for name in ("zoe", "bob", "ann"):
        await make(one, name)
    first = (await one.get("/auth/users?limit=2", headers=ADMIN)).json()
    assert [user["username"] for user in first["users"]] == ["ann", "bob"]
    rest = (
        await one.get("/auth/users", headers=ADMIN, params={"limit": 2, "cursor": first["next_cursor"]})
    ).json()
    assert [user["username"] for user in rest["users"]] == ["zoe"]
    assert rest["next_cursor"] is None
    assert "argon2" not in json.dumps([first, rest])
    for query in ("limit=0", "limit=1001", "cursor=a%20b"):
        assert (await one.get(f"/auth/users?{query}", headers=ADMIN)).status_code == 422


async def test_administration_wants_the_admin_token(one: httpx.AsyncClient):
    await make(one)
    token = (await log_in(one)).json()["token"]
    for headers in (
        {},
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"Bearer {ADMIN_TOKEN[:-1]}"},
        {"Authorization": ADMIN_TOKEN},
    ):
        for answer in (
            await one.get("/auth/users", headers=headers),
            await one.get("/auth/users/ann", headers=headers),
            await one.put("/auth/users/bob", headers=headers, json={"password": PASSWORD}),
            await one.post("/auth/users/ann/password", headers=headers, json={"password": PASSWORD}),
            await one.delete("/auth/users/ann", headers=headers),
        ):
            assert answer.status_code == 401
    assert (await log_in(one)).status_code == 200


async def test_the_admin_token_can_change_while_the_server_runs(
    one: httpx.AsyncClient, realm: Realm, replicas: list[Serving]
):
    path = realm.folder / "admin-token"
    path.write_text("another-admin-token-42\n")
    for live in replicas[0].process.probes.shared.live_files:
        live.refresh()
    assert (await one.get("/auth/users", headers=ADMIN)).status_code == 401
    new = {"Authorization": "Bearer another-admin-token-42"}
    assert (await one.get("/auth/users", headers=new)).status_code == 200


async def test_the_public_keys_check_the_tokens(
    one: httpx.AsyncClient, realm: Realm, replicas: list[Serving]
):
    await make(one)
    token = (await log_in(one)).json()["token"]
    answer = await one.get("/auth/jwks.json")
    keys = jwt.PyJWKSet.from_dict(answer.json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, ["ES256"], audience=Audience.ACCESS.value)["username"] == "ann"
    # Only what signs access tokens is told; during a rotation there are two.
    assert len(keys.keys) == 1
    realm.write_trust(trust_entry(new_key(), "auth", [Audience.ACCESS]))
    for live in replicas[0].process.probes.shared.live_files:
        live.refresh()
    assert len((await one.get("/auth/jwks.json")).json()["keys"]) == 2


async def test_a_rotation_refuses_nobody(one: httpx.AsyncClient, realm: Realm, replicas: list[Serving]):
    """Publish, then sign with the new key: old and new tokens are good all along."""
    await make(one)
    before = (await log_in(one)).json()
    key = new_key()
    realm.write_trust(trust_entry(key, "auth", [Audience.ACCESS, Audience.REFRESH]))
    live_files = replicas[0].process.probes.shared.live_files
    for live in live_files:
        live.refresh()
    assert (await one.post("/auth/refresh", json={"refresh_token": before["refresh_token"]})).is_success
    (realm.folder / "auth.pem").write_bytes(private_pem(key))
    for live in live_files:
        live.refresh()
    after = (await one.post("/auth/refresh", json={"refresh_token": before["refresh_token"]})).json()
    kids = {jwt.get_unverified_header(answer["token"])["kid"] for answer in (before, after)}
    assert len(kids) == 2
    assert (await one.post("/auth/refresh", json={"refresh_token": after["refresh_token"]})).is_success


async def test_peers_learn_a_users_state_on_the_internal_port(
    one: httpx.AsyncClient, realm: Realm, replicas: list[Serving]
):
    made = await make(one)
    urls = tuple(running.internal for running in replicas)
    peers = PeerDirectory(Peers(auth=urls), realm.signer("l1"), Metrics())
    state = await peers.auth().get(f"/internal/users/{made['user_id']}?generation=1", UserState)
    assert state == UserState(generation=1, disabled=False, server_key="c1", username="ann")
    realm_ids = {(await peers.auth().get("/internal/realm", dict))["realm_id"] for _ in range(2)}
    assert len(realm_ids) == 1
    peers.close()


@pytest.mark.parametrize("path", ["/internal/users/u1", "/internal/realm", "/status"])
async def test_the_internal_port_lets_in_none_but_peers(replicas: list[Serving], realm: Realm, path: str):
    headers: list[dict[str, str]] = [{}, ADMIN]
    for role, audience in (
        ("auth", Audience.ACCESS),
        ("l1", Audience.SERVICE_L2),
        ("block", Audience.SERVICE_L3),
    ):
        headers.append({"Authorization": "Bearer " + realm.signer(role).sign(audience, "u1", 60)})
    async with httpx.AsyncClient() as client:
        for each in headers:
            assert (await client.get(replicas[0].internal + path, headers=each)).status_code == 401
        # and the public port has none of it
        role, audience = (
            ("operator", Audience.OPERATOR) if path == "/status" else ("l1", Audience.SERVICE_AUTH)
        )
        good = {"Authorization": "Bearer " + realm.signer(role).sign(audience, role, 60)}
        assert (await client.get(replicas[0].public + path, headers=good)).status_code == 404
        assert (await client.get(replicas[0].internal + path, headers=good)).status_code != 401


async def test_a_revoked_token_is_refused_by_whoever_asks_auth(
    one: httpx.AsyncClient, realm: Realm, replicas: list[Serving]
):
    """The whole way: login, a server's cache that asks over HTTP, a new password, another login."""
    await make(one)
    verifier = Verifier(realm.trust(), time.time)
    peers = PeerDirectory(Peers(auth=(replicas[1].internal,)), realm.signer("l1"), Metrics())
    monotonic = [0.0]
    cache = GenerationCache(lambda _key: peers.auth(), lambda: monotonic[0])

    async def claims(password: str) -> Claims:
        return verifier.verify((await log_in(one, password=password)).json()["token"], Audience.ACCESS)

    old = await claims(PASSWORD)
    await cache.check(old)
    await one.post("/auth/users/ann/password", headers=ADMIN, json={"password": "a new password"})
    new = await claims("a new password")
    await cache.check(new)
    with pytest.raises(TokenRefusedError):
        await cache.check(old)
    await one.delete("/auth/users/ann", headers=ADMIN)
    monotonic[0] += 60
    with pytest.raises(TokenRefusedError):
        await cache.check(new)
    peers.close()


async def test_no_secret_is_in_the_log(
    one: httpx.AsyncClient, replicas: list[Serving], caplog: pytest.LogCaptureFixture
):
    await make(one)
    answer = (await log_in(one)).json()
    await log_in(one, "ann", "a wrong secret")
    await log_in(one, "typed-password-as-name", "x")
    await one.get(f"/auth/users?cursor={answer['token']}", headers=ADMIN)
    await one.get("/auth/users", headers={"Authorization": f"Bearer {answer['token']}"})
    written = replicas[0].lines() + caplog.text
    for secret in (
        PASSWORD,
        "a wrong secret",
        "typed-password-as-name",
        ADMIN_TOKEN,
        answer["token"].split(".")[1],
        answer["refresh_token"].split(".")[1],
        "argon2",
    ):
        assert secret not in written
    reasons = [json.loads(line).get("reason") for line in replicas[0].lines().splitlines()]
    assert "unknown user or wrong password" in reasons


async def test_store_calls_are_counted(one: httpx.AsyncClient, replicas: list[Serving]):
    await make(one)
    async with httpx.AsyncClient() as client:
        text = (await client.get(replicas[0].internal + "/metrics")).text
        assert 'moorage_store_calls_total{operation="transact",outcome="ok",store="etcd"}' in text
        ready = (await client.get(replicas[0].internal + "/readyz")).json()
        assert ready["checks"].keys() == {"etcd", "signing_key"}


@pytest.mark.parametrize("missing", ["etcd", "auth"])
async def test_settings_without_their_section_are_refused(realm: Realm, missing: str):
    sections: dict[str, Any] = {"etcd": {"endpoints": ["127.0.0.1:1"]}}
    if missing == "etcd":
        sections = {}
    else:
        sections["auth"] = None
    settings = realm.settings("auth", **sections)
    with pytest.raises(InvalidFieldError, match="needs"):
        await open_server(settings, open_shared(settings))


async def test_a_bad_admin_token_file_stops_the_start(realm: Realm):
    (realm.folder / "admin-token").write_text("short")
    settings = realm.settings("auth", etcd={"endpoints": ["127.0.0.1:1"]})
    with pytest.raises(InvalidFieldError, match="admin token"):
        await open_server(settings, open_shared(settings))
