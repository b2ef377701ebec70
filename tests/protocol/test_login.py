"""PROTOCOL.md, login: tokens, refresh, and nothing for those who guess."""

import datetime as dt
import secrets
import statistics
import time
from typing import Any

import httpx
import jwt
import pytest
from black_box.http_client import Server, check_error, check_ok
from black_box.store import RunningStore
from black_box.user import User, new_user


def log_in(server: Server, username: str, password: str) -> httpx.Response:
    return server.post("/auth", json={"username": username, "password": password})


def without_request_id(response: httpx.Response) -> dict[str, Any]:
    return {name: value for name, value in response.json().items() if name != "request_id"}


def test_login_answers_a_token_and_where_the_user_lives(store: RunningStore, user: User):
    answer = check_ok(log_in(store.front(), user.username, user.password))
    assert answer["token"]
    assert answer["refresh_token"]
    assert answer["root_dir_id"] == f"root:{answer['user_id']}"
    expires = dt.datetime.fromisoformat(answer["expires_at"])
    assert expires.utcoffset() == dt.timedelta(0)
    assert expires > dt.datetime.now(dt.UTC)
    servers = check_ok(store.front().get("/get_servers"))
    assert any(answer["server_key"] in name.split("/") for name in servers["meta_servers"])


def test_wrong_password_and_unknown_user_get_the_same_401(store: RunningStore, user: User):
    wrong = log_in(store.front(), user.username, "not the password")
    unknown = log_in(store.front(), f"nobody-{secrets.token_hex(4)}", "not the password")
    check_error(wrong, 401)
    check_error(unknown, 401)
    assert without_request_id(wrong) == without_request_id(unknown)
    assert set(wrong.headers) == set(unknown.headers)


def test_a_refresh_token_gets_a_new_token_that_works(store: RunningStore, user: User):
    answer = check_ok(store.front().post("/auth/refresh", json={"refresh_token": user.refresh_token}))
    assert answer["server_key"] == user.server_key
    assert answer["user_id"] == user.user_id
    check_ok(user.l1.with_token(answer["token"]).get("/list_directory/root"))


def test_an_access_token_does_not_refresh_and_a_refresh_token_opens_nothing(store: RunningStore, user: User):
    check_error(store.front().post("/auth/refresh", json={"refresh_token": user.token}), 401)
    check_error(store.front().post("/auth/refresh", json={"refresh_token": "no.such.token"}), 401)
    check_error(user.l1.with_token(user.refresh_token).get("/list_directory/root"), 401)


def test_anybody_can_check_a_token_with_the_public_keys(store: RunningStore, user: User):
    keys = jwt.PyJWKSet.from_dict(check_ok(store.front().get("/auth/jwks.json")))
    header = jwt.get_unverified_header(user.token)
    key = keys[header["kid"]]
    assert header["alg"] in {"ES256", "EdDSA"}
    claims = jwt.decode(user.token, key, algorithms=[header["alg"]], options={"verify_aud": False})
    assert claims["sub"] == user.user_id
    assert claims["exp"] > time.time()
    assert claims["aud"]
    assert claims["iss"]


def failures_until_throttled(server: Server, username: str) -> int:
    for tries in range(60):
        response = log_in(server, username, f"guess {tries}")
        if response.status_code == 429:
            check_error(response, 429)
            assert int(response.headers["Retry-After"]) >= 1
            return tries
        check_error(response, 401)
    raise AssertionError("60 wrong passwords in a row were all answered")


def test_guessing_is_throttled_per_account_on_every_replica_at_once(local_store: RunningStore, user: User):
    one, other = (local_store.direct("auth", "public", replica) for replica in (0, 1))
    failures_until_throttled(one, user.username)
    check_error(log_in(other, user.username, "one more guess"), 429)
    for _ in range(4):
        check_error(log_in(local_store.front(), user.username, "one more guess"), 429)
    bystander = new_user(local_store)
    check_ok(log_in(local_store.front(), bystander.username, bystander.password))


def test_guesses_at_once_over_both_replicas_are_counted_together(local_store: RunningStore, user: User):
    """The limit is the account's: spreading guesses over replicas wins none."""
    allowed_by_one = failures_until_throttled(
        local_store.direct("auth", "public", 0), new_user(local_store).username
    )
    assert failures_until_throttled(local_store.front(), user.username) <= allowed_by_one + 1


def test_a_throttled_account_is_throttled_whatever_the_password(store: RunningStore, user: User):
    """Else a guesser would still learn which guess was right."""
    failures_until_throttled(store.front(), user.username)
    check_error(log_in(store.front(), user.username, user.password), 429)
    check_ok(user.l1.get("/list_directory/root"))  # tokens that are out go on


def test_unknown_accounts_are_throttled_like_known_ones(store: RunningStore, user: User):
    known = failures_until_throttled(store.front(), user.username)
    assert failures_until_throttled(store.front(), f"nobody-{secrets.token_hex(4)}") == known


def test_the_time_of_a_refusal_tells_no_user_from_nobody(local_store: RunningStore):
    """Once more where the machine was busy with something else: a difference that is there stays."""
    for _ in range(3):
        known, unknown = time_refusals(local_store)
        if abs(known - unknown) <= 0.1 * max(known, unknown):
            return
    pytest.fail(f"{known=:.4f} {unknown=:.4f}")


def time_refusals(local_store: RunningStore) -> tuple[float, float]:
    """Seconds for a user and for nobody: medians of 200 tries each, in turns so that a slow minute meets both; few per
    account, below the throttle.
    """
    tries_per_account, accounts = 8, 25
    admin = local_store.admin()
    run = secrets.token_hex(4)
    for number in range(accounts):
        assert admin.put(f"/auth/users/timed-{run}-{number}", json={"password": run}).is_success
    taken: dict[str, list[float]] = {"timed": [], "nobody": []}
    for attempt in range(tries_per_account):
        for number in range(accounts):
            for kind, times in taken.items():
                began = time.perf_counter()
                response = log_in(local_store.front(), f"{kind}-{run}-{number}", f"guess {attempt}")
                times.append(time.perf_counter() - began)
                assert response.status_code == 401
    known, unknown = (statistics.median(times) for times in taken.values())
    return known, unknown
