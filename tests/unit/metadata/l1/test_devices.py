"""Devices: registered once, seen coarsely, dropped when they were not seen for long."""

import asyncio

import pytest
from upload_bed import NAMESPACE, Bed

from moorage.core.errors import TooManyClientsError
from moorage.core.wire import ClientAnswer
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1 import devices
from moorage_nodes.metadata.l1.devices import observe_told_clients, plan_register


async def register(bed: Bed, client_id: str, name: str = "a laptop") -> ClientAnswer:
    return await bed.engine.change(NAMESPACE, lambda view: plan_register(view, client_id, name))


async def registered(bed: Bed) -> list[str]:
    found, _ = await bed.store.range(*keys.devices_range(NAMESPACE))
    return [keys.parse_client_id(kv.key) for kv in found.kvs]


async def test_registering_again_answers_the_same_and_writes_nothing(bed, other_bed):
    first = await register(bed, "laptop")
    assert (first.client_id, first.name, first.registered) == ("laptop", "a laptop", first.last_seen)
    head = await bed.store.get(keys.head(NAMESPACE))
    other_bed.time += 3600
    assert await register(other_bed, "laptop") == first
    assert await bed.store.get(keys.head(NAMESPACE)) == head
    assert await bed.journal() == []


async def test_a_new_name_and_a_new_day_are_noted(bed):
    first = await register(bed, "laptop")
    assert (await register(bed, "laptop", "the same laptop")).name == "the same laptop"
    bed.time += 25 * 3600
    later = await register(bed, "laptop", "the same laptop")
    assert later.last_seen > first.last_seen
    assert later.registered == first.registered


async def test_who_was_not_seen_for_long_is_dropped_when_another_one_comes(bed):
    await register(bed, "old")
    bed.time += 29 * 24 * 3600
    await register(bed, "new")
    assert await registered(bed) == ["new", "old"]
    bed.time += 2 * 24 * 3600
    await register(bed, "newer")
    assert await registered(bed) == ["new", "newer"]
    assert (await register(bed, "old")).client_id == "old"


async def test_there_is_a_limit(bed, monkeypatch):
    monkeypatch.setattr(devices, "DEVICES_LIMIT", 3)
    for number in range(3):
        await register(bed, f"c{number}")
    with pytest.raises(TooManyClientsError):
        await register(bed, "c3")
    await register(bed, "c0", "another name")
    bed.time += 31 * 24 * 3600
    await register(bed, "c3")
    assert await registered(bed) == ["c3"]


async def test_who_registers_in_the_same_transaction_is_told(bed):
    await register(bed, "laptop")
    _, told = await asyncio.gather(
        register(bed, "a-phone"),
        bed.engine.change(NAMESPACE, lambda view: observe_told_clients(view, "laptop")),
    )
    assert told == ["a-phone"]
