"""PROTOCOL.md: the user life cycle by admin token, and how fast a user is locked out."""

import secrets
import time
from collections.abc import Callable

import pytest
from black_box.http_client import check_error, check_ok
from black_box.store import RunningStore
from black_box.user import User, new_user


def test_a_new_user_is_placed_on_a_cluster_and_asking_again_changes_nothing(store: RunningStore):
    admin = store.admin()
    path = f"/auth/users/twice-{secrets.token_hex(4)}"
    first = admin.put(path, json={"password": "correct horse"})
    again = admin.put(path, json={"password": "correct horse"})
    assert first.is_success
    assert again.is_success
    assert first.json() == again.json()
    assert first.json()["server_key"] in check_ok(store.front().get("/get_servers"))["clusters"]


def test_a_taken_username_with_another_password_is_refused_and_the_old_one_stays(
    store: RunningStore, user: User
):
    check_error(store.admin().put(f"/auth/users/{user.username}", json={"password": "another"}), 409)
    user.log_in()


def test_users_can_be_asked_for_singly_and_as_a_list(store: RunningStore, user: User):
    admin = store.admin()
    one = check_ok(admin.get(f"/auth/users/{user.username}"))
    assert one["username"] == user.username
    assert one["user_id"] == user.user_id
    assert one["server_key"] == user.server_key
    found, cursor = [], None
    while True:
        page = check_ok(admin.get("/auth/users", params={"cursor": cursor} if cursor else {}))
        found += [each["username"] for each in page["users"]]
        cursor = page.get("next_cursor")
        if not cursor:
            break
    assert found.count(user.username) == 1
    assert "password" not in str(one).lower()


def test_an_unknown_user_is_not_found(store: RunningStore):
    name = f"nobody-{secrets.token_hex(4)}"
    check_error(store.admin().get(f"/auth/users/{name}"), 404)
    check_error(store.admin().post(f"/auth/users/{name}/password", json={"password": "some password"}), 404)


def test_a_new_password_replaces_the_old_one(store: RunningStore, user: User):
    old = user.password
    response = store.admin().post(f"/auth/users/{user.username}/password", json={"password": "brand new 1"})
    assert response.is_success
    check_error(store.front().post("/auth", json={"username": user.username, "password": old}), 401)
    user.password = "brand new 1"
    user.log_in()


def test_a_deleted_user_is_gone_and_one_of_the_same_name_is_somebody_else(store: RunningStore, user: User):
    user.save("letter", [b"dear diary"])
    admin = store.admin()
    assert admin.delete(f"/auth/users/{user.username}").is_success
    check_error(admin.get(f"/auth/users/{user.username}"), 404)
    login = {"username": user.username, "password": user.password}
    check_error(store.front().post("/auth", json=login), 401)
    check_error(store.front().post("/auth/refresh", json={"refresh_token": user.refresh_token}), 401)
    assert admin.put(f"/auth/users/{user.username}", json={"password": user.password}).is_success
    successor = User(store, user.username, user.password)
    assert successor.user_id != user.user_id
    assert successor.listing() == {}
    check_error(successor.l1.get("/files/letter/metadata"), 404)


@pytest.mark.parametrize("name", ["a b", "ü", "x" * 300, "a%2Fb", "%2e%2e", "a%00b", "%0a"])
def test_usernames_out_of_the_alphabet_are_refused(store: RunningStore, name: str):
    check_error(store.admin().put(f"/auth/users/{name}", json={"password": "some password"}), 400, 404, 422)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"password": ""},
        {"password": None},
        {"password": 5},
        {"password": "x" * 5000},
        {"password": "ok-ok-ok", "admin": True},
        {"password": "ok-ok-ok", "disabled": "no"},
        {"password": "ok-ok-ok", "server_key": "no-such-cluster"},
    ],
    ids=["none", "empty", "null", "number", "huge", "unknown field", "text as bool", "unknown cluster"],
)
def test_a_user_is_not_made_from_wrong_fields(store: RunningStore, body: dict[str, object]):
    path = f"/auth/users/wrong-{secrets.token_hex(4)}"
    check_error(store.admin().put(path, json=body), 400, 404, 409, 413, 422)
    check_error(store.admin().get(path), 404)


def test_user_management_wants_the_admin_token(store: RunningStore, user: User):
    path = f"/auth/users/{user.username}"
    for token in (
        None,
        user.token,
        user.refresh_token,
        "guess",
        store.admin_token + "x",
        store.admin_token[:-1],
    ):
        server = store.front(token)
        for response in (
            server.get("/auth/users"),
            server.get(path),
            server.put(path, json={"password": "mine from now"}),
            server.post(path + "/password", json={"password": "mine from now"}),
            server.delete(path),
        ):
            check_error(response, 401, 403)
    user.log_in()


def test_a_user_disabled_deleted_or_with_a_new_password_is_refused_everywhere_within_a_minute(
    store: RunningStore,
):
    admin = store.admin()
    disabled, renewed, deleted = victims = [new_user(store, "locked") for _ in range(3)]
    probes: dict[str, Callable[[User], int]] = {
        "l1": lambda user: user.l1.get("/list_directory/root").status_code,
        "l2": lambda user: user.l2.get("/files/own/chunks").status_code,
        "l3": lambda user: user.l3.get(f"/chunks/{chunk}/metadata").status_code,
        "block": lambda user: user.block.get("/files/own/content").status_code,
    }
    for user in victims:
        user.save("own", [b"mine"])
        chunk = user.chunks("own")[0]["chunk_id"]
        assert [probe(user) for probe in probes.values()] == [200] * 4
    began = time.monotonic()
    body = {"password": disabled.password, "disabled": True}
    assert admin.put(f"/auth/users/{disabled.username}", json=body).is_success
    assert admin.post(f"/auth/users/{renewed.username}/password", json={"password": "new-one-1"}).is_success
    assert admin.delete(f"/auth/users/{deleted.username}").is_success
    for user in victims:
        login = {"username": user.username, "password": user.password}
        check_error(store.front().post("/auth", json=login), 401)
        check_error(store.front().post("/auth/refresh", json={"refresh_token": user.refresh_token}), 401)
    waiting = {(name, user) for name in probes for user in victims}
    while waiting:
        assert time.monotonic() - began < 60, f"still let in: {[name for name, _ in waiting]}"
        # Both replicas of a server must have learnt it, so one 401 is not enough.
        waiting = {(name, user) for name, user in waiting if {probes[name](user) for _ in range(4)} != {401}}
        time.sleep(1)
    assert admin.put(f"/auth/users/{disabled.username}", json={**body, "disabled": False}).is_success
    disabled.log_in()
