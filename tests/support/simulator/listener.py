"""A device that polls for deletions and acknowledges them, at whichever notification server answers."""

from dataclasses import dataclass, field

from moorage_nodes.metadata.records import PROCEED
from simulator.device import Device
from simulator.network import Asked
from simulator.witness import Violation


@dataclass
class Listener:
    """`acknowledged`: the notifications whose acknowledgement was answered, and when."""

    device: Device
    answers: float = 0.7  # of what it is told, what it acknowledges
    acknowledged: dict[str, float] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)

    async def poll(self) -> None:
        """What waits, and an acknowledgement of most of it."""
        device = self.device
        start = device.world.loop.time()
        op = device.begin("poll", "")
        query = {"client_id": device.id, "timeout": device.rng.choice(["0", "1", "5"]), "batch": "1"}
        answered = await device.insist(op, "notify", Asked("GET", "/poll", query))
        if answered is None or answered.status != 200:
            return
        for message in answered.json()["messages"]:
            if message["type"] != "delete":
                continue
            notification_id = message["notification_id"]
            self.told[notification_id] = self.told.get(notification_id, 0) + 1
            if self.acknowledged.get(notification_id, start) < start:
                raise Violation("told until it is acknowledged", f"{device.id}: {notification_id} once more")
            if device.rng.random() < self.answers:
                await self._acknowledge(notification_id)

    async def hasten(self) -> None:
        """Acknowledge what it knows from its user, whether or not a notification server has heard of it yet."""
        device = self.device
        namespace = device.history.witness.namespaces.get(device.user)
        deletions = {} if namespace is None else namespace.deletions
        known = sorted(
            notification_id
            for notification_id, deletion in deletions.items()
            if device.id in deletion.clients and deletion.step != PROCEED
        )
        if known:
            await self._acknowledge(device.rng.choice(known))

    async def _acknowledge(self, notification_id: str) -> None:
        device = self.device
        body = {"notification_id": notification_id, "client_id": device.id}
        for _ in range(device.rng.choice([1, 1, 2])):
            op = device.begin("acknowledge", notification_id)
            answered = await device.insist(op, "notify", Asked("POST", "/ack_deletion"), body)
            if answered is None:
                return
            if answered.status != 200:
                raise Violation("an acknowledgement is always taken", f"{op}")
            noted = device.history.witness.check_noted(device.user, notification_id, device.id)
            # Of a deletion that has been cancelled a server that stood still may yet tell for the first time.
            if noted or notification_id in self.told:
                self.acknowledged.setdefault(notification_id, device.world.loop.time())
