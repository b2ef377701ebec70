"""L1 and the notifier die, or their answers are lost, at any call to their stores, from the deletion to the trash: the
retry succeeds, every step takes effect once, and nothing is left behind.

Both sides' own code over two stores in memory; their calls to each other are made directly. One process of each side
fails at the chosen call and is dead from then on, or lives on; another one of each is healthy.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from namespace_checks import check_namespace
from upload_bed import NAMESPACE, Bed, make_cluster

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage_nodes.metadata import keys as l1_keys
from moorage_nodes.metadata.l1.deletion import plan_find_pending, plan_proceed
from moorage_nodes.metadata.l1.deletions import Deletions
from moorage_nodes.metadata.l1.devices import plan_register
from moorage_nodes.metadata.records import DELETED, LIVE, PENDING_DELETION, Deletion
from moorage_nodes.notify import keys
from moorage_nodes.notify.elapsed import ElapsedClock
from moorage_nodes.notify.keys import Notification
from moorage_nodes.notify.queue import Ask, Queue
from moorage_nodes.notify.settling import Settling
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.stores.faulty import Fault, FaultyStore, Plan
from moorage_nodes.stores.memory import MemoryStore

ACK_SECONDS = 100


@dataclass
class Time:
    now: float = 0.0


class Side:
    """One process of L1 and one of the notifier, which call each other."""

    def __init__(self, tree: MetadataStore, queues: MetadataStore, time: Time, seed: int, blobs) -> None:
        self.bed = Bed(tree, seed=seed, blobs=blobs)
        self.bed.deletions = self.bed.server.deletions = Deletions(
            tree, self.bed.engine, self.bed.registry.mark_soft, self
        )
        self.queue = Queue(
            queues,
            limit=100,
            ack_deadline=ACK_SECONDS,
            clock=lambda: 1_800_000_000.0,
            monotonic=lambda: time.now,
            rng=random.Random(seed),
        )
        self.elapsed = ElapsedClock(queues, step=10_000, monotonic=lambda: time.now)
        self.settling = Settling(self.queue, self.elapsed, self.report)

    # What L1 asks of the notifier.

    async def tell(self, namespace: str, notification_id: str, deletion: Deletion) -> None:
        ask = Ask(namespace, notification_id, "c1", deletion.node, "file", deletion.clients)
        await self.queue.enqueue(ask)

    async def withdraw(self, namespace: str, notification_id: str) -> None:
        await self.queue.withdraw(namespace, notification_id)

    # What the notifier tells L1.

    async def report(self, namespace: str, notification_id: str, _notification: Notification) -> None:
        await self.bed.engine.change(namespace, plan_proceed(notification_id))


class World:
    def __init__(self, plan: Plan, *, elsewhere: bool) -> None:
        self.tree, self.queues, self.time = MemoryStore(), MemoryStore(), Time()
        self.plan = plan
        self.faults: dict[int, Fault] = {}
        self.elsewhere = elsewhere
        blobs: dict[bytes, bytes] = {}
        self.healthy = Side(self.tree, self.queues, self.time, 2, blobs)
        self.side = Side(FaultyStore(self.tree, plan), FaultyStore(self.queues, plan), self.time, 1, blobs)

    async def prepare(self, *clients: str) -> None:
        await make_cluster(self.tree)
        await self.healthy.elapsed.open()
        await self.healthy.bed.write("f", 0, {"a": b"1"})
        for client in clients:
            await self.healthy.bed.engine.change(NAMESPACE, lambda v, c=client: plan_register(v, c, c))
        await self.side.elapsed.open()
        self.plan.calls.clear()
        self.plan.faults = self.faults  # what came before is not part of it

    async def ask(self, step: Callable[[Side], Awaitable[object]]) -> object:
        """A step, asked again until it is answered: by another process when this one has died."""
        while True:
            try:
                return await step(self.side)
            except StoreUnavailableError:
                await check_namespace(self.tree)
                if self.elsewhere:
                    self.side = self.healthy

    async def pass_by(self, seconds: float) -> None:
        for _ in range(int(seconds / 5)):
            self.time.now += 5
            await self.healthy.elapsed.advance()
        kv = await self.queues.get(keys.CLOCK)
        self.side.elapsed.observe(kv)

    async def settle(self, notification_id: str) -> None:
        await self.ask(lambda side: side.settling.settle(NAMESPACE, notification_id))

    async def advance(self, notification_id: str) -> None:
        await self.ask(lambda side: side.bed.deletions.advance(NAMESPACE, notification_id))

    async def waiting(self, client: str) -> list[str]:
        look = await self.healthy.queue.waiting(NAMESPACE, client)
        return [each async for page in look.pages for each, _ in page]

    async def left(self) -> list[bytes]:
        """What is still to be done on either side."""
        found = []
        for store, span in (
            (self.tree, l1_keys.work_range()),
            (self.tree, l1_keys.parked_range()),
            (self.queues, keys.due_range(1 << 40)),
        ):
            page, _ = await store.range(*span)
            found += [kv.key for kv in page.kvs]
        return found


async def begin(world: World) -> str:
    """A deletion, told and parked."""
    await world.prepare("a", "b", "c")
    answer = await world.ask(lambda side: side.bed.delete("f", 1, client="c"))
    notification_id: str = answer.notification_id
    await world.advance(notification_id)
    assert (await world.healthy.bed.node("f")).state == PENDING_DELETION
    assert await world.waiting("a") == await world.waiting("b") == [notification_id]
    assert await world.waiting("c") == []
    return notification_id


async def all_acknowledge(world: World) -> None:
    notification_id = await begin(world)
    for client in ("a", "b"):
        await world.ask(lambda side, c=client: side.queue.acknowledge(NAMESPACE, notification_id, c))
        assert await world.waiting(client) == []
    await world.settle(notification_id)
    await world.advance(notification_id)
    await check_deleted(world, notification_id, acknowledged=["a", "b"])


async def one_is_silent(world: World) -> None:
    notification_id = await begin(world)
    await world.ask(lambda side: side.queue.acknowledge(NAMESPACE, notification_id, "b"))
    await world.settle(notification_id)
    assert (await world.healthy.bed.node("f")).state == PENDING_DELETION
    await world.pass_by(ACK_SECONDS + 30)
    await world.settle(notification_id)
    await world.advance(notification_id)
    await check_deleted(world, notification_id, acknowledged=["b"])
    await world.ask(lambda side: side.queue.acknowledge(NAMESPACE, notification_id, "a"))
    await check_deleted(world, notification_id, acknowledged=["b"])


async def cancelled(world: World) -> None:
    notification_id = await begin(world)
    pending = await world.healthy.bed.engine.read(NAMESPACE, plan_find_pending("f"))
    assert pending == notification_id
    await world.ask(lambda side: side.bed.undelete("f"))
    await world.ask(lambda side: side.queue.acknowledge(NAMESPACE, notification_id, "a"))
    await world.ask(lambda side: side.withdraw(NAMESPACE, notification_id))
    await world.settle(notification_id)
    await world.ask(lambda side: side.report(NAMESPACE, notification_id, None))
    await world.advance(notification_id)
    node = await world.healthy.bed.node("f")
    assert (node.state, node.version) == (LIVE, 3)
    assert await world.healthy.bed.read("f") == b"1"
    assert await world.left() == []
    assert await world.waiting("a") == await world.waiting("b") == []


async def check_deleted(world: World, notification_id: str, acknowledged: list[str]) -> None:
    node = await world.healthy.bed.node("f")
    assert (node.state, node.version) == (DELETED, 2)
    journal = await world.healthy.bed.journal()
    assert [entry.type for entry in journal].count("delete") == 2
    notification = await world.healthy.queue.get(NAMESPACE, notification_id)
    assert notification.settled
    assert sorted(notification.acknowledged) == acknowledged
    assert await world.left() == []
    for client in ("a", "b"):
        assert await world.waiting(client) == []


SCENARIOS = {"all acknowledge": all_acknowledge, "one is silent": one_is_silent, "cancelled": cancelled}


@pytest.mark.parametrize("elsewhere", [True, False], ids=["elsewhere", "there"])
@pytest.mark.parametrize("fault", [Fault.LOST_REQUEST, Fault.LOST_ANSWER, Fault.UNREACHABLE])
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_each_step_takes_effect_once_whatever_is_lost(scenario: str, fault: Fault, elsewhere: bool):
    world = World(Plan(), elsewhere=elsewhere)
    await SCENARIOS[scenario](world)
    calls = list(world.plan.calls)
    assert calls.count("transact") >= 6
    for number in range(len(calls)):
        world = World(Plan(), elsewhere=elsewhere)
        world.faults = {number: fault}
        try:
            await SCENARIOS[scenario](world)
        except (AssertionError, MoorageError) as error:
            error.add_note(f"{fault} at call {number} ({calls[number]})")
            raise


@pytest.mark.parametrize("scenario", ["all acknowledge", "one is silent"])
async def test_steps_repeated_and_late_change_nothing(scenario: str):
    world = World(Plan(), elsewhere=False)
    await SCENARIOS[scenario](world)
    found, _ = await world.queues.range(*keys.notifications_range(NAMESPACE))
    ((_, notification_id),) = [keys.parse_notification(kv.key) for kv in found.kvs]
    before = await everything(world.tree), await everything(world.queues)
    ask = Ask(NAMESPACE, notification_id, "c1", "f", "file", ["a", "b"])
    for side in (world.side, world.healthy):
        await side.queue.acknowledge(NAMESPACE, notification_id, "a")
        await side.queue.enqueue(ask)  # opens it again, until L1 has been told
        await side.report(NAMESPACE, notification_id, None)
        await side.settling.settle(NAMESPACE, notification_id)
        await side.bed.deletions.advance(NAMESPACE, notification_id)
    assert (await everything(world.tree), await everything(world.queues)) == before


async def everything(store: MemoryStore) -> dict[bytes, bytes]:
    found, _ = await store.range(b"\0", b"\xff")
    return {kv.key: kv.value for kv in found.kvs}


async def test_the_outcome_may_come_before_l1_has_noted_that_it_told():
    """The notifier is faster than the L1 server that told it."""
    world = World(Plan(), elsewhere=False)
    await world.prepare("a")
    answer = await world.side.bed.delete("f", 1)
    notification_id = answer.notification_id

    class Quick:
        async def tell(self, namespace, notification_id, deletion) -> None:
            await world.healthy.tell(namespace, notification_id, deletion)
            await world.healthy.queue.acknowledge(namespace, notification_id, "a")
            await world.healthy.settling.settle(namespace, notification_id)

        async def withdraw(self, namespace, notification_id) -> None:
            raise AssertionError("it was not cancelled")

    side = world.side
    side.bed.deletions = Deletions(side.bed.store, side.bed.engine, side.bed.registry.mark_soft, Quick())
    await side.bed.deletions.advance(NAMESPACE, notification_id)
    await check_deleted(world, notification_id, acknowledged=["a"])


async def test_one_cancelled_while_it_is_told_is_withdrawn():
    world = World(Plan(), elsewhere=False)
    await world.prepare("a")
    answer = await world.side.bed.delete("f", 1)

    class Slow:
        async def tell(self, namespace, notification_id, deletion) -> None:
            await world.healthy.bed.undelete("f")
            await world.healthy.tell(namespace, notification_id, deletion)

        async def withdraw(self, namespace, notification_id) -> None:
            await world.healthy.withdraw(namespace, notification_id)

    side = world.side
    side.bed.deletions = Deletions(side.bed.store, side.bed.engine, side.bed.registry.mark_soft, Slow())
    await side.bed.deletions.advance(NAMESPACE, answer.notification_id)
    assert await world.waiting("a") == []
    assert await world.left() == []
    assert (await world.healthy.bed.node("f")).state == LIVE


async def test_what_was_parked_goes_on_when_the_cluster_has_no_notifier_any_more():
    world = World(Plan(), elsewhere=False)
    notification_id = await begin(world)
    alone = Bed(world.tree, seed=3, blobs=world.healthy.bed.blobs)
    for _ in range(3):
        await alone.deletions.scan()
    assert alone.deletions.under_way
    while alone.deletions.under_way:
        await asyncio.sleep(0)
    assert (await alone.node("f")).state == DELETED
    assert notification_id.startswith("n")
    found, _ = await world.tree.range(*l1_keys.parked_range())
    assert not found.kvs


async def test_what_the_notifier_has_lost_or_another_one_never_had_is_handed_to_it_when_a_server_starts():
    world = World(Plan(), elsewhere=False)
    notification_id = await begin(world)
    world.queues = MemoryStore()
    fresh = Side(world.tree, world.queues, world.time, 3, {})
    await fresh.elapsed.open()
    for _ in range(2):
        await fresh.bed.deletions.scan()
    while fresh.bed.deletions.under_way:
        await asyncio.sleep(0)
    world.healthy = fresh
    assert await world.waiting("a") == [notification_id]
    assert (await fresh.bed.node("f")).state == PENDING_DELETION
