"""The internal port: alive, ready, what it counts and what it says of itself."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from realm import Realm
from serving import Serving, serving

from moorage.core.errors import StoreUnavailableError
from moorage_nodes import probes
from moorage_nodes.probes import Heartbeat, run_check
from moorage_nodes.server import Server, Shared, open_shared
from moorage_nodes.tokens import PUBLIC, Audience
from moorage_nodes.web import Call, Routes


class Hello(msgspec.Struct):
    hello: str


class Stores:
    """What the checks find: set `broken` to make one fail."""

    def __init__(self) -> None:
        self.broken: Exception | None = None
        self.slow = 0.0

    async def check(self) -> None:
        await asyncio.sleep(self.slow)
        if self.broken is not None:
            raise self.broken


@pytest.fixture
def realm(tmp_path: Path) -> Realm:
    return Realm(tmp_path)


@pytest.fixture
def shared(realm: Realm) -> Shared:
    return open_shared(realm.settings("l3"))


@pytest.fixture
def stores() -> Stores:
    return Stores()


@pytest.fixture
async def running(shared: Shared, stores: Stores) -> AsyncIterator[Serving]:
    routes: Routes[str] = Routes()

    @routes.get("/hello", allow=PUBLIC, answer=Hello)
    async def hello(call: Call[str]) -> Hello:
        """Say hello."""
        return Hello(call.server)

    @routes.get("/broken", allow=PUBLIC)
    async def broken(_call: Call[str]) -> Hello:
        raise ZeroDivisionError

    async def status() -> dict[str, Any]:
        return {"chunks": 3}

    server = Server(
        context="world",
        prefix="/meta/c1/l3",
        public=routes,
        checks={"etcd": stores.check, "other": Stores().check},
        status=status,
    )
    async with serving(shared, server) as running:
        yield running


@pytest.fixture
async def client(running: Serving) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.internal) as client:
        yield client


async def test_a_server_with_its_stores_is_ready(client: httpx.AsyncClient):
    answer = await client.get("/readyz")
    body = answer.json()
    assert answer.status_code == 200
    assert (body["ready"], body["draining"]) == (True, False)
    assert {name: check["ok"] for name, check in body["checks"].items()} == {
        "etcd": True,
        "other": True,
        "signing_key": True,
    }
    assert (body["routing_revision"], body["trust_revision"]) == (1, 1)


@pytest.mark.parametrize(
    ("broken", "word"),
    [(StoreUnavailableError("away"), "store_unavailable"), (KeyError("secret"), "KeyError")],
)
async def test_a_store_that_is_away_makes_it_not_ready(
    client: httpx.AsyncClient, stores: Stores, broken: Exception, word: str
):
    stores.broken = broken
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["etcd"]["error"] == word
    assert answer.json()["checks"]["other"]["ok"]
    assert "secret" not in answer.text
    stores.broken = None
    assert (await client.get("/readyz")).status_code == 200


async def test_checks_share_one_budget(
    client: httpx.AsyncClient, stores: Stores, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(probes, "CHECK_SECONDS", 0.1)
    stores.slow = 5
    began = time.monotonic()
    answer = await client.get("/readyz")
    assert time.monotonic() - began < 1
    assert answer.status_code == 503
    assert answer.json()["checks"]["etcd"]["error"] == "timeout"


async def test_a_check_never_raises():
    async def fail() -> None:
        raise RuntimeError("anything")

    assert (await run_check(fail))["error"] == "RuntimeError"


async def test_a_key_that_the_trust_file_does_not_know_makes_it_not_ready(
    client: httpx.AsyncClient, realm: Realm, shared: Shared
):
    """Its tokens would be refused everywhere: say so before users do."""
    (realm.folder / "l3.pem").write_bytes((realm.folder / "l2.pem").read_bytes())
    for live in shared.live_files:
        live.refresh()
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["signing_key"]["ok"] is False


async def test_new_revisions_are_told(client: httpx.AsyncClient, realm: Realm, shared: Shared):
    realm.write_trust()
    realm.write_routing(7)
    for live in shared.live_files:
        live.refresh()
    body = (await client.get("/readyz")).json()
    assert (body["routing_revision"], body["trust_revision"]) == (7, 2)


async def test_a_loop_that_comes_round_is_alive(client: httpx.AsyncClient):
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()["alive"]) == (200, True)


async def test_a_loop_that_stood_still_is_not_alive(client: httpx.AsyncClient, running: Serving):
    stalled = Heartbeat(lambda: 100.0)
    stalled._last = 100.0 - probes.STALLED_SECONDS
    running.process.probes.heartbeat = stalled
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()["alive"]) == (503, False)


async def test_a_heart_beats():
    heart = Heartbeat()
    heart._last -= 100
    beating = asyncio.create_task(heart.beat())
    await asyncio.sleep(0)
    assert heart.silence() < 1
    beating.cancel()


async def test_metrics_tell_of_both_ports(client: httpx.AsyncClient, running: Serving):
    async with httpx.AsyncClient(base_url=running.public) as public:
        await public.get("/meta/c1/l3/hello")
        await public.get("/meta/c1/l3/absent")
    await client.get("/readyz")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    for line in (
        'moorage_http_requests_total{method="GET",route="/meta/c1/l3/hello",status="200"} 1.0',
        'moorage_http_requests_total{method="GET",route="unmatched",status="404"} 1.0',
        'moorage_http_requests_total{method="GET",route="/readyz",status="200"} 1.0',
        "process_resident_memory_bytes ",
    ):
        assert line in answer.text


async def test_the_public_routes_are_described(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    assert document["paths"]["/meta/c1/l3/hello"]["get"]["summary"] == "Say hello."
    assert "/readyz" not in document["paths"]


async def test_status_is_for_the_operator_alone(client: httpx.AsyncClient, realm: Realm):
    assert (await client.get("/status")).status_code == 401
    others = [("block", Audience.SERVICE_L3), ("gc", Audience.COLLECTOR), ("l1", Audience.OPERATOR)]
    for role, audience in others:
        token = realm.signer(role).sign(audience, role, 60)
        answer = await client.get("/status", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, (role, audience)
    token = realm.signer("operator").sign(Audience.OPERATOR, "operator", 60)
    body = (await client.get("/status", headers={"Authorization": f"Bearer {token}"})).json()
    assert (body["role"], body["name"], body["chunks"]) == ("l3", "l3-0", 3)
    assert {file["file"]: file["revision"] for file in body["files"]} == {
        "routing.json": 1,
        "trust.json": 1,
        "l3.pem": None,
    }
    assert "BEGIN" not in str(body)


async def test_probes_are_not_on_the_public_port(running: Serving):
    async with httpx.AsyncClient(base_url=running.public) as public:
        for path in ("/healthz", "/readyz", "/metrics", "/status", "/openapi.json", "/meta/c1/l3/metrics"):
            assert (await public.get(path)).status_code == 404


async def test_probes_leave_no_line_and_requests_do(client: httpx.AsyncClient, running: Serving):
    await client.get("/healthz")
    async with httpx.AsyncClient(base_url=running.public) as public:
        broken = await public.get("/meta/c1/l3/broken")
        assert (broken.status_code, broken.json()["error"]) == (500, "internal")
    lines = running.lines()
    assert "/healthz" not in lines
    assert broken.headers["x-request-id"] in lines
