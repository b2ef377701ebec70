"""The clients (devices) of a user, which L1 keeps: a new one is registered there when it first connects."""

import time
from collections import OrderedDict
from collections.abc import Callable

from moorage_nodes.peer_api import SeeClientAnswer, SeeClientRequest
from moorage_nodes.peers import PeerClient

KNOWN_SECONDS = 3600.0
MAX_KNOWN = 50_000


class Clients:
    """What L1 knows, asked at most once an hour for each client. `peer_of`: the L1 servers of a server key."""

    def __init__(
        self, peer_of: Callable[[str], PeerClient], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._peer_of = peer_of
        self._monotonic = monotonic
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def see(self, server_key: str, namespace: str, client_id: str) -> None:
        """The client is there: registered from now on. `TooManyClientsError` when the user has too many."""
        await self._ask(server_key, namespace, client_id, register=True)

    async def is_registered(self, server_key: str, namespace: str, client_id: str) -> bool:
        return await self._ask(server_key, namespace, client_id, register=False)

    async def _ask(self, server_key: str, namespace: str, client_id: str, *, register: bool) -> bool:
        name, now = (namespace, client_id), self._monotonic()
        known = self._known.get(name)
        if known is not None and now - known < KNOWN_SECONDS:
            return True
        request = SeeClientRequest(namespace=namespace, client_id=client_id, register=register)
        answer = await self._peer_of(server_key).post("/internal/clients", request, SeeClientAnswer)
        if answer.registered:
            self._known[name] = now
            self._known.move_to_end(name)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return answer.registered
