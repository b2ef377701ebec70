"""An L1 server and two notification servers on real sockets inside the test's event loop, their stores in memory."""

import asyncio
import contextlib
import io
import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from realm import Realm
from websockets.asyncio.client import ClientConnection, connect

from moorage_nodes.app import Process, bind
from moorage_nodes.metadata.l1 import server as l1_server
from moorage_nodes.notify import server as notify_server
from moorage_nodes.notify.routes import Notifier
from moorage_nodes.observe import AccessLog
from moorage_nodes.server import Server, Shared, open_shared
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.observer import NullObserver
from moorage_nodes.tokens import Audience

PATIENCE = 20.0
_numbers = itertools.count()


@dataclass
class Running:
    """One server: its sockets, its process in here, its role's server."""

    process: Process
    server: Server[Any]
    task: asyncio.Task[None]
    public: str
    internal: str
    stream: io.BytesIO
    access: AccessLog

    def lines(self) -> list[dict[str, Any]]:
        """Of the access log."""
        self.access.flush()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def notifier(self) -> Notifier:
        context: Notifier = self.server.context
        return context

    async def stop(self) -> None:
        """Drain."""
        self.process.stop()
        self.process.stop()
        await self.task


class Bed:
    """`l1` and `notifiers`; `queues` is the store that the notifiers share. Users are made up: each test has its own."""

    def __init__(self, folder: Path, http: httpx.AsyncClient, ack_deadline: int) -> None:
        self.realm = Realm(folder)
        self.http = http
        self.queues: MetadataStore = MemoryStore()
        self.tree: MetadataStore = MemoryStore()
        self._ack_deadline = ack_deadline
        self._ports = {name: _two_sockets() for name in ("l1", "0", "1")}
        self.l1: Running
        self.notifiers: list[Running] = []

    async def start(self) -> None:
        self.l1 = await self._start_l1()
        self.notifiers = [await self.start_notifier(number) for number in (0, 1)]

    async def stop(self) -> None:
        going = [running for running in (*self.notifiers, self.l1) if not running.task.done()]
        await asyncio.gather(*(running.stop() for running in going))
        for pair in self._ports.values():
            for each in pair:
                each.close()

    async def _start_l1(self) -> Running:
        urls = [_url(self._ports[name][1]) for name in ("0", "1")]
        settings = self.realm.settings("l1", cluster={"server_key": "c1"}, peers={"notify": urls})
        shared = open_shared(settings)
        server = await l1_server.open_on(self.tree, "realm", settings, shared, NullObserver())
        return self._run("l1", shared, server)

    async def start_notifier(self, number: int) -> Running:
        settings = self.realm.settings(
            "notify",
            notify={"name": "n1", "ack_deadline": self._ack_deadline, "queue_limit": 5},
            peers={"l1": {"c1": [_url(self._ports["l1"][1])]}},
        )
        shared = open_shared(settings)
        server = await notify_server.open_on(self.queues, "realm", settings, shared)
        return self._run(str(number), shared, server)

    def _run(self, name: str, shared: Shared, server: Server[Any]) -> Running:
        public, internal = self._ports[name]
        stream = io.BytesIO()
        access = AccessLog(stream)
        process = Process(shared, server, access)
        task = asyncio.create_task(process.run(public.dup(), internal.dup()))
        return Running(process, server, task, _url(public), _url(internal), stream, access)

    # --- who asks

    def new_user(self) -> str:
        return f"user{next(_numbers)}"

    def token(self, user: str, **changes: Any) -> str:
        claims = {"username": user, "server_key": "c1", "gen": 0, **changes}
        ttl = claims.pop("ttl", 600)
        return self.realm.signer("auth").sign(Audience.ACCESS, user, ttl, **claims)

    def bearer(self, user: str, **changes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user, **changes)}"}

    def service(self, role: str, audience: Audience) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.realm.signer(role).sign(audience, role, 60)}"}

    # --- what is asked

    async def ask_l1(self, user: str, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(
            method, f"{self.l1.public}/meta/c1{path}", headers=self.bearer(user), json=body
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def make_file(self, user: str, file_id: str) -> None:
        await self.ask_l1(user, "PUT", f"/create_file/{file_id}", {"parent_dir_id": "root", "name": file_id})

    async def delete(self, user: str, file_id: str, version: int = 0, **more: str) -> str:
        """The notification id."""
        body = {"client_version": version, **more}
        answer = await self.ask_l1(user, "DELETE", f"/delete_file/{file_id}", body)
        notification_id: str = answer["notification_id"]
        return notification_id

    async def register(self, user: str, *clients: str) -> None:
        for client_id in clients:
            await self.ask_l1(user, "PUT", f"/clients/{client_id}", {"name": client_id})

    async def acknowledge(
        self, user: str, notification_id: str, client_id: str, at: int = 0
    ) -> httpx.Response:
        return await self.http.post(
            f"{self.notifiers[at].public}/ack_deletion",
            headers=self.bearer(user),
            json={"notification_id": notification_id, "client_id": client_id},
        )

    async def poll(
        self, user: str, client_id: str, *, at: int = 0, timeout: int = 5, batch: bool = False
    ) -> Any:
        """The answer's JSON; None at the time-out."""
        answer = await self.http.get(
            f"{self.notifiers[at].public}/notify/n1/poll",
            headers=self.bearer(user),
            params={"client_id": client_id, "timeout": timeout, **({"batch": 1} if batch else {})},
            timeout=timeout + 20,
        )
        if answer.status_code == 204:
            return None
        assert answer.status_code == 200, answer.text
        return answer.json()

    def listen(self, user: str, client_id: str, at: int = 0, **changes: Any) -> connect:
        """A WebSocket, as an async context."""
        return connect(
            f"{self.notifiers[at].public.replace('http', 'ws')}/ws?client_id={client_id}",
            additional_headers=self.bearer(user, **changes),
            proxy=None,
            open_timeout=PATIENCE,
        )

    async def state_of(self, user: str, node_id: str) -> str:
        """Of a node that is deleted: `deleted` once it is in the trash, `pending_deletion` before; `live`."""
        trash = await self.ask_l1(user, "GET", "/trash")
        if any(each["id"] == node_id for each in trash["trash"]):
            return "deleted"
        answer = await self.http.get(f"{self.l1.public}/meta/c1/nodes/{node_id}", headers=self.bearer(user))
        assert answer.status_code in {200, 410}, answer.text
        return "live" if answer.status_code == 200 else "pending_deletion"

    async def until_deleted(self, user: str, node_id: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.state_of(user, node_id) != "deleted":
                await asyncio.sleep(0.02)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


async def next_message(socket: ClientConnection, kind: str | None = None) -> Any:
    """The next message; of `kind`, passing over the others."""
    async with asyncio.timeout(PATIENCE):
        while True:
            message = json.loads(await socket.recv())
            if kind is None or message["type"] == kind:
                return message


@contextlib.asynccontextmanager
async def running_bed(folder: Path, *, ack_deadline: int = 3600) -> AsyncIterator[Bed]:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        bed = Bed(folder, http, ack_deadline)
        await bed.start()
        try:
            yield bed
        finally:
            await bed.stop()


def _two_sockets() -> tuple[socket.socket, socket.socket]:
    return bind("127.0.0.1", 0), bind("127.0.0.1", 0)


def _url(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}"
