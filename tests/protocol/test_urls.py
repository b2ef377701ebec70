"""Paths and methods that lead nowhere: never into another server, always an answer in the one shape."""

import pytest
from black_box.http_client import RawAnswer, check_error, check_error_shape, exchange
from black_box.store import RunningStore
from black_box.user import User, new_user


@pytest.fixture(scope="module")
def user(store: RunningStore) -> User:
    """One for all: nothing here changes anything of hers."""
    return new_user(store)


def ask(user: User, target: str, method: str = "GET", token: str | None = None) -> RawAnswer:
    headers = {"Authorization": f"Bearer {token or user.token}"}
    answer = exchange(user.store.url, target, method=method, headers=headers)
    assert answer is not None
    return answer


TRAVERSALS = [
    "META/%2e%2e/%2e%2e/etc/passwd",
    "META/x/%2e%2e/",
    "META/../../internal/users",
    "META/list_directory/..",
    "META/list_directory/%2e%2e",
    "META/list_directory/%2e%2e%2flist_directory%2froot",
    "META/nodes/..%2f..%2f..%2fetc%2fpasswd",
    "META/nodes/x%00y",
    "META//list_directory//no",
    "META/l2/../l3/../../../auth/users",
    "META/l3/internal/register",
    "META/internal/register",
    "META/internal/healthz",
    "BLOCK/chunks/..%2f..%2fx",
    "BLOCK/chunks/%2e%2e/%2e%2e/x",
    "BLOCK/../../meta/x",
    "BLOCK/internal/anything",
    "/auth/../internal/users/x",
    "/auth%2fusers",
    "/auth/users/..%2f..%2finternal",
    "/auth/users/%2e%2e/%2e%2e/x",
    "/internal/users/x",
    "/internal/register",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/..%5c..%5cwindows",
    "/.git/config",
    "/connection.json",
    "/meta",
    "/meta/",
    "/meta/no-such-cluster/list_directory/root",
    "/block/no-such-pool/chunks/x",
    "/notify",
    "/",
    "/index.html",
    "/no/such/path",
    "/authx",
    "/auth/nothing",
    "/get_servers/x",
    "/get_serversx",
    "META/no_such_route",
    "META/files/x/no_such_route",
    "META/l2/no_such_route",
    "META/l3/no_such_route",
    "BLOCK/no_such_route",
    "/%ff%fe",
    "/" + "a/" * 1500,
]


@pytest.mark.parametrize("target", TRAVERSALS, ids=lambda target: target[:60])
def test_a_path_that_leads_nowhere_is_an_error_in_the_one_shape(user: User, target: str):
    meta, block = (server.base.removeprefix(user.store.url) for server in (user.l1, user.block))
    answer = ask(user, target.replace("META", meta).replace("BLOCK", block))
    assert 400 <= answer.status < 500
    assert answer.status != 403 or b"nginx" not in answer.body
    check_error_shape(answer.body.decode(), answer.headers["content-type"])


@pytest.mark.parametrize("target", ["/meta/{key}/../../get_servers", "//get_servers", "/get_servers/"])
def test_an_odd_spelling_of_a_path_answers_as_the_path_or_not_at_all(user: User, target: str):
    answer = ask(user, target.replace("{key}", user.server_key))
    assert answer.status in {200, 400, 404}
    if answer.status != 200:
        check_error_shape(answer.body.decode(), answer.headers["content-type"])


@pytest.mark.parametrize("method", ["PATCH", "DELETE", "PUT", "PROPFIND", "TRACE", "MOORAGE"])
@pytest.mark.parametrize(
    "path",
    [
        "front /get_servers",
        "front /auth",
        "l1 /list_directory/root",
        "l2 /files/x/chunks",
        "l3 /chunks/x/metadata",
        "block /store_chunk",
    ],
)
def test_a_method_that_a_path_has_not_is_405(user: User, method: str, path: str):
    server, _, target = path.partition(" ")
    base = "" if server == "front" else getattr(user, server).base.removeprefix(user.store.url)
    answer = ask(user, base + target, method)
    assert answer.status == 405, answer.body
    check_error_shape(answer.body.decode(), answer.headers["content-type"])


def test_a_path_without_its_last_part_is_not_found(user: User):
    for response in (
        user.l1.put("/create_directory/", json={}),
        user.l1.get("/nodes/"),
        user.block.get("/chunks/"),
    ):
        check_error(response, 404, 405)


def test_a_url_or_a_header_of_absurd_size_is_refused_in_the_one_shape(user: User):
    answer = ask(user, "/get_servers?x=" + "a" * 60_000)
    assert answer.status in {400, 414, 431}
    check_error_shape(answer.body.decode(), answer.headers["content-type"])
    answer = ask(user, "/get_servers", token="t" * 60_000)
    assert answer.status in {400, 401, 414, 431}
    check_error_shape(answer.body.decode(), answer.headers["content-type"])


def test_every_request_has_its_own_request_id(user: User):
    seen = {check_error(user.l1.get("/nodes/nothing"), 404)["request_id"] for _ in range(10)}
    assert len(seen) == 10


def test_the_answers_do_not_say_what_they_are_served_with(user: User):
    for response in (
        user.l1.get("/nodes/root"),
        user.l1.get("/nodes/nothing"),
        user.store.front().get("/no/such"),
    ):
        assert "uvicorn" not in response.headers.get("server", "")
        assert not any(char.isdigit() for char in response.headers.get("server", ""))
