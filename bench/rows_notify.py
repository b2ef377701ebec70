"""Rows of the notification servers: how soon a commit is seen by who waits, what idle clients cost, how a client starts."""

import asyncio
import base64
import json
import resource
import statistics
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from load import Result, drive, expect_status
from measure import ROUNDS, Row, bound
from rows_http import CONTENT, HASH, META, User, new_user, prepare_commits, stream_of
from system import L1, REPOSITORY, System, child, free_port, front, rss_mib, scratch

from moorage_nodes.notify import keys
from moorage_nodes.notify.keys import Hint
from moorage_nodes.stores.contracts import Put, Txn
from moorage_nodes.stores.etcd import EtcdStore
from moorage_operator.naming import notify_service

NOTIFY = notify_service("main")
COMMITS = 100  # a round, one after the other: p99 is the slowest but one
PAUSE = 0.1  # between two: hints that come together are told together
SOCKETS = 5000
EACH = 50  # connections of one user: a process lets a user have 100
FILES = 100_000
BATCH = 1000
STARTS = 50
SETTLE_SECONDS = 3.0


# --- a WebSocket client that costs little ----------------------------------------------------------------------


class Socket(asyncio.Protocol):
    """Upgrades, then notes when it was last told something."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._head = b""
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.told = 0.0
        self.waiting: asyncio.Future[float] | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.open.done():
            self._head += data
            if b"\r\n\r\n" in self._head:
                if b" 101 " in self._head.split(b"\r\n")[0]:
                    self.open.set_result(None)
                else:
                    self.open.set_exception(RuntimeError(self._head.decode(errors="replace")))
            return
        if data[0] == 0x89:  # a ping
            self.transport.write(b"\x8a\x80" + b"\0" * 4 if data[1] == 0 else pong(data))
            return
        self.told = now
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(now)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(RuntimeError(f"lost: {error}"))

    def say(self, text: bytes) -> None:
        self.transport.write(b"\x81" + bytes([0x80 | len(text)]) + b"\0" * 4 + text)


def pong(ping: bytes) -> bytes:
    length = ping[1] & 0x7F
    return b"\x8a" + bytes([0x80 | length]) + b"\0" * 4 + ping[2 : 2 + length]


def build_upgrade(path: str, token: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {token}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: " + base64.b64encode(struct.pack("!Q", 7) * 2).decode(),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def open_socket(port: int, path: str, token: str) -> Socket:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: Socket(build_upgrade(path, token)), "127.0.0.1", port)
    await protocol.open
    return protocol


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


# --- a commit that is seen -------------------------------------------------------------------------------------


async def visible_row(system: System, user: User) -> Row:
    """From sending a commit to its hint at a WebSocket, through NGINX; from sending a put to its watch's event."""
    reader = await open_socket(system.port, "/ws?client_id=waiting", user.token)
    settings = system.settings[f"{L1}-0"]["etcd"]
    store = EtcdStore.open(settings["endpoints"], prefix="/bench/visible/")
    rounds: list[tuple[float, float, float]] = []
    for number in range(-1, ROUNDS):
        (commits,) = await prepare_commits(system.port, [user], COMMITS, f"seen{number}")
        await asyncio.sleep(1)
        ours = [await _seen(system.port, reader, commit) for commit in commits]
        theirs = await _watched(store)
        if number >= 0:
            rounds.append((percentile(ours, 0.99), percentile(theirs, 0.99), statistics.median(ours)))
    reader.transport.close()
    await store.close()
    mine, etcd = statistics.median(r[0] for r in rounds), statistics.median(r[1] for r in rounds)
    ratio = statistics.median(a / b for a, b, _ in rounds)
    half = statistics.median(r[2] for r in rounds)
    return Row(
        f"a commit seen by a waiting WebSocket, p99 (median {half * 1000:.1f} ms)",
        "a put seen by an etcd watch, p99",
        "ms",
        mine * 1000,
        etcd * 1000,
        ratio,
        "< 100 ms, ≤ 5",
        mine < 0.1 and ratio <= 5,
    )


async def _seen(port: int, reader: Socket, commit: bytes) -> float:
    reader.waiting = asyncio.get_running_loop().create_future()
    began = time.perf_counter()
    sent = asyncio.create_task(drive(port, [stream_of([commit])]))
    async with asyncio.timeout(30):
        at = await reader.waiting
    expect_status(await sent)
    await asyncio.sleep(PAUSE)
    return at - began


async def _watched(store: EtcdStore) -> list[float]:
    seen: asyncio.Queue[float] = asyncio.Queue()
    _, revision = await store.range(b"a", b"b")

    async def follow() -> None:
        async with store.watch(b"a", b"b", from_revision=revision + 1) as batches:
            async for batch in batches:
                if batch.events:
                    seen.put_nowait(time.perf_counter())

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.5)
    taken = []
    for number in range(COMMITS):
        began = time.perf_counter()
        await store.transact(Txn(then=(Put(b"a", b"%d" % number),)))
        taken.append(await seen.get() - began)
        await asyncio.sleep(PAUSE / 4)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return taken


# --- idle clients ----------------------------------------------------------------------------------------------


async def sockets_rows(system: System, _: User) -> list[Row]:
    """Memory for each of `SOCKETS` idle clients of one process, and how long a push to all of them takes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    users = [User(f"idle{n}", system.user(f"idle{n}")) for n in range(SOCKETS // EACH)]
    settings = system.settings[f"{NOTIFY}-0"]
    store = EtcdStore.open(settings["etcd"]["endpoints"], prefix=settings["etcd"]["prefix"])
    me = [system.ask("GET", f"{META}/changes", token=user.token)["cursor"] for user in users]
    namespaces = [json.loads(base64_of(user.token.split(".")[1]))["sub"] for user in users]
    puts = tuple(
        Put(keys.hint(ns), keys.encode(Hint(1, cursor))) for ns, cursor in zip(namespaces, me, strict=True)
    )

    async def push(_sockets: list[Socket]) -> None:
        await store.transact(Txn(then=puts))

    port = settings["listen"]["public"]
    paths = [(f"/ws?client_id=c{n}", user.token) for user in users for n in range(EACH)]
    ours = await _crowd(port, system.pid(f"{NOTIFY}-0"), paths, push)
    await store.close()
    theirs = await _plain_crowd(paths)
    return [
        Row(
            f"{SOCKETS:,} idle WebSockets on one process, memory each",
            "a plain `websockets` echo server",
            "KiB",
            ours[0],
            theirs[0],
            ours[0] / theirs[0],
            "≤ 40 KiB",
            ours[0] <= 40,
        ),
        Row(
            f"a push to all {SOCKETS:,} of them, p99",
            "the same server's `broadcast`",
            "ms",
            ours[1] * 1000,
            theirs[1] * 1000,
            ours[1] / theirs[1],
            "< 500 ms",
            ours[1] < 0.5,
        ),
    ]


def base64_of(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def _plain_crowd(paths: list[tuple[str, str]]) -> tuple[float, float]:
    async def push(sockets: list[Socket]) -> None:
        sockets[0].say(b"all")

    with scratch() as folder:
        port = free_port()
        argv = [sys.executable, str(REPOSITORY / "bench/plain_sockets.py"), str(port)]
        with child(argv, folder / "plain.log") as process:
            deadline = time.monotonic() + 30
            while True:
                try:
                    (await open_socket(port, "/", "x")).transport.close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(0.1)
            return await _crowd(port, process.pid, paths, push)


async def _crowd(
    port: int,
    pid: int,
    paths: list[tuple[str, str]],
    push: Callable[[list[Socket]], Awaitable[None]],
) -> tuple[float, float]:
    """(KiB for each client, seconds of p99 of a push to all, the median of the rounds)"""
    warm = [await open_socket(port, *path) for path in paths[:20]]
    await asyncio.sleep(SETTLE_SECONDS)
    before = rss_mib(pid)
    sockets = list(warm)
    for start in range(20, len(paths), 50):
        sockets += await asyncio.gather(*(open_socket(port, *path) for path in paths[start : start + 50]))
    await asyncio.sleep(SETTLE_SECONDS)
    each = (rss_mib(pid) - before) * 1024 / (len(sockets) - len(warm))
    rounds = []
    for _ in range(ROUNDS + 1):
        for one in sockets:
            one.told = 0.0
        began = time.perf_counter()
        await push(sockets)
        async with asyncio.timeout(60):
            while not all(one.told for one in sockets):
                await asyncio.sleep(0.02)
        rounds.append(percentile([one.told - began for one in sockets], 0.99))
        await asyncio.sleep(1)
    for one in sockets:
        one.transport.abort()
    await asyncio.sleep(0.5)
    return each, statistics.median(rounds[1:])


# --- a client that starts --------------------------------------------------------------------------------------


async def start_row(system: System, _: User) -> Row:
    """`GET /changes` behind the last cursor, of a user with `FILES` files of which one has changed: one request."""
    user = new_user(system, "hundred-thousand")
    with front(system, {L1: [system.public(f"{L1}-0")]}) as port:
        for start in range(0, FILES, BATCH):
            await _store_files(port, user, [f"h{n:06}" for n in range(start, start + BATCH)])
        cursor = None
        while True:
            query = "?limit=5000" + (f"&cursor={cursor}" if cursor else "")
            page = system.ask("GET", f"{META}/changes{query}", token=user.token)
            cursor = page["cursor"]
            if not page["more"]:
                break
        await _store_files(port, user, ["the-one"])
        request = user.request("GET", f"{META}/changes?cursor={cursor}")
        answered = expect_status(await drive(port, [stream_of([request])], keep=True))
        found = json.loads(answered.bodies[0])
        if [each["id"] for each in found["changes"]] != ["the-one"] or found["more"]:
            raise RuntimeError(f"not the one change: {found}")
    direct = system.settings[f"{L1}-0"]["listen"]["public"]
    result: Result = expect_status(await drive(direct, [stream_of([request] * STARTS)]))
    return bound(
        f"start of a client with {FILES:,} files and one change: 1 request, in the server",
        result.percentile(0.5) * 1000,
        50,
        "ms",
    )


async def _store_files(port: int, user: User, names: list[str]) -> None:
    chunks = [{"hash": HASH, "size": len(CONTENT)}]
    update = {"files": [{"file_id": n, "client_version": 0, "chunks": chunks} for n in names]}
    answered = await drive(
        port, [stream_of([user.request("POST", f"{META}/files:batch_update", update)])], keep=True
    )
    token = json.loads(expect_status(answered).bodies[0])["upload_token"]
    commit = {"upload_token": token, "files": [{"file_id": n, "new_version": 1} for n in names]}
    expect_status(
        await drive(port, [stream_of([user.request("POST", f"{META}/files:batch_commit", commit)])])
    )
