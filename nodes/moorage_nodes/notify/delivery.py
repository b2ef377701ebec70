"""From a queue to a client: over a WebSocket, or as the answer of a poll (PROTOCOL.md, Deletion 3).

Any process may serve any client. What waits lies in etcd until it is acknowledged, so each connection begins by reading
it; from then on the hub tells. A WebSocket is one task that waits for its end; a second one lives only while there is
something to send. A poller's listener lingers between polls, so that a change in between is not missed; the first poll
here is told of a change of the last minute, which the client may have missed elsewhere or know already.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from starlette.requests import HTTPConnection

from moorage.core.errors import (
    CompactedError,
    MoorageError,
    StoreUnavailableError,
    ThrottledError,
    UnauthenticatedError,
)
from moorage_nodes.notify.hub import Hub
from moorage_nodes.notify.messages import RESYNC, encode_delete
from moorage_nodes.notify.queue import Queue
from moorage_nodes.sockets import TOKEN_ENDED, TRY_AGAIN, Socket

log = logging.getLogger("moorage.delivery")
USER_CONNECTIONS = 100  # of one user in one process, polls among them
SEND_SECONDS = 20.0  # that a reader may take for what fills its connection
CLOSE_SECONDS = 1.0
OUTBOX_MESSAGES = 1000  # that wait to be sent on one connection
LOOKS = 5
LOOK_AGAIN_SECONDS = 1.0
LINGER_SECONDS = 60.0
SWEEP_SECONDS = 5.0
CHECKED_TOGETHER = 64
RETRY_AFTER = 10

Recheck = Callable[[HTTPConnection], Awaitable[object]]
"""Whether the token that a connection came with is still good: UnauthenticatedError when it is not."""


class Connection:
    """One WebSocket of a client."""

    __slots__ = (
        "_change",
        "_close_with",
        "_delivery",
        "_outbox",
        "_pump",
        "_read_again",
        "_resync",
        "_sending",
        "_since",
        "_task",
        "client_id",
        "namespace",
        "socket",
    )

    def __init__(self, delivery: "Delivery", socket: Socket[Any], namespace: str, client_id: str) -> None:
        self.namespace = namespace
        self.client_id = client_id
        self.socket = socket
        self._delivery = delivery
        self._since = 0
        self._outbox: list[tuple[int, str]] = []
        self._change: str | None = None
        self._resync = False
        self._sending = math.inf
        self._read_again = True
        self._pump: asyncio.Task[None] | None = None
        self._task: asyncio.Task[object] | None = None
        self._close_with: tuple[int, str] | None = None

    # --- what the hub tells

    def on_delete(self, revision: int, text: str) -> None:
        if len(self._outbox) >= OUTBOX_MESSAGES:
            self._drop()
            return
        self._outbox.append((revision, text))
        self._wake()

    def on_change(self, text: str) -> None:
        self._change = text
        self._wake()

    def on_resync(self) -> None:
        self._resync = self._read_again = True
        self._wake()

    # --- the connection's life

    async def run(self) -> None:
        """Until the client goes, or `close`."""
        self._task = asyncio.current_task()
        hub = self._delivery.hub
        hub.add(self)
        self._wake()
        try:
            await self.socket.ended()
        except asyncio.CancelledError:
            if self._close_with is None or self._task is None:
                raise
            self._task.uncancel()
        finally:
            hub.remove(self)
            if self._pump is not None:
                self._pump.cancel()
        if self._close_with is not None:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self.socket.close(*self._close_with)

    def close(self, code: int, reason: str) -> None:
        """End it from this side."""
        if self._close_with is None and self._task is not None:
            self._close_with = code, reason
            self._task.cancel()

    def _drop(self) -> None:
        """Its reader is too slow. What waits in etcd is told again when it comes back; what does not, is lost."""
        if self._close_with is None:
            self._delivery.dropped(self)
            self.close(TRY_AGAIN, "too slow")

    def _wake(self) -> None:
        if self._pump is None and self._close_with is None:
            self._pump = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._read_again or self._outbox or self._change is not None:
                if self._read_again:
                    await self._send_waiting()
                outbox, self._outbox = self._outbox, []
                for revision, text in outbox:
                    if revision > self._since:
                        await self._send(text)
                if self._change is not None and not self._outbox:
                    text, self._change = self._change, None
                    await self._send(text)
        except OSError:
            pass  # it has gone: `ended` tells
        except StoreUnavailableError:
            self.close(TRY_AGAIN, "the store cannot be reached")
        except Exception:
            log.exception("cannot tell a client")
            self.close(TRY_AGAIN, "failed")
        finally:
            self._pump = None

    async def _send_waiting(self) -> None:
        """What waits in etcd for this client."""
        queue = self._delivery.queue
        for number in range(LOOKS):
            self._read_again = False
            try:
                look = await queue.waiting(self.namespace, self.client_id)
                lost, self._resync = look.resync or self._resync, False
                if lost:
                    await self._send(RESYNC)
                    self._delivery.resyncs += 1
                if look.resync:
                    await queue.forget_resync(self.namespace, self.client_id)
                async for page in look.pages:
                    for notification_id, notification in page:
                        await self._send(encode_delete(notification_id, notification))
            except CompactedError:
                continue
            except StoreUnavailableError:
                if number == LOOKS - 1:
                    raise
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            else:
                self._since = look.revision
                return
        raise StoreUnavailableError("The store forgets its past faster than it can be read.")

    async def _send(self, text: str) -> None:
        # Not a time-out for each message, which would be half of what it costs: the sweep looks who waits too long.
        self._sending = self._delivery.monotonic()
        await self.socket.send(text)
        self._sending = math.inf
        self._delivery.told += 1

    def drop_if_slow(self, now: float) -> None:
        """Called now and then: a reader that has taken `SEND_SECONDS` for what fills its connection is let go."""
        if now - self._sending > SEND_SECONDS:
            self._drop()


class Poller:
    """A client that polls. `users`: polls under way."""

    __slots__ = ("change", "client_id", "idle_since", "namespace", "news", "resync", "users")

    def __init__(self, namespace: str, client_id: str) -> None:
        self.namespace = namespace
        self.client_id = client_id
        self.news = asyncio.Event()
        self.change: str | None = None
        self.resync = False
        self.users = 0
        self.idle_since = 0.0

    def on_delete(self, _revision: int, _text: str) -> None:
        self.news.set()

    def on_change(self, text: str) -> None:
        self.change = text
        self.news.set()

    def on_resync(self) -> None:
        self.resync = True
        self.news.set()


class Delivery:
    """All clients of one process. Call `sweep` in a task of its own."""

    def __init__(self, queue: Queue, hub: Hub, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.queue = queue
        self.hub = hub
        self.monotonic = monotonic
        self._pollers: dict[tuple[str, str], Poller] = {}
        self._open: dict[str, int] = {}
        self._marking: set[asyncio.Task[None]] = set()
        self._draining = False
        self.connections = 0
        self.polls = 0
        self.told = 0
        self.resyncs = 0
        self.drops = 0

    @contextmanager
    def admit(self, namespace: str) -> Iterator[None]:
        """A place for one connection or poll of a user; `ThrottledError` when the user has too many."""
        count = self._open.get(namespace, 0)
        if count >= USER_CONNECTIONS:
            raise ThrottledError("Too many connections of one user.", retry_after=RETRY_AFTER)
        self._open[namespace] = count + 1
        try:
            yield
        finally:
            self._open[namespace] -= 1
            if not self._open[namespace]:
                del self._open[namespace]

    async def serve(self, socket: Socket[Any], namespace: str, client_id: str) -> None:
        """A WebSocket, from its upgrade to its end."""
        with self.admit(namespace):
            await socket.accept()
            self.connections += 1
            try:
                await Connection(self, socket, namespace, client_id).run()
            finally:
                self.connections -= 1

    async def poll(self, namespace: str, client_id: str, seconds: float, limit: int) -> list[str]:
        """Up to `limit` messages as soon as there is one; none after `seconds`, or when the process stops."""
        until = self.monotonic() + seconds
        with self.admit(namespace), self._polling(namespace, client_id) as poller:
            while True:
                poller.news.clear()
                messages = await self._collect(poller, limit)
                left = until - self.monotonic()
                if messages or left <= 0 or self._draining:
                    self.told += len(messages)
                    return messages
                try:
                    async with asyncio.timeout(left):
                        await poller.news.wait()
                except TimeoutError:
                    return []

    @contextmanager
    def _polling(self, namespace: str, client_id: str) -> Iterator[Poller]:
        name = namespace, client_id
        poller = self._pollers.get(name)
        if poller is None:
            poller = self._pollers[name] = Poller(namespace, client_id)
            self.hub.add(poller)
            poller.change = self.hub.recent_change(namespace)
        poller.users += 1
        self.polls += 1
        try:
            yield poller
        finally:
            self.polls -= 1
            poller.users -= 1
            poller.idle_since = self.monotonic()

    async def _collect(self, poller: Poller, limit: int) -> list[str]:
        namespace, client_id = poller.namespace, poller.client_id
        for _ in range(LOOKS):
            messages: list[str] = []
            # Taken at once: one that comes while pages are read is another one.
            lost, poller.resync = poller.resync, False
            try:
                look = await self.queue.waiting(namespace, client_id)
                if look.resync or lost:
                    messages.append(RESYNC)
                async for page in look.pages:
                    if len(messages) >= limit:
                        break
                    messages += [encode_delete(each, notification) for each, notification in page]
                if look.resync:
                    await self.queue.forget_resync(namespace, client_id)
            except BaseException as error:
                poller.resync = poller.resync or lost
                if isinstance(error, CompactedError):
                    continue
                raise
            self.resyncs += look.resync or lost
            if len(messages) < limit and poller.change is not None:
                messages.append(poller.change)
                poller.change = None
            return messages[:limit]
        raise StoreUnavailableError("The store forgets its past faster than it can be read; try again.")

    def dropped(self, connection: Connection) -> None:
        """A slow reader is let go, and told to start over when it comes back."""
        self.drops += 1
        task = asyncio.create_task(self._mark(connection.namespace, connection.client_id))
        self._marking.add(task)
        task.add_done_callback(self._marking.discard)

    async def _mark(self, namespace: str, client_id: str) -> None:
        try:
            await self.queue.ask_resync(namespace, client_id)
        except MoorageError as error:
            log.warning("a slow client is not told that it missed something", extra={"reason": error.detail})

    async def sweep(self, recheck: Recheck) -> None:
        """For ever: connections whose token has ended are closed, pollers that went away forgotten."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.forget_pollers()
            connections = [each for each in self.hub.listeners() if isinstance(each, Connection)]
            now = self.monotonic()
            for each in connections:
                each.drop_if_slow(now)
            for start in range(0, len(connections), CHECKED_TOGETHER):
                part = connections[start : start + CHECKED_TOGETHER]
                await asyncio.gather(*(self._recheck(each, recheck) for each in part))

    async def _recheck(self, connection: Connection, recheck: Recheck) -> None:
        try:
            await recheck(connection.socket.connection)
        except UnauthenticatedError:
            connection.close(TOKEN_ENDED, "the token is not valid any more")
        except MoorageError:
            connection.close(TRY_AGAIN, "the token cannot be checked")

    def forget_pollers(self) -> None:
        now = self.monotonic()
        for name, poller in list(self._pollers.items()):
            if not poller.users and now - poller.idle_since >= LINGER_SECONDS:
                self.hub.remove(poller)
                del self._pollers[name]

    def drain(self) -> None:
        """Answer the polls that wait. WebSockets are closed by the server below us."""
        self._draining = True
        for poller in self._pollers.values():
            poller.news.set()

    async def close(self) -> None:
        await asyncio.gather(*self._marking, return_exceptions=True)
