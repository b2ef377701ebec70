"""A server process: how it starts, drains and ends."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import msgspec
import pytest
from realm import Realm
from serving import serving
from starlette.responses import Response

from moorage_nodes import app
from moorage_nodes.app import bind, main
from moorage_nodes.server import Server, open_shared
from moorage_nodes.settings import Settings
from moorage_nodes.tokens import PUBLIC
from moorage_nodes.web import Call, Routes, json_response


def free_port() -> int:
    with bind("127.0.0.1", 0) as sock:
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def realm(tmp_path: Path) -> Realm:
    return Realm(tmp_path)


def write_settings(realm: Realm, settings: Settings) -> Path:
    path = realm.folder / "settings.json"
    path.write_bytes(msgspec.json.encode(settings))
    return path


# --- the drain, in this process ---------------------------------------------------------------------------


class Slow:
    """A server whose one route answers when the test lets it."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.closed: list[str] = []

    def server(self) -> "Server[Slow]":
        routes: Routes[Slow] = Routes()

        @routes.get("/slow", allow=PUBLIC)
        async def slow(call: "Call[Slow]") -> Response:
            call.server.begun.set()
            await call.server.go.wait()
            return json_response({"closed": call.server.closed})

        async def close() -> None:
            self.closed.append("stores")

        return Server(context=self, prefix="", public=routes, close=close)


async def test_a_drain_is_told_at_once_goes_on_serving_and_then_finishes_what_is_in_flight(realm: Realm):
    slow = Slow()
    shared = open_shared(realm.settings("l3", drain_seconds=0.4))
    async with serving(shared, slow.server()) as running, httpx.AsyncClient() as client:
        in_flight = asyncio.create_task(client.get(running.public + "/slow"))
        await slow.begun.wait()
        running.process.stop()
        ready = await client.get(running.internal + "/readyz")
        assert (ready.status_code, ready.json()["draining"]) == (503, True)
        # Whoever has not heard yet is still served.
        assert (await client.get(running.public + "/nothing")).status_code == 404
        await asyncio.sleep(0.6)
        with pytest.raises(httpx.ConnectError):
            await httpx.AsyncClient().get(running.public + "/nothing")
        assert not in_flight.done()
        assert (await client.get(running.internal + "/healthz")).status_code == 200
        slow.go.set()
        # The stores are closed after the last answer, not before.
        assert (await in_flight).json() == {"closed": []}
    assert slow.closed == ["stores"]


async def test_a_second_signal_skips_the_wait(realm: Realm):
    shared = open_shared(realm.settings("l3", drain_seconds=30))
    began = time.monotonic()
    async with serving(shared, Slow().server()) as running:
        running.process.stop()
        running.process.stop()
    assert time.monotonic() - began < 5


async def test_a_request_that_never_ends_does_not_hold_up_the_end(
    realm: Realm, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app, "FINISH_SECONDS", 0.3)
    slow = Slow()
    async with serving(open_shared(realm.settings("l3")), slow.server()) as running:
        client = httpx.AsyncClient()
        in_flight = asyncio.create_task(client.get(running.public + "/slow"))
        await slow.begun.wait()
    assert slow.closed == ["stores"]
    answer = await in_flight
    assert (answer.status_code, answer.json()["error"]) == (503, "store_unavailable")
    await client.aclose()


async def test_answers_do_not_name_the_server(realm: Realm):
    async with (
        serving(open_shared(realm.settings("l3")), Slow().server()) as running,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(running.public + "/nothing")
        assert "server" not in answer.headers
        assert "date" in answer.headers


# --- a real process ----------------------------------------------------------------------------------------


@pytest.fixture
def auth_settings(realm: Realm, etcd_endpoint: str) -> Path:
    listen = {"host": "127.0.0.1", "public": free_port(), "internal": free_port()}
    etcd = {"endpoints": [etcd_endpoint], "prefix": f"/{realm.folder.name}/"}
    return write_settings(realm, realm.settings("auth", listen=listen, etcd=etcd, drain_seconds=0.2))


async def start(
    realm: Realm, settings: Path, env: dict[str, str] | None = None
) -> asyncio.subprocess.Process:
    with (realm.folder / "log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "moorage_nodes.app", "auth", "--settings", str(settings)),
            stderr=log,
            stdout=log,
            env=env,
        )


async def ready(settings: Path, process: asyncio.subprocess.Process) -> httpx.Response:
    port = json.loads(settings.read_bytes())["listen"]["internal"]
    async with httpx.AsyncClient() as client:
        for _ in range(300):
            assert process.returncode is None
            try:
                return await client.get(f"http://127.0.0.1:{port}/readyz")
            except httpx.TransportError:
                await asyncio.sleep(0.1)
    raise AssertionError("never ready")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_serves_until_it_is_told_to_stop_and_leaves_nothing(
    realm: Realm, auth_settings: Path, number: signal.Signals
):
    process = await start(realm, auth_settings)
    answer = await ready(auth_settings, process)
    assert answer.status_code == 200, answer.text
    process.send_signal(number)
    assert await asyncio.wait_for(process.wait(), 10) == 0
    listen = json.loads(auth_settings.read_bytes())["listen"]
    for plane in ("public", "internal"):
        bind(listen["host"], listen[plane]).close()
    lines = [json.loads(line) for line in (realm.folder / "log").read_text().splitlines()]
    assert [line["message"] for line in lines] == ["serving", "draining", "stopped"]


async def test_an_idle_process_is_small(realm: Realm, auth_settings: Path, tmp_path: Path):
    """With compiled bytecode at hand, as installed: compiling leaves its own memory behind."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")}
    for _ in range(2):
        process = await start(realm, auth_settings, env)
        await ready(auth_settings, process)
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.terminate()
        await process.wait()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident < 80 * 1024, f"{resident} KiB"


async def test_a_port_in_use_is_said_so(realm: Realm, auth_settings: Path):
    listen = json.loads(auth_settings.read_bytes())["listen"]
    with bind(listen["host"], listen["public"]) as taken:
        taken.listen()
        process = await start(realm, auth_settings)
        assert await asyncio.wait_for(process.wait(), 20) == 2
    (line,) = (json.loads(line) for line in (realm.folder / "log").read_text().splitlines())
    assert "in use" in line["reason"]


# --- arguments and settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["auth"], ["nonsense", "--settings", "x"], ["auth", "--settings"]])
def test_wrong_arguments_end_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_settings_of_another_role_end_with_2(realm: Realm, capsys: pytest.CaptureFixture[str]):
    path = write_settings(realm, realm.settings("auth"))
    with pytest.raises(SystemExit) as ended:
        main(["l1", "--settings", str(path)])
    assert ended.value.code == 2
    assert "for the role auth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda realm: (realm.folder / "trust.json").write_text("{}"), "trust file is wrong"),
        (lambda realm: (realm.folder / "auth.pem").write_text("secret stuff"), "P-256 private key"),
        (lambda realm: (realm.folder / "auth.pem").unlink(), "No such file"),
        (
            lambda realm: (realm.folder / "settings.json").write_text('{"role": "auth"}'),
            "settings file is wrong",
        ),
        (lambda _: None, "needs `etcd`"),
    ],
    ids=["trust", "key", "no key", "settings", "no etcd"],
)
def test_a_bad_file_ends_with_2_and_says_what_is_wrong(
    realm: Realm, change: object, reason: str, capsys: pytest.CaptureFixture[str]
):
    path = write_settings(realm, realm.settings("auth"))
    change(realm)  # type: ignore[operator]
    assert main(["auth", "--settings", str(path)]) == 2
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert reason in line["reason"]
    assert "secret stuff" not in line["reason"]


def test_a_bound_port_refuses_until_somebody_listens():
    with bind("127.0.0.1", 0) as sock, socket.socket() as client:
        assert client.connect_ex(sock.getsockname()) != 0
