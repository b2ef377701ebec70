"""A notifier's parts over a store in memory and over real etcd, with clocks that tests move."""

import itertools
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from notify_bed import Bed, running_bed

from moorage_nodes.notify.elapsed import ElapsedClock
from moorage_nodes.notify.queue import Ask, Queue
from moorage_nodes.stores.contracts import MetadataStore
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.memory import MemoryStore

_numbers = itertools.count()
DEADLINE = 100  # seconds
LIMIT = 3


@dataclass
class Time:
    """Monotonic and wall seconds of one machine."""

    monotonic: float = 1000.0
    wall: float = 1_800_000_000.0

    def pass_by(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


@pytest.fixture(params=["memory", "etcd"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[MetadataStore]:
    opened: MetadataStore
    if request.param == "memory":
        opened = MemoryStore()
    else:
        endpoint: str = request.getfixturevalue("etcd_endpoint")
        opened = EtcdStore.open([endpoint], prefix=f"/notify-{secrets.token_hex(4)}-{next(_numbers)}/")
    yield opened
    await opened.close()


@pytest.fixture
def time() -> Time:
    return Time()


def make_clock(store: MetadataStore, time: Time, step: int = 2000) -> ElapsedClock:
    return ElapsedClock(store, step=step, monotonic=lambda: time.monotonic)


def make_queue(store: MetadataStore, time: Time, seed: int = 1) -> Queue:
    return Queue(
        store,
        limit=LIMIT,
        ack_deadline=DEADLINE,
        clock=lambda: time.wall,
        monotonic=lambda: time.monotonic,
        rng=random.Random(seed),
    )


@pytest.fixture
async def elapsed(store: MetadataStore, time: Time) -> ElapsedClock:
    clock = make_clock(store, time)
    await clock.open()
    return clock


@pytest.fixture
def queue(store: MetadataStore, time: Time, elapsed: ElapsedClock) -> Queue:
    return make_queue(store, time)


@pytest.fixture
def other(store: MetadataStore, time: Time) -> Queue:
    """The same queues, in another process."""
    return make_queue(store, time, seed=2)


@pytest.fixture
def ask():
    def build(notification_id: str = "n1", *clients: str, namespace: str = "ann") -> Ask:
        return Ask(
            namespace, notification_id, "c1", f"file-of-{notification_id}", "file", clients or ("a", "b")
        )

    return build


@pytest.fixture(scope="module")
async def bed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bed]:
    """L1 and two notification servers on real sockets."""
    async with running_bed(tmp_path_factory.mktemp("realm")) as running:
        yield running


@pytest.fixture
def user(bed: Bed) -> str:
    return bed.new_user()
