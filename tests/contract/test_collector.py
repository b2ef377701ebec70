"""Whole collections on real stores: every kind of the collector's work, as on the stores in memory."""

import asyncio

import pytest
from collector_bed import DAY, HOUR, CollectorBed, DirectPools
from collector_story import check_held, check_nothing_else, prepare, take_small_steps
from upload_bed import make_cluster

from moorage_nodes.gc.tenure import CollectorBusyError, Tenure, TenureLostError
from moorage_nodes.stores.contracts import MetadataStore, ObjectStore
from moorage_nodes.stores.memory import MemoryStore


async def tell_the_story(bed: CollectorBed) -> None:
    await make_cluster(bed.store)
    await prepare(bed)
    await bed.quiet(2)
    await bed.undelete("waits")
    await bed.quiet(4)
    await check_held(bed)
    assert await bed.read("waits") == b"waits"
    await check_nothing_else(bed)


async def test_the_keys_of_a_namespace_are_collected(store: MetadataStore, monkeypatch: pytest.MonkeyPatch):
    take_small_steps(monkeypatch)
    await tell_the_story(CollectorBed(store))


async def test_objects_are_collected(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    take_small_steps(monkeypatch)
    await tell_the_story(CollectorBed(MemoryStore(), objects=objects, pools=DirectPools({"p1": objects})))


async def test_a_past_that_is_compacted_all_the_time_hinders_no_collection(subject):
    await make_cluster(subject.store)
    bed = CollectorBed(subject.store)
    for number in range(4):
        await bed.write("f", number, {"a": b"version %d" % number})
    stop = asyncio.Event()

    async def compact():
        last = 0
        while not stop.is_set():
            revision = (await bed.store.get_many([b"x"])).revision
            if revision > last:  # the same twice is an error
                await subject.compact(revision)
            last = revision
            await asyncio.sleep(0.001)

    compacting = asyncio.create_task(compact())
    await bed.quiet(3)
    stop.set()
    await compacting
    assert len(await bed.object_names()) == 3


async def test_one_collector_works_until_its_tenure_ends(subject):
    bed = CollectorBed(subject.store)
    await make_cluster(subject.store)
    loop = asyncio.get_running_loop()
    first = await Tenure.begin(bed.store, "first", lambda: loop.time() / subject.second, ttl=2)
    with pytest.raises(CollectorBusyError):
        await bed.collector().run()
    deadline = loop.time() + 60
    while True:  # nobody renews it
        try:
            await bed.collector().run()
        except CollectorBusyError:
            assert loop.time() < deadline
            await asyncio.sleep(0.05)
        else:
            break
    with pytest.raises(TenureLostError):
        await first.renew()
    await bed.collect(after=DAY)
    await bed.collect(after=HOUR)


async def test_a_collector_that_slept_before_it_had_its_turn_stops(subject):
    """Its lease has ended before it was used: the store refuses that, and it is no failure of the store."""
    store = subject.store
    grant, now = store.grant_lease, 0.0

    async def grant_and_sleep(ttl: int) -> int:
        nonlocal now
        lease = await grant(ttl)
        await store.revoke_lease(lease)
        now += 60.0
        return lease

    store.grant_lease = grant_and_sleep
    with pytest.raises(TenureLostError):
        await Tenure.begin(store, "sleeper", lambda: now, ttl=60)
