"""What a client may count on of its connections, whatever the answer is."""

import time

import pytest
from black_box.http_client import check_error_shape
from black_box.raw import RawConnection
from black_box.user import User


def target(user: User, path: str) -> str:
    return user.block.base.removeprefix(user.store.url) + path


def begin_upload(user: User) -> str:
    token: str = user.begin("upload")["upload_token"]
    return token


@pytest.mark.parametrize(
    ("method", "path", "kind", "size", "status"),
    [
        ("PUT", "/chunks/c", "nobody", 20, 401),
        ("PUT", "/chunks/c", "nobody", 3_000_000, 401),
        ("POST", "/store_chunk", "nobody", 20, 401),
        ("PUT", "/chunks/c%20c", "upload", 3_000_000, 422),
        ("PUT", "/chunks/c", "access", 20, 409),
        ("PUT", "/chunks/c", "upload", 9_000_000, 413),
        ("POST", "/store_chunk", "upload", 60_000_000, 413),
        ("POST", "/no/such/path", "upload", 20, 404),
        ("PATCH", "/chunks/c", "upload", 20, 405),
        ("GET", "/chunks/c", "access", 20, 404),
    ],
)
def test_a_refusal_before_the_body_has_come_leaves_the_connection_as_usable_as_it_says(
    user: User, method: str, path: str, kind: str, size: int, status: int
):
    """A client that gets `keep-alive` sends its next request on that connection."""
    tokens = {
        "nobody": "wrong",
        "access": user.token,
        "upload": "" if kind != "upload" else begin_upload(user),
    }
    headers = {"Authorization": f"Bearer {tokens[kind]}"}
    with RawConnection(user.store.url) as connection:
        connection.send_head(method, target(user, path), {**headers, "Content-Length": str(size)})
        time.sleep(0.2)  # long enough for the server to have made up its mind
        connection.send(b"x" * size)
        answer = connection.read_answer()
        assert answer.status == status, answer.body
        check_error_shape(answer.body.decode(), answer.headers["content-type"])
        assert answer.headers["connection"] == "keep-alive"
        connection.send_head("GET", "/get_servers", {})
        assert connection.read_answer().status == 200


def test_a_refusal_before_a_body_of_unsaid_length_leaves_the_connection_usable(user: User):
    with RawConnection(user.store.url) as connection:
        headers = {"Transfer-Encoding": "chunked", "Authorization": "Bearer wrong"}
        connection.send_head("PUT", target(user, "/chunks/c"), headers)
        time.sleep(0.2)
        for _ in range(40):
            connection.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        connection.send(b"0\r\n\r\n")
        assert connection.read_answer().status == 401
        connection.send_head("GET", "/get_servers", {})
        assert connection.read_answer().status == 200


def test_a_body_that_never_comes_is_answered_all_the_same(user: User):
    with RawConnection(user.store.url) as connection:
        headers = {"Content-Length": "1000", "Authorization": "Bearer wrong"}
        connection.send_head("PUT", target(user, "/chunks/c"), headers)
        answer = connection.read_answer()
        assert answer.status == 401
        assert connection.is_closed_within(10), "what comes next on it could not be told from the body"
