"""The clients (devices) that sync a namespace: who is to be told of a deletion (PROTOCOL.md, Deletion).

Registering moves the head, so a deletion tells exactly those devices that stood at the head it began on.
"""

from msgspec.structs import replace

from moorage.core.errors import TooManyClientsError
from moorage.core.times import format_time
from moorage.core.wire import ClientAnswer
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import Device
from moorage_nodes.metadata.view import RangeKey, View

DEVICES_LIMIT = 256
SEEN_COARSELY = 24 * 3600 * 1000  # ms; seen again within this writes nothing
UNSEEN_DROPPED = 30 * 24 * 3600 * 1000  # ms


def plan_register(view: View, client_id: str, name: str | None) -> ClientAnswer:
    """Register a device, or see it again, under this name (None: the one it has, a new one its id). Drops those that
    were not seen for 30 days.

    409 `too_many_clients` above `DEVICES_LIMIT`.
    """
    key = keys.device(view.namespace, client_id)
    known = view.record(Device, key)
    if name is None:
        name = client_id if known is None else known.name
    if known is not None and known.name == name and view.now - known.seen < SEEN_COARSELY:
        return _answer(client_id, known)
    if known is None:
        devices = _observe_devices(view)
        unseen = [each for each, device in devices.items() if not _is_seen(view, device)]
        if len(devices) - len(unseen) >= DEVICES_LIMIT:
            raise TooManyClientsError(f"At most {DEVICES_LIMIT} clients can be registered.")
        for each in unseen:
            view.delete(keys.device(view.namespace, each))
        known = Device(1, name, view.now, view.now)
    device = replace(known, name=name, seen=view.now)
    view.put(key, device)
    return _answer(client_id, device)


def plan_is_registered(view: View, client_id: str) -> bool:
    device = view.record(Device, keys.device(view.namespace, client_id))
    return device is not None and _is_seen(view, device)


def observe_told_clients(view: View, but_for: str) -> list[str]:
    """The ids of the devices to tell, in byte order."""
    return [
        client_id
        for client_id, device in _observe_devices(view).items()
        if client_id != but_for and _is_seen(view, device)
    ]


def _observe_devices(view: View) -> dict[str, Device]:
    start, end = keys.devices_range(view.namespace)
    found: dict[bytes, bytes | None] = {kv.key: kv.value for kv in view.range(RangeKey(start, end))}
    found.update(view.written_within(start, end))
    return {
        keys.parse_client_id(key): records.decode(Device, data)
        for key, data in sorted(found.items())
        if data is not None
    }


def _is_seen(view: View, device: Device) -> bool:
    return view.now - device.seen < UNSEEN_DROPPED


def _answer(client_id: str, device: Device) -> ClientAnswer:
    return ClientAnswer(
        client_id=client_id,
        name=device.name,
        registered=format_time(device.registered),
        last_seen=format_time(device.seen),
    )
