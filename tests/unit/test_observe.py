"""Observation: every request has an id, a line and a count; no secret and no exception gets out."""

import asyncio
import io
import json
import logging
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from moorage.core.errors import NotFoundError
from moorage_nodes import observe
from moorage_nodes.metrics import Metrics
from moorage_nodes.observe import AccessLog, Observed
from moorage_nodes.tokens import TokenRefusedError

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"


class Observation:
    """An application that does what the path says, observed."""

    def __init__(self) -> None:
        self.stream = io.BytesIO()
        self.access = AccessLog(self.stream)
        self.metrics = Metrics()
        self.app = Observed(self.answer, self.metrics, self.access, quiet=frozenset({"/quiet"}))

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        scope["moorage.route"] = path if path == "/quiet" else "/{what}"
        if path == "/break":
            raise ValueError("no secret " + TOKEN)
        if path == "/leave":
            raise ClientDisconnect
        status = 200
        if path == "/refuse":
            status, scope["moorage.error"] = 401, TokenRefusedError("expired")
        if path == "/absent":
            status, scope["moorage.error"] = 404, NotFoundError("No.")
        await send({"type": "http.response.start", "status": status, "headers": []})
        if path == "/break-late":
            raise ValueError("too late for an answer")
        await send({"type": "http.response.body", "body": b"ok"})

    async def get(self, path: str, **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers={name.replace("_", "-"): v for name, v in headers.items()})

    def lines(self) -> list[dict[str, Any]]:
        self.access.flush()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def seen() -> Observation:
    return Observation()


async def test_a_request_has_one_line_with_what_matters(seen: Observation):
    answer = await seen.get(f"/anything?token={TOKEN}", authorization=f"Bearer {TOKEN}")
    (line,) = seen.lines()
    assert line["request_id"] == answer.headers["x-request-id"]
    assert {name: line[name] for name in ("level", "method", "path", "route", "status")} == {
        "level": "info",
        "method": "GET",
        "path": "/anything",
        "route": "/{what}",
        "status": 200,
    }
    assert line["ms"] >= 0
    assert line["time"].endswith("Z")
    assert "eyJ" not in seen.stream.getvalue().decode()


@pytest.mark.parametrize("given", ["abc-123", "0123456789abcdef0123456789abcdef", "a" * 64])
async def test_a_sane_request_id_is_kept(seen: Observation, given: str):
    assert (await seen.get("/x", x_request_id=given)).headers["x-request-id"] == given
    assert seen.lines()[0]["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, 'x","level":"fatal', TOKEN + "x" * 40])
async def test_an_insane_request_id_is_replaced(seen: Observation, given: str):
    made = (await seen.get("/x", x_request_id=given)).headers["x-request-id"]
    assert made != given
    assert len(made) == 16


async def test_request_ids_are_distinct(seen: Observation):
    made = {(await seen.get("/x")).headers["x-request-id"] for _ in range(20)}
    assert len(made) == 20


async def test_an_error_is_named_and_the_reason_of_a_refusal_is_logged(seen: Observation):
    await seen.get("/refuse")
    await seen.get("/absent")
    refused, absent = seen.lines()
    assert (refused["error"], refused["reason"]) == ("unauthenticated", "expired")
    assert absent["error"] == "not_found"
    assert "reason" not in absent


async def test_an_exception_becomes_500_and_its_traceback_stays_here(
    seen: Observation, caplog: pytest.LogCaptureFixture
):
    answer = await seen.get("/break")
    body = answer.json()
    assert (answer.status_code, body["error"]) == (500, "internal")
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "ValueError" not in answer.text
    assert "secret" not in answer.text
    assert "ValueError" in caplog.text
    assert seen.lines()[0]["level"] == "error"


async def test_an_exception_after_the_answer_began_cuts_it_off(seen: Observation):
    sent: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await seen.app({"type": "http", "method": "GET", "path": "/break-late", "headers": []}, None, send)  # type: ignore[arg-type]
    assert sent == ["http.response.start"]


async def test_a_client_that_went_away_is_no_failure_of_ours(
    seen: Observation, caplog: pytest.LogCaptureFixture
):
    sent: list[Any] = []
    await seen.app({"type": "http", "method": "GET", "path": "/leave", "headers": []}, None, sent.append)  # type: ignore[arg-type]
    assert seen.lines()[0]["status"] == 499
    assert sent == []
    assert caplog.text == ""


async def test_requests_are_counted_and_what_is_under_way_ends_at_zero(seen: Observation):
    await asyncio.gather(*(seen.get(path) for path in ("/x", "/break", "/refuse")))
    text = seen.metrics.render().decode()
    for status in (200, 500, 401):
        assert f'requests_total{{method="GET",route="/{{what}}",status="{status}"}} 1.0' in text
    assert seen.metrics.in_flight == 0


async def test_quiet_routes_have_no_line(seen: Observation):
    await seen.get("/quiet")
    assert seen.lines() == []
    assert 'route="/quiet"' in seen.metrics.render().decode()


async def test_lines_are_written_soon_and_together():
    stream = io.BytesIO()
    access = AccessLog(stream)
    for number in range(3):
        access.write({"n": number})
    assert stream.getvalue() == b""
    await asyncio.sleep(observe._FLUSH_SECONDS * 1.5)
    assert [json.loads(line)["n"] for line in stream.getvalue().splitlines()] == [0, 1, 2]


async def test_many_lines_do_not_wait():
    stream = io.BytesIO()
    access = AccessLog(stream)
    for _ in range(observe._FLUSH_BYTES // 100):
        access.write({"text": "x" * 100})
    assert len(stream.getvalue()) >= observe._FLUSH_BYTES
    access.flush()


def formatted(record_of: Any) -> dict[str, Any]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(observe._JsonFormatter("%(time)s %(level)s %(logger)s %(message)s"))
    logger = logging.getLogger("moorage.test")
    logger.propagate = False
    logger.addHandler(handler)
    try:
        record_of(logger)
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    line: dict[str, Any] = json.loads(stream.getvalue())
    return line


async def test_other_lines_are_json_too_and_know_their_request():
    observe.request_id_of_task.set("r-1")
    line = formatted(lambda log: log.warning("a file is bad", extra={"file": "x"}))
    assert (line["level"], line["logger"], line["message"]) == ("warning", "moorage.test", "a file is bad")
    assert (line["request_id"], line["file"]) == ("r-1", "x")


def test_what_looks_like_a_token_is_masked_even_in_a_traceback():
    def fail(log: logging.Logger) -> None:
        try:
            int(f"{TOKEN} or Bearer very-secret-admin-token")
        except ValueError:
            log.exception("failed")

    line = json.dumps(formatted(fail))
    assert "ValueError" in line
    assert TOKEN.split(".")[1] not in line
    assert "very-secret" not in line
