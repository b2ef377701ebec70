"""The built configuration in a real NGINX: who gets a request, what arrives, and what NGINX answers itself."""

import asyncio
import contextlib
import subprocess

import pytest

from moorage_operator.local.tools import ensure_nginx

ROUTED = [
    ("/auth", "auth"),
    ("/auth/", "auth"),
    ("/auth/users/ada", "auth"),
    ("/get_servers?server_key=main", "l1-main"),
    ("/meta/main", "l1-main"),
    ("/meta/main/files/x/metadata", "l1-main"),
    ("/meta/main/l2x", "l1-main"),
    ("/meta/main/l2", "l2-main"),
    ("/meta/main/l2/files/x/chunks", "l2-main"),
    ("/meta/main/l3/chunks/c/metadata", "l3-main"),
    ("/block/main/store_chunk", "block-main"),
]
NOT_ROUTED = [
    "/",
    "/authx",
    "/get_servers/",
    "/meta",
    "/meta/other/files/x",
    "/block/other/chunks/x",
    "/internal/users/x",
    "/healthz",
    "/readyz",
    "/metrics",
    "/status",
    "/openapi.json",
    "/meta/main/../../internal/users/x",
    "/meta/main/%2e%2e/%2e%2e/metrics",
    "//auth",
    "/-error/internal",
]
AS_SENT = [
    "/meta/main/files/a%2Fb/metadata",
    "/meta/main//resolve?path=%2Fa%20b",
    "/meta/main/nodes/root:1?x=a+b&y=%ff",
    "/meta/main/a;b,c/%E2%82%AC",
    "/block/main/chunks/a%2e%2E",
]


def test_a_real_nginx_accepts_the_configuration(proxy):
    checked = subprocess.run(
        [ensure_nginx(print), "-t", "-e", "stderr", "-p", proxy.directory, "-c", "nginx.conf"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr


@pytest.mark.parametrize(("target", "service"), ROUTED)
async def test_a_path_reaches_its_service(proxy, target, service):
    answer = await proxy.get(target)
    assert answer.status == 200
    assert [u.service for u in proxy.all() if u.seen] == [service]


async def test_what_is_not_public_is_a_404_in_the_shape_of_all_errors(proxy):
    for target in NOT_ROUTED:
        answer = await proxy.get(target, "X-Request-Id: mine")
        assert (answer.status, answer.headers["content-type"]) == (404, "application/json"), target
        assert answer.json == {
            "error": "not_found",
            "detail": "There is nothing at this path.",
            "request_id": "mine",
        }
    assert proxy.heads() == []


async def test_a_uri_arrives_as_it_was_sent(proxy):
    for target in AS_SENT:
        assert (await proxy.get(target)).status == 200
    assert sorted(head.split()[1].decode() for head in proxy.heads()) == sorted(AS_SENT)


async def test_host_passes_and_what_a_client_claims_about_itself_does_not(proxy):
    await proxy.get(
        "/auth",
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Proto: https",
        "Forwarded: for=6.6.6.6",
        "X_Under: 1",
    )
    head = proxy.heads()[0].decode().lower()
    assert "host: files.example.com:1234\r\n" in head
    assert "x-forwarded-for: 127.0.0.1\r\n" in head
    assert "x-forwarded-proto: http\r\n" in head
    assert "6.6.6.6" not in head
    assert "x_under" not in head


@pytest.mark.parametrize("sane", ["abc", "A-b_c.9", "x" * 64])
async def test_a_sane_request_id_passes_through(proxy, sane):
    await proxy.get("/auth", f"X-Request-Id: {sane}")
    assert f"\r\nX-Request-Id: {sane}\r\n".encode() in proxy.heads()[0]


@pytest.mark.parametrize("odd", ["", "a b", 'a"b', "x" * 65, "é"])
async def test_another_request_id_is_replaced(proxy, odd):
    answer = await proxy.get("/nowhere", f"X-Request-Id: {odd}")
    made = answer.json["request_id"]
    assert len(made) == 32
    assert answer.headers["x-request-id"] == made


async def test_requests_spread_over_both_servers_on_kept_connections(proxy):
    for _ in range(20):
        await proxy.get("/auth")
    first, second = proxy.upstreams["auth"]
    assert len(first.seen) + len(second.seen) == 20
    assert first.seen
    assert second.seen
    assert len(first.writers) + len(second.writers) <= 8


async def test_a_dead_server_costs_no_request_nor_its_body(proxy):
    body = b"x" * 300_000
    await proxy.post("/meta/main/files/f/update", body)
    dead, alive = proxy.upstreams["l1-main"]
    await dead.stop()
    alive.bytes_seen = 0
    for _ in range(10):
        answer = await proxy.post("/meta/main/files/f/update", body)
        assert (answer.status, answer.headers["x-server"]) == (200, "1")
    assert alive.bytes_seen == 10 * len(body)


async def test_a_server_that_comes_back_is_used_at_once(proxy):
    first, second = proxy.upstreams["auth"]
    await first.stop()
    await second.stop()
    assert (await proxy.get("/auth")).status == 503
    await first.start()
    for _ in range(4):
        assert (await proxy.get("/auth")).status == 200


async def test_without_servers_it_is_a_503_in_the_shape_of_all_errors(proxy):
    for upstream in proxy.upstreams["block-main"]:
        await upstream.stop()
    answer = await proxy.get("/block/main/chunks/x", "X-Request-Id: r1")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.json["error"] == "store_unavailable"
    assert answer.json["request_id"] == answer.headers["x-request-id"] == "r1"


async def test_an_error_of_a_server_passes_as_it_is(proxy):
    for upstream in proxy.upstreams["auth"]:
        upstream.answer = b'{"error":"throttled"}'
    assert (await proxy.get("/auth")).body == b'{"error":"throttled"}'


async def test_a_body_streams_to_a_block_server_while_it_is_sent(proxy):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    half = b"x" * (2 << 20)
    writer.write(
        b"PUT /block/main/chunks/c HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (2 * len(half))
    )
    writer.write(half)
    await writer.drain()
    async with asyncio.timeout(5):
        while sum(u.bytes_seen for u in proxy.upstreams["block-main"]) < len(half):
            await asyncio.sleep(0.01)
    writer.write(half)
    status = await reader.readuntil(b"\r\n")
    writer.close()
    assert b"200" in status


async def test_metadata_requests_reach_a_server_only_when_they_are_whole(proxy):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"POST /meta/main/files/f/update HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345")
    await writer.drain()
    await asyncio.sleep(0.3)
    assert proxy.heads() == []
    writer.write(b"67890")
    assert b"200" in await reader.readuntil(b"\r\n")
    writer.close()


async def test_a_body_of_metadata_beyond_every_limit_is_a_413(proxy):
    head = "POST /meta/main/files/f/update HTTP/1.1\r\nHost: h\r\nContent-Length: 67108865\r\n\r\n"
    answer = await proxy.send(head.encode())
    assert (answer.status, answer.json["error"]) == (413, "too_large")
    assert proxy.heads() == []


async def test_a_large_answer_passes_whole_and_through_no_file(proxy):
    for upstream in proxy.upstreams["block-main"]:
        upstream.answer = bytes(range(256)) * 65_536
    answer = await proxy.get("/block/main/files/f/content")
    assert answer.body == upstream.answer
    assert not [path for path in (proxy.directory / "proxy").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (b"nonsense\r\n\r\n", 400, "malformed"),
        (b"GET /auth HTTP/1.1\r\n\r\n", 400, "malformed"),
        (b"GET /auth HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed"),
        (b"POST /auth HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "malformed"),
        (b"GET /auth/%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"),
        (b"GET /auth/%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"),
        (b"GET /auth/../../x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"),
        (b"TRACE /auth HTTP/1.1\r\nHost: h\r\n\r\n", 405, "method_not_allowed"),
        (b"GET /auth/" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414, "malformed"),
        (b"GET /auth HTTP/1.1\r\nHost: h\r\nX-A: " + b"x" * 20_000 + b"\r\n\r\n", 431, "malformed"),
    ],
)  # fmt: skip
async def test_what_is_no_http_is_refused_in_the_shape_of_all_errors(proxy, data, status, word):
    answer = await proxy.send(data)
    assert (answer.status, answer.json["error"]) == (status, word)
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["server"] == "nginx"
    assert ("allow" in answer.headers) is (status == 405)
    assert proxy.heads() == []


async def test_slow_headers_of_many_clients_hold_up_nobody(proxy):
    slow = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(500)]
    for _, writer in slow:
        writer.write(b"GET /auth HTTP/1.1\r\nX-A: ")
    assert (await proxy.get("/auth")).status == 200
    for _, writer in slow:
        writer.close()
    with contextlib.suppress(ConnectionError):
        await asyncio.gather(*(writer.wait_closed() for _, writer in slow), return_exceptions=True)


async def test_queries_and_tokens_are_not_logged(proxy):
    for upstream in proxy.upstreams["auth"]:
        await upstream.stop()
    await proxy.get("/auth/x?secret=query", "Authorization: Bearer secret-token")
    assert "secret-token" not in (proxy.directory / "nginx.log").read_text()
    assert not list(proxy.directory.rglob("*access*"))
