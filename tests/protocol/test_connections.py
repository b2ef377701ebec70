"""What a client may count on of its connections, whatever the answer is."""

import contextlib
import gzip
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from black_box.http_client import check_error, check_error_shape, check_ok
from black_box.raw import RawConnection
from black_box.user import User, hash_of, stored_form


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


@pytest.mark.parametrize("to", ["l1", "block"])
def test_requests_sent_without_waiting_are_answered_in_their_order(user: User, to: str):
    user.save("file", [b"first"])
    user.save("other", [b"second"])
    base = getattr(user, to).base.removeprefix(user.store.url)
    form = f"{base}/nodes/%s" if to == "l1" else f"{base}/chunks/%s"
    asked = ["file", "nothing", "other"] if to == "l1" else [hash_of(b"first"), "nothing", hash_of(b"second")]
    with RawConnection(user.store.url) as connection:
        for each in asked:
            connection.send_head("GET", form % each, {"Authorization": f"Bearer {user.token}"})
        answers = [connection.read_answer() for _ in asked]
    assert [answer.status for answer in answers] == [200, 404, 200]
    if to == "l1":
        assert [json.loads(answer.body)["id"] for answer in answers[::2]] == ["file", "other"]
    else:
        assert [answer.body for answer in answers[::2]] == [b"first", b"second"]


def test_a_client_of_http_1_0_is_served_and_its_connection_ended(user: User):
    with RawConnection(user.store.url) as connection:
        connection.send_head(
            "GET", f"/meta/{user.server_key}/nodes/root", {"Authorization": f"Bearer {user.token}"}, "1.0"
        )
        answer = connection.read_answer()
        assert (answer.status, json.loads(answer.body)["id"]) == (200, user.root)
        assert "transfer-encoding" not in answer.headers
        assert connection.is_closed_within(10)


@pytest.mark.parametrize("size", [5, 3_000_000])
def test_a_client_that_waits_to_be_told_to_go_on_is_told_so(user: User, size: int):
    """`Expect: 100-continue`, as curl sends it with large bodies."""
    data = bytes(size)
    headers = {"Authorization": f"Bearer {begin_upload(user)}", "Content-Length": str(size)}
    with RawConnection(user.store.url) as connection:
        connection.send_head("PUT", target(user, "/chunks/c"), {**headers, "Expect": "100-continue"})
        assert connection.read_answer().status == 100
        connection.send(data)
        answer = connection.read_answer()
        assert answer.status == 200
        assert json.loads(answer.body)["chunks"][0]["hash"] == hash_of(data)


def test_a_body_that_comes_byte_by_byte_or_in_pieces_of_unsaid_length_is_whole(user: User):
    headers = {"Authorization": f"Bearer {begin_upload(user)}"}
    with RawConnection(user.store.url) as connection:
        connection.send_head("PUT", target(user, "/chunks/slow"), {**headers, "Content-Length": "10"})
        for byte in b"byte by it":
            connection.send(bytes([byte]))
            time.sleep(0.01)
        answer = connection.read_answer()
        assert json.loads(answer.body)["chunks"][0]["hash"] == hash_of(b"byte by it")
        connection.send_head(
            "PUT", target(user, "/chunks/pieces"), {**headers, "Transfer-Encoding": "chunked"}
        )
        for piece in (
            b"5\r\nhello\r\n",
            b"2;of=note\r\n, \r\n",
            b"3\r\nyou\r\n",
            b"0\r\nTrailer: none\r\n\r\n",
        ):
            connection.send(piece)
            time.sleep(0.01)
        answer = connection.read_answer()
        assert json.loads(answer.body)["chunks"][0]["hash"] == hash_of(b"hello, you")


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: -5",
        "Content-Length: five",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Host: another",
        "Bad Name: x",
    ],
)
def test_a_request_whose_end_could_be_seen_in_two_places_is_refused(user: User, framing: str):
    """Else what one server takes for a body the next one takes for a request (RFC 9112, 11.2)."""
    with RawConnection(user.store.url) as connection:
        connection.send(
            f"POST /auth HTTP/1.1\r\nHost: {connection.host}\r\n{framing}\r\n\r\n"
            "0\r\n\r\nGET /get_servers HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        answer = connection.read_answer()
        assert answer.status == 400
        check_error_shape(answer.body.decode(), answer.headers["content-type"])
        assert answer.headers["connection"] == "close"
        assert connection.is_closed_within(10)


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "", "nonsense"])
def test_a_body_is_json_whatever_it_calls_itself(user: User, content_type: str):
    """curl says `application/x-www-form-urlencoded` unless told."""
    body = b'{"path": "/d", "parent_dir_id": "root"}'
    headers = {"Content-Type": content_type}
    check_ok(user.l1.put("/create_directory/d", content=body, headers=headers))


@pytest.mark.parametrize(
    ("to", "path", "status"),
    [
        ("l1", "/nodes/root", 200),
        ("l1", "/list_directory/root", 200),
        ("l1", "/nodes/nothing", 404),
        ("l2", "/files/file/chunks", 200),
        ("l3", f"/chunks/{hash_of(b'the bytes')}/metadata", 200),
        ("block", f"/chunks/{hash_of(b'the bytes')}", 200),
        ("block", f"/download_chunk/{hash_of(b'the bytes')}", 200),
        ("block", "/files/file/content", 200),
    ],
)
def test_head_is_what_get_is_without_the_body(user: User, to: str, path: str, status: int):
    user.save("file", [b"the bytes"])
    server = getattr(user, to)
    got, head = server.get(path), server.request("HEAD", path)
    assert (got.status_code, head.status_code, head.content) == (status, status, b"")
    assert abs(int(head.headers["Content-Length"]) - len(got.content)) <= 64  # request ids and tokens differ
    assert head.headers["Content-Type"] == got.headers["Content-Type"]


def test_part_of_a_chunk_cannot_be_put(user: User):
    """RFC 9110, 14.4: who does not know partial PUT must not take a part for the whole."""
    server = user.block.with_token(begin_upload(user))
    headers = {"Content-Range": "bytes 0-2/10"}
    check_error(server.put("/chunks/part", content=b"abc", headers=headers), 400)
    check_error(user.l3.get(f"/chunks/{hash_of(b'abc')}/metadata"), 404)


@pytest.mark.parametrize("to", ["/store_chunk", "/chunks/c"])
def test_a_compressed_body_is_refused_and_not_kept_as_it_came(user: User, to: str):
    uploading = user.block.with_token(begin_upload(user))
    send = uploading.put if to == "/chunks/c" else uploading.post
    body = gzip.compress(json.dumps([stored_form("c", b"text")]).encode())
    check_error(send(to, content=body, headers={"Content-Encoding": "gzip"}), 400, word="malformed")
    check_error(user.l3.get("/chunks/c/metadata"), 404)
    update = gzip.compress(b'{"client_version":0}')
    sent = user.l1.post("/files/upload/update", content=update, headers={"Content-Encoding": "gzip"})
    check_error(sent, 400, word="malformed")
    plain = {"Content-Encoding": "identity"}
    check_ok(uploading.put("/chunks/c", content=b"text", headers=plain))


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.mark.parametrize(
    ("method", "path", "change", "status"),
    [
        ("GET", "/ws?client_id=c", {"Sec-WebSocket-Key": "x"}, 400),
        ("GET", "/ws?client_id=c", {"Sec-WebSocket-Version": "8"}, 400),
        ("GET", "/no/such/path", {"Sec-WebSocket-Version": "8"}, 404),
        ("GET", "/no/such/path", {}, 404),
        ("POST", "/ws?client_id=c", {}, 405),
        ("POST", "/ack_deletion", {}, 400),
    ],
)
def test_what_does_not_open_a_websocket_is_answered_in_the_one_shape_and_no_line_is_lost_by_it(
    user: User, method: str, path: str, change: dict[str, str], status: int
):
    base = user.notify.base.removeprefix(user.store.url)
    token = {"Authorization": f"Bearer {user.token}"}
    for _ in range(8):  # more than NGINX could have connections to servers that such a request has spoilt
        with RawConnection(user.store.url) as connection:
            connection.send_head(method, base + path, {**token, **HANDSHAKE, **change})
            answer = connection.read_answer()
            assert answer.status == status
            assert json.loads(answer.body).keys() >= {"error", "detail", "request_id"}
        check_error(user.notify.post("/ack_deletion", json={}), 422)


def test_one_users_slow_uploads_do_not_shut_out_anothers(user: User, stranger: User):
    """More chunks, almost whole, than all block servers have room for."""
    size, token = 8 * 1024 * 1024, begin_upload(user)
    headers = {"Authorization": f"Bearer {token}", "Content-Length": str(size)}

    def send_slowly(number: int) -> RawConnection:
        connection = RawConnection(user.store.url)
        connection.send_head("PUT", target(user, f"/chunks/c{number}"), headers)
        with contextlib.suppress(TimeoutError, OSError):  # as far as it is taken
            connection.send_for(bytes(size - 1), seconds=3)
        return connection

    with ThreadPoolExecutor(24) as pool, contextlib.ExitStack() as stack:
        for connection in pool.map(send_slowly, range(24)):
            stack.enter_context(connection)
        # Some of those above wait for room, for 15 s; behind them these would too.
        began = time.monotonic()
        data = [b"%d" % number * 1_000_000 for number in range(4)]
        list(pool.map(lambda number: stranger.save(f"f{number}", [data[number]]), range(4)))
        assert time.monotonic() - began < 10
        assert [stranger.read(f"f{number}") for number in range(4)] == data
