"""Group commit on a real etcd: whatever concurrent transactions do to one another, they end as some serial order.

Two groups, as two server processes would have them, each with its own store. Every transaction reads some keys,
compares only some of what it read, and writes what follows from it: the stuff that write skew is made of.
"""

import asyncio
import dataclasses
import random

import pytest

from moorage_nodes.stores.contracts import Delete, KeyValue, Put, Txn, unchanged
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.group import TransactionGroup

KEYS = [b"k%02d" % n for n in range(24)]
WORKERS = 40
ROUNDS = 12


@dataclasses.dataclass(frozen=True)
class Committed:
    """What a transaction that succeeded relied on and did; `writes` None is a deletion.

    To delete what is not there is to write nothing: etcd counts no revision for it and answers with the newest, which
    is another transaction's.
    """

    revision: int
    read: dict[bytes, bytes | None]
    writes: dict[bytes, bytes | None]

    @property
    def changes(self) -> dict[bytes, bytes | None]:
        return {key: value for key, value in self.writes.items() if (value, self.read[key]) != (None, None)}


class Sizes:
    def __init__(self):
        self.largest = 0

    def observe_call(self, operation, outcome, seconds):
        pass

    def observe_batch(self, kind, size):
        self.largest = max(self.largest, size)


def value_of(kv: KeyValue | None) -> bytes | None:
    return None if kv is None else kv.value


async def work(store, group, rng: random.Random, name: str, done: list[Committed]) -> None:
    for round_ in range(ROUNDS):
        names = rng.sample(KEYS, rng.choice([2, 2, 3]))
        snapshot = await store.get_many(names)
        written = names[: rng.choice([1, 1, 2])]
        compares = tuple(
            unchanged(key, snapshot.found[key].mod_revision if key in snapshot.found else 0) for key in names
        )
        writes = {key: None if rng.random() < 0.1 else f"{name}.{round_}".encode() for key in written}
        ops = tuple(Delete(key) if value is None else Put(key, value) for key, value in writes.items())
        result = await group.submit(Txn(compares, ops))
        if result.succeeded:
            read = {key: value_of(snapshot.found.get(key)) for key in names}
            done.append(Committed(result.revision, read, writes))


def find_violation(done: list[Committed]) -> str | None:
    """Replay by revision. Members of one outer transaction share a revision, and then nobody may have relied on
    what another of them wrote: only so is every order of them a serial one. Who changed nothing came behind them.
    """
    state: dict[bytes, bytes | None] = {}
    by_revision: dict[int, list[Committed]] = {}
    for committed in done:
        by_revision.setdefault(committed.revision, []).append(committed)
    for revision in sorted(by_revision):
        writers = [committed for committed in by_revision[revision] if committed.changes]
        for committed in writers:
            if (stale := find_stale(committed, state)) is not None:
                return stale
            for other in writers:
                if other is not committed and set(other.changes) & set(committed.read):
                    return f"at {revision} one relied on what another wrote"
        for committed in writers:
            state.update(committed.changes)
        for committed in by_revision[revision]:
            if not committed.changes and (stale := find_stale(committed, state)) is not None:
                return stale
    return None


def find_stale(committed: Committed, state: dict[bytes, bytes | None]) -> str | None:
    for key, value in committed.read.items():
        if state.get(key) != value:
            return f"at {committed.revision} {key!r} was {state.get(key)!r}, not {value!r}"
    return None


@pytest.fixture
async def stores(etcd_endpoint):
    prefix = f"/{random.getrandbits(64):x}/"
    pair = [EtcdStore.open([etcd_endpoint], prefix=prefix) for _ in range(2)]
    yield pair
    for store in pair:
        await store.close()


async def run_mix(stores, seed: int) -> tuple[list[Committed], int]:
    done: list[Committed] = []
    sizes = Sizes()
    groups = [TransactionGroup(store, sizes) for store in stores]
    await asyncio.gather(
        *(
            work(stores[n % 2], groups[n % 2], random.Random(f"{seed}/{n}"), f"w{n}", done)
            for n in range(WORKERS)
        )
    )
    return done, sizes.largest


async def test_any_mix_ends_as_a_serial_order(stores):
    seed = random.getrandbits(32)
    done, largest = await run_mix(stores, seed)
    assert find_violation(done) is None, f"seed {seed}"
    assert len(done) > WORKERS  # there was something to order
    assert largest > 1  # and some went together
    found, _ = await stores[0].range(KEYS[0], b"z")
    state: dict[bytes, bytes | None] = {}
    for committed in sorted(done, key=lambda c: c.revision):
        state |= committed.changes
    assert {kv.key: kv.value for kv in found.kvs} == {
        key: value for key, value in state.items() if value is not None
    }


def test_who_deletes_what_is_not_there_comes_behind_those_whose_revision_is_told():
    """Such a transaction may read what the revision wrote, and what it "deleted" may have been relied on."""
    writer = Committed(5, {b"a": None, b"b": None}, {b"a": b"1"})
    idle = Committed(5, {b"a": b"1", b"b": None}, {b"b": None})
    assert find_violation([idle, writer]) is None
    stale = Committed(5, {b"a": None, b"b": None}, {b"b": None})
    assert find_violation([stale, writer]) == "at 5 b'a' was b'1', not None"


async def test_the_replay_would_see_write_skew(stores, monkeypatch):
    """With the guard taken out, members do touch each other's keys, and the check above finds it."""
    monkeypatch.setattr("moorage_nodes.stores.footprint.Touched.conflicts", lambda _touched, _other: False)
    for seed in range(20):
        done, _ = await run_mix(stores, seed)
        if find_violation(done) is not None:
            return
        for key in KEYS:
            await stores[0].transact(Txn(then=(Delete(key),)))
    pytest.fail("no mix of 20 showed what the guard is for")


async def test_money_is_neither_made_nor_lost(stores):
    """Transfers between accounts through two groups; each account stays above 0, and the sum is what it was."""
    await stores[0].transact(Txn(then=tuple(Put(key, b"100") for key in KEYS)))
    groups = [TransactionGroup(store) for store in stores]
    rng = random.Random(7)
    moved = 0

    async def transfer(n: int) -> None:
        nonlocal moved
        store, group = stores[n % 2], groups[n % 2]
        for _ in range(20):
            source, target = rng.sample(KEYS, 2)
            found = (await store.get_many([source, target])).found
            amount = rng.randrange(1, 60)
            if int(found[source].value) < amount:
                continue
            txn = Txn(
                (
                    unchanged(source, found[source].mod_revision),
                    unchanged(target, found[target].mod_revision),
                ),
                (
                    Put(source, b"%d" % (int(found[source].value) - amount)),
                    Put(target, b"%d" % (int(found[target].value) + amount)),
                ),
            )
            moved += (await group.submit(txn)).succeeded

    await asyncio.gather(*(transfer(n) for n in range(30)))
    balances = [int(kv.value) for kv in (await stores[1].range(KEYS[0], b"z"))[0].kvs]
    assert sum(balances) == 100 * len(KEYS)
    assert min(balances) >= 0
    assert moved > 0
