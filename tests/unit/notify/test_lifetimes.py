"""Deadlines, restarts, tokens that end and readers that do not read, on real sockets."""

import asyncio
import contextlib
import socket as sockets
from collections.abc import AsyncIterator

import pytest
from notify_bed import PATIENCE, Bed, next_message, running_bed
from websockets.exceptions import ConnectionClosed

from moorage_nodes import app as app_module
from moorage_nodes.notify import delivery as delivery_module
from moorage_nodes.notify import keys
from moorage_nodes.notify import settling as settling_module
from moorage_nodes.notify.queue import Ask
from moorage_nodes.tokens import TokenRefusedError


@pytest.fixture
async def bed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bed]:
    monkeypatch.setattr(delivery_module, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(settling_module, "SCAN_SECONDS", 0.1)
    async with running_bed(tmp_path_factory.mktemp("realm"), ack_deadline=2) as running:
        yield running


@pytest.fixture
def user(bed: Bed) -> str:
    return bed.new_user()


async def test_after_the_deadline_it_goes_on_without_the_silent_and_not_before(bed, user):
    await bed.make_file(user, "f")
    await bed.register(user, "answers", "silent")
    began = asyncio.get_running_loop().time()
    notification_id = await bed.delete(user, "f")
    assert (await bed.poll(user, "answers"))["notification_id"] == notification_id
    await bed.acknowledge(user, notification_id, "answers")
    await bed.until_deleted(user, "f")
    assert asyncio.get_running_loop().time() - began >= 2
    late = await bed.acknowledge(user, notification_id, "silent", at=1)
    assert late.json() == {"status": "acknowledged"}
    rest = await bed.poll(user, "silent", timeout=0)
    assert rest is None or rest["type"] == "change"


async def test_a_deadline_outlives_all_notification_servers(bed, user):
    await bed.make_file(user, "f")
    await bed.register(user, "silent")
    notification_id = await bed.delete(user, "f")
    assert (await bed.poll(user, "silent"))["notification_id"] == notification_id
    for running in bed.notifiers:
        await running.stop()
    await asyncio.sleep(0.3)
    assert await bed.state_of(user, "f") == "pending_deletion"
    bed.notifiers = [await bed.start_notifier(number) for number in (0, 1)]
    await bed.until_deleted(user, "f")


async def test_what_l1_did_not_hear_is_told_again(bed, user):
    """Its first answers are lost: the outcome stays due, and the notification is not settled before L1 knows."""
    queue = bed.notifiers[0].notifier.queue
    await queue.enqueue(Ask(user, "n1", "no-such-cluster", "f", "file", ["a"]))
    await queue.acknowledge(user, "n1", "a")
    await asyncio.sleep(1)
    assert not (await queue.get(user, "n1")).settled
    due = await queue.due(0, 10)
    assert [each for _, _, each in due] == ["n1"]


async def test_a_notifier_that_is_away_delays_a_deletion_and_loses_none(bed, user):
    for running in bed.notifiers:
        await running.stop()
    await bed.make_file(user, "f")
    await bed.register(user, "a")
    notification_id = await bed.delete(user, "f")
    await asyncio.sleep(0.3)
    assert await bed.state_of(user, "f") == "pending_deletion"
    bed.notifiers = [await bed.start_notifier(number) for number in (0, 1)]
    await bed.l1.server.context.deletions.scan()  # twice: as two scans would, ten seconds apart
    await bed.l1.server.context.deletions.scan()
    assert (await bed.poll(user, "a", timeout=20))["type"] in {"delete", "change"}
    async with bed.listen(user, "a") as socket:
        assert (await next_message(socket, "delete"))["notification_id"] == notification_id
    await bed.until_deleted(user, "f")


async def test_a_stopped_server_answers_its_polls_and_closes_its_sockets(bed, user):
    async with bed.listen(user, "a") as socket:
        poll = asyncio.create_task(bed.poll(user, "b", timeout=30))
        await asyncio.sleep(0.3)
        await bed.notifiers[0].stop()
        assert await poll is None
        with pytest.raises(ConnectionClosed) as closed:
            await next_message(socket, "never")
        assert closed.value.rcvd.code == 1012
    async with bed.listen(user, "a", at=1) as socket:
        await bed.make_file(user, "f")
        assert (await next_message(socket))["type"] == "change"


async def test_a_connection_ends_with_its_token(bed, user):
    async with bed.listen(user, "a", ttl=2) as brief, bed.listen(user, "b") as longer:
        with pytest.raises(ConnectionClosed) as closed:
            await next_message(brief, "never")
        assert closed.value.rcvd.code == 4401
        await bed.make_file(user, "f")
        assert (await next_message(longer))["type"] == "change"


class Revoked:
    """Refuses one user from now on."""

    def __init__(self, user: str) -> None:
        self._user = user

    def passes(self, claims) -> bool:
        return claims.subject != self._user

    async def check(self, claims) -> None:
        raise TokenRefusedError("revoked")


async def test_a_connection_ends_when_its_user_is_disabled_and_a_poll_is_refused(bed, user):
    other = bed.new_user()
    async with bed.listen(user, "a") as socket, bed.listen(other, "a") as others:
        poll = asyncio.create_task(
            bed.http.get(
                f"{bed.notifiers[0].public}/poll?client_id=b&timeout=20", headers=bed.bearer(user), timeout=30
            )
        )
        await asyncio.sleep(0.3)
        bed.notifiers[0].notifier.generations = Revoked(user)
        with pytest.raises(ConnectionClosed) as closed:
            await next_message(socket, "never")
        assert closed.value.rcvd.code == 4401
        await bed.make_file(user, "f")
        assert (await poll).status_code == 401
        await bed.make_file(other, "f")
        assert (await next_message(others))["type"] == "change"


@contextlib.asynccontextmanager
async def not_reading(bed: Bed, user: str, client_id: str) -> AsyncIterator[None]:
    """A WebSocket whose client reads nothing behind the upgrade."""
    host, port = bed.notifiers[0].public.removeprefix("http://").split(":")
    sock = sockets.create_connection((host, int(port)))
    lines = [
        f"GET /ws?client_id={client_id} HTTP/1.1",
        f"Host: {host}:{port}",
        f"Authorization: {bed.bearer(user)['Authorization']}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    try:
        assert b" 101 " in await asyncio.to_thread(sock.recv, 1024)
        yield
    finally:
        sock.close()


async def test_a_slow_reader_is_let_go_and_starts_over(bed, user, monkeypatch):
    monkeypatch.setattr(delivery_module, "SEND_SECONDS", 0.5)
    notifier = bed.notifiers[0].notifier
    async with not_reading(bed, user, "slow"), bed.listen(user, "quick") as quick:
        (connection,) = [each for each in notifier.delivery.hub.listeners() if each.client_id == "slow"]
        text = '{"type":"delete","file_id":"%s"}' % ("x" * 60_000)
        async with asyncio.timeout(PATIENCE):
            while not notifier.delivery.drops:
                connection.on_delete(1 << 60, text)
                await asyncio.sleep(0.01)
        await bed.make_file(user, "f")
        assert (await next_message(quick))["type"] == "change"

        async def marked() -> bool:
            return (await notifier.queue.waiting(user, "slow")).resync

        async with asyncio.timeout(PATIENCE):
            while not await marked():
                await asyncio.sleep(0.02)
    async with bed.listen(user, "slow", at=1) as again:
        assert (await next_message(again))["type"] == "resync"


async def test_a_client_that_answers_no_ping_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(app_module, "PING_SECONDS", 0.3)
    async with running_bed(tmp_path) as bed:
        user = bed.new_user()
        delivery = bed.notifiers[0].notifier.delivery
        async with not_reading(bed, user, "dead"), bed.listen(user, "alive") as alive:

            async def only_one() -> bool:
                return delivery.connections == 1

            async with asyncio.timeout(PATIENCE):
                while not await only_one():
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1)
            await bed.make_file(user, "f")
            assert (await next_message(alive))["type"] == "change"


async def test_too_many_messages_that_wait_let_a_reader_go(bed, user, monkeypatch):
    monkeypatch.setattr(delivery_module, "OUTBOX_MESSAGES", 10)
    notifier = bed.notifiers[0].notifier
    async with bed.listen(user, "a") as socket:
        (connection,) = [each for each in notifier.delivery.hub.listeners() if each.client_id == "a"]
        for _ in range(11):
            connection.on_delete(1 << 60, '{"type":"delete"}')
        with pytest.raises(ConnectionClosed) as closed:
            await next_message(socket, "never")
        assert closed.value.rcvd.code == 1013


async def test_pollers_that_went_away_are_forgotten(bed, user, monkeypatch):
    monkeypatch.setattr(delivery_module, "LINGER_SECONDS", 0.2)
    await bed.poll(user, "a", timeout=0)
    hub = bed.notifiers[0].notifier.delivery.hub
    assert hub.count(user) == 1
    async with asyncio.timeout(PATIENCE):
        while hub.count(user):
            await asyncio.sleep(0.02)


async def test_the_servers_are_ready_and_tell_what_they_do(bed, user):
    async with bed.listen(user, "a"):
        for running in bed.notifiers:
            ready = await bed.http.get(f"{running.internal}/readyz")
            assert ready.status_code == 200, ready.text
            assert set(ready.json()["checks"]) == {"etcd", "watch", "signing_key"}
        metrics = (await bed.http.get(f"{bed.notifiers[0].internal}/metrics")).text
        assert "moorage_notify_connections 1.0" in metrics
        assert "moorage_notify_messages_total" in metrics
    kv = await bed.queues.get(keys.CLOCK)
    assert kv is not None
