"""Queues, acknowledgements and outcomes, over a store in memory and over etcd."""

import asyncio
import random

import msgspec
import pytest

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.notify import keys
from moorage_nodes.notify.keys import Queues
from moorage_nodes.notify.queue import PAGE, Ask, Queue
from moorage_nodes.stores.contracts import Put, Txn
from moorage_nodes.stores.faulty import Fault, FaultyStore, Plan
from moorage_nodes.stores.memory import MemoryStore

LIMIT = 3


async def waiting(queue: Queue, client: str, namespace: str = "ann") -> list[str]:
    look = await queue.waiting(namespace, client)
    return [each async for page in look.pages for each, _ in page]


async def resync(queue: Queue, client: str, namespace: str = "ann") -> bool:
    return (await queue.waiting(namespace, client)).resync


async def queues_of(store, namespace: str = "ann") -> Queues | None:
    kv = await store.get(keys.queues(namespace))
    return None if kv is None else keys.decode(Queues, kv.value)


async def all_keys(store) -> list[bytes]:
    found, _ = await store.range(b"\0", b"\xff")
    return [kv.key for kv in found.kvs if kv.key != keys.CLOCK]


async def all_values(store) -> dict[bytes, bytes]:
    found, _ = await store.range(b"\0", b"\xff")
    return {kv.key: kv.value for kv in found.kvs}


async def dues(queue: Queue, until: int) -> list[str]:
    return [each for _, _, each in await queue.due(until, 100)]


async def test_who_is_to_be_told_is_told_and_nobody_else(queue, other, ask):
    await queue.enqueue(ask("n1", "a", "b"))
    for process in (queue, other):
        assert await waiting(process, "a") == ["n1"]
        assert await waiting(process, "b") == ["n1"]
        assert await waiting(process, "c") == []
        assert await waiting(process, "a", "bob") == []


async def test_the_same_again_changes_nothing(queue, other, ask, store):
    await queue.enqueue(ask("n1"))
    before = await queue.get("ann", "n1"), await queues_of(store)
    await other.enqueue(ask("n1"))
    await queue.enqueue(ask("n1", "c"))
    assert (await queue.get("ann", "n1"), await queues_of(store)) == before


async def test_an_acknowledgement_counts_for_its_client(queue, other, ask):
    await queue.enqueue(ask("n1", "a", "b"))
    await other.acknowledge("ann", "n1", "a")
    assert await waiting(queue, "a") == []
    assert await waiting(queue, "b") == ["n1"]
    notification = await queue.acknowledge("ann", "n1", "a")
    assert (notification.waiting, notification.acknowledged) == (["b"], ["a"])


async def test_one_by_who_is_not_told_counts_nothing(queue, ask):
    await queue.enqueue(ask("n1", "a"))
    notification = await queue.acknowledge("ann", "n1", "c")
    assert (notification.waiting, notification.acknowledged) == (["a"], [])
    assert await queue.acknowledge("bob", "n1", "a") is None
    assert await queue.acknowledge("ann", "n2", "a") is None
    assert await waiting(queue, "a") == ["n1"]


async def test_it_is_due_at_the_deadline_and_at_once_when_all_have_acknowledged(queue, ask):
    await queue.enqueue(ask("n1", "a", "b"))
    await queue.enqueue(ask("n2", "a"))
    assert await dues(queue, 99_000) == []
    assert sorted(await dues(queue, 102_000)) == ["n1", "n2"]
    await queue.acknowledge("ann", "n1", "a")
    assert await dues(queue, 99_000) == []
    await queue.acknowledge("ann", "n1", "b")
    assert await dues(queue, 0) == ["n1"]
    assert sorted(await dues(queue, 102_000)) == ["n1", "n2"]


async def test_a_deadline_begins_when_the_notification_comes(queue, ask, time, elapsed):
    for _ in range(10):
        time.pass_by(2)
        await elapsed.advance()
    await queue.enqueue(ask("n1"))
    assert await dues(queue, 20_000 + 99_000) == []
    assert (await queue.get("ann", "n1")).due == elapsed.elapsed + 2000 + 100_000


async def test_what_is_settled_is_remembered_and_told_to_nobody(queue, other, ask, store):
    await queue.enqueue(ask("n1", "a", "b"))
    await queue.acknowledge("ann", "n1", "a")
    await queue.settle("ann", "n1")
    assert await dues(queue, 1 << 40) == []
    assert await waiting(queue, "b") == []
    assert await queues_of(store) is None
    kv = await store.get(keys.notification("ann", "n1"))
    assert kv.lease
    late = await other.acknowledge("ann", "n1", "b")
    assert late.settled
    assert late.waiting == ["b"]
    await other.settle("ann", "n1")
    assert await waiting(queue, "b") == []
    assert await all_keys(store) == [keys.notification("ann", "n1")]


async def test_l1_that_asks_for_what_is_settled_is_told_the_outcome_again(queue, other, ask, store):
    """Its store was restored from a time before, say: else it would wait until this is forgotten, for days."""
    await queue.enqueue(ask("n0", "b"))
    await queue.enqueue(ask("n1", "a", "b"))
    await queue.acknowledge("ann", "n1", "a")
    await queue.settle("ann", "n1")
    before = await all_values(store)
    await other.enqueue(ask("n1", "a", "b"))
    again = await queue.get("ann", "n1")
    assert (again.settled, again.acknowledged, again.waiting) == (False, ["a"], ["b"])
    assert await dues(queue, again.due) == ["n0", "n1"]
    assert (await store.get(keys.notification("ann", "n1"))).lease == 0
    await queue.settle("ann", "n1")
    assert await all_values(store) == before


async def test_withdrawn_is_settled_without_an_outcome(queue, ask):
    assert not await queue.withdraw("ann", "n1")
    await queue.enqueue(ask("n1", "a"))
    assert await queue.withdraw("ann", "n1")
    assert not await queue.withdraw("ann", "n1")
    assert await waiting(queue, "a") == []
    assert await dues(queue, 1 << 40) == []


async def test_a_full_queue_starts_over_and_only_that_one(queue, ask, store):
    for number in range(LIMIT):
        await queue.enqueue(ask(f"n{number}", "a"))
    await queue.enqueue(ask("m", "a", "b"))
    assert await resync(queue, "a")
    assert await waiting(queue, "a") == []
    assert not await resync(queue, "b")
    assert await waiting(queue, "b") == ["m"]
    assert (await queue.get("ann", "m")).waiting == ["b"]
    await queue.acknowledge("ann", "m", "b")
    assert "m" not in await dues(queue, 0), "who is to start over is waited for too"
    await queue.enqueue(ask("not-kept-for-it", "a"))
    assert await waiting(queue, "a") == []
    assert len(await dues(queue, 0)) == 0
    assert len(await dues(queue, 102_000)) == LIMIT + 2
    await queue.forget_resync("ann", "a")
    assert not await resync(queue, "a")
    await queue.enqueue(ask("o", "a"))
    assert await waiting(queue, "a") == ["o"]
    # It may still acknowledge what it is not told of any more, and its queue is as long as what waits in it.
    await queue.acknowledge("ann", "n0", "a")
    assert (await queues_of(store)).clients["a"].count == 1
    await queue.acknowledge("ann", "o", "a")
    assert (await queues_of(store)).clients["a"].count == 0


async def test_what_is_acknowledged_makes_room(queue, ask):
    for number in range(5 * LIMIT):
        await queue.enqueue(ask(f"n{number}", "a"))
        await queue.acknowledge("ann", f"n{number}", "a")
    assert not await resync(queue, "a")


async def test_to_start_over_outlives_what_was_to_be_told(queue, ask, store):
    for number in range(LIMIT + 1):
        await queue.enqueue(ask(f"n{number}", "a"))
    for number in range(LIMIT + 1):
        await queue.settle("ann", f"n{number}")
    assert await resync(queue, "a")
    await queue.forget_resync("ann", "a")
    await queue.enqueue(ask("later", "a"))
    assert await waiting(queue, "a") == ["later"]
    await queue.settle("ann", "later")
    assert await queues_of(store) is None


async def test_a_slow_reader_is_asked_to_start_over(queue, other, ask):
    await queue.ask_resync("ann", "a")
    await queue.ask_resync("ann", "a")
    assert await resync(other, "a")
    await queue.enqueue(ask("n1", "a"))
    assert await waiting(queue, "a") == ["n1"], "its queue was not full"
    await other.forget_resync("ann", "a")
    assert not await resync(queue, "a")


async def test_more_than_a_page_waits_in_pages(time):
    store = MemoryStore()
    await store.transact(first_clock())
    queue = big_queue(store, time)
    for number in range(PAGE + 5):
        await queue.enqueue(build_ask(f"n{number:04}", "a" if number % 2 else "b"))
    assert len(await waiting(queue, "a")) == (PAGE + 5) // 2
    look = await queue.waiting("ann", "a")
    sizes = [len(page) async for page in look.pages]
    assert len(sizes) == 2


async def test_all_at_once_each_is_counted(queue, other, ask, store):
    clients = [f"c{number}" for number in range(8)]
    await asyncio.gather(*(each.enqueue(ask(f"n{n}", *clients)) for n in range(3) for each in (queue, other)))
    assert (await queues_of(store)).open == 3
    await asyncio.gather(
        *(
            each.acknowledge("ann", f"n{number}", client)
            for number in range(3)
            for client in clients
            for each in (queue, other)
        )
    )
    queues = await queues_of(store)
    assert (queues.open, queues.clients) == (3, {})
    for number in range(3):
        notification = await queue.get("ann", f"n{number}")
        assert not notification.waiting
        assert sorted(notification.acknowledged) == clients
    assert len(await dues(queue, 0)) == 3


# --- crashes ---------------------------------------------------------------------------------------------------


def first_clock():
    return Txn(then=(Put(keys.CLOCK, keys.encode(keys.Clock(1, 0, 2000))),))


def build_ask(notification_id: str, *clients: str):
    return Ask("ann", notification_id, "c1", "f", "file", clients)


def big_queue(store, time) -> Queue:
    return Queue(
        store,
        limit=10_000,
        ack_deadline=100,
        clock=lambda: time.wall,
        monotonic=lambda: time.monotonic,
        rng=random.Random(1),
    )


async def to_the_end(ask) -> None:
    await ask(lambda queue: queue.enqueue(build_ask("n1", "a", "b")))
    await ask(lambda queue: queue.enqueue(build_ask("n2", "a")))
    await ask(lambda queue: queue.acknowledge("ann", "n1", "a"))
    await ask(lambda queue: queue.acknowledge("ann", "n1", "b"))
    await ask(lambda queue: queue.settle("ann", "n1"))
    await ask(lambda queue: queue.settle("ann", "n2"))


async def check_whole(store) -> None:
    """Counts and dues are what the notifications say."""
    found, _ = await store.range(*keys.notifications_range("ann"))
    standing = {
        keys.parse_notification(kv.key)[1]: keys.decode(keys.Notification, kv.value) for kv in found.kvs
    }
    going = {each: n for each, n in standing.items() if not n.settled}
    due, _ = await store.range(*keys.due_range(1 << 40))
    assert {keys.parse_due(kv.key)[::2] for kv in due.kvs} == {(n.due, each) for each, n in going.items()}
    queues = await queues_of(store) or Queues(1)
    assert queues.open == len(going)
    counts = {}
    for notification in going.values():
        for client in notification.waiting:
            counts[client] = counts.get(client, 0) + 1
    assert {client: each.count for client, each in queues.clients.items() if each.count} == counts


@pytest.mark.parametrize("fault", [Fault.LOST_REQUEST, Fault.LOST_ANSWER, Fault.UNREACHABLE])
async def test_each_step_happens_once_whatever_is_lost(fault: Fault, time):
    calls: list[str] = []
    number = -1
    while number < len(calls):
        store = MemoryStore()
        await store.transact(first_clock())
        plan = Plan({} if number < 0 else {number: fault})
        dying, healthy = big_queue(FaultyStore(store, plan), time), big_queue(store, time)

        async def ask(step, dying=dying, healthy=healthy, store=store) -> None:
            try:
                await step(dying)
            except StoreUnavailableError:
                await check_whole(store)
                await step(healthy)
            await check_whole(store)

        await to_the_end(ask)
        notification = await healthy.get("ann", "n1")
        assert sorted(notification.acknowledged) == ["a", "b"], (number, fault)
        assert (await healthy.get("ann", "n2")).waiting == ["a"]
        assert await queues_of(store) is None
        calls = calls or plan.calls
        number += 1
    assert calls.count("transact") >= 6


def test_records_of_a_newer_server_are_refused_and_appended_fields_ignored():
    hint = msgspec.msgpack.encode([1, "cursor", "something new"])
    assert keys.decode(keys.Hint, hint).cursor == "cursor"
    with pytest.raises(Exception, match="Upgrade this server"):
        keys.decode(keys.Hint, msgspec.msgpack.encode([2, "cursor"]))
