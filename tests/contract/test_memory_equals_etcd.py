"""The store in memory and a real etcd are given the same random programs: every answer must be the same.

Transactions nest, collide, compare revisions old and new; reads go to revisions past, compacted and yet to come.
A failure prints the seed of its program.
Revisions are told from where the program began, so that both start at 0.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator

import pytest
from etcd3aio._protobuf import CompactionRequest, KVStub
from grpc.aio import AioRpcError, insecure_channel
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from real_servers.engines import run_etcd

from moorage.core.errors import CompactedError, MoorageError, RequestRefusedError
from moorage_nodes.stores.contracts import (
    Compare,
    Delete,
    DeleteResult,
    Put,
    Range,
    RangeResult,
    Target,
    Txn,
    TxnResult,
)
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.etcd_channel import Endpoints
from moorage_nodes.stores.etcd_wire import Wire
from moorage_nodes.stores.memory import MemoryStore
from moorage_nodes.stores.observer import NullObserver

PROGRAMS = 150
STEPS = 40
KEYS = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]
ENDS = [b"a", b"b\x00", b"d", b"g", b"z"]
VALUES = [b"", b"1", b"2"]
_numbers = itertools.count()


class Programmer:
    """Writes random programs that are mostly allowed, and mean something more often than chance would have it."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.written = 0  # about how many revisions the program has made

    def program(self):
        return [self.step() for _ in range(STEPS)]

    def step(self):
        kind = self.random.choices(
            ["transact", "get", "get_many", "range", "scan", "compact"], [12, 2, 3, 3, 2, 1]
        )[0]
        match kind:
            case "transact":
                self.written += self.chance(0.55)
                return kind, self.txn(depth=self.random.choice([0, 0, 1, 1, 2]))
            case "get":
                return kind, self.key(), self.revision()
            case "get_many":
                names = [self.key() for _ in range(self.random.randrange(4))]
                ranges = [Range(self.key(), self.end()) for _ in range(self.random.randrange(2))]
                return kind, names + ranges, self.revision()
            case "range":
                options = {"limit": self.random.randrange(4), "keys_only": self.chance(0.3)}
                return (
                    kind,
                    self.key(),
                    self.end(),
                    self.revision(),
                    options | {"descending": self.chance(0.5)},
                )
            case "scan":
                return kind, self.key(), self.end(), self.revision()
        return kind, max(1, self.written - self.random.randrange(8))

    def txn(self, depth: int):
        compares = tuple(self.compare() for _ in range(self.random.choice([0, 0, 1, 1, 2])))
        return Txn(compares, self.branch(depth), self.branch(depth) if self.chance(0.5) else ())

    def branch(self, depth: int):
        return tuple(self.op(depth) for _ in range(self.random.choice([0, 1, 2, 3, 4])))

    def op(self, depth: int):
        if depth and self.chance(0.6):
            return self.txn(depth - 1)
        match self.random.randrange(8):
            case 0:
                return Delete(self.key(), self.end() if self.chance(0.3) else None)
            case 1 | 2:
                limit, keys_only, descending = self.random.randrange(3), self.chance(0.3), self.chance(0.3)
                return Range(
                    self.key(), self.end() if self.chance(0.7) else None, limit, keys_only, descending
                )
        return Put(self.key(), self.random.choice(VALUES))

    def compare(self):
        target = self.random.choice(list(Target))
        match target:
            case Target.VERSION:
                operand = self.random.choice([0, 0, 1, 1, 2, 3])
            case Target.VALUE:
                operand = self.random.choice(VALUES)
            case _:
                operand = self.revision()
        return Compare(self.key(), target, operand)

    def revision(self):
        """0 is now; sometimes it is yet to come."""
        if self.chance(0.3):
            return 0
        return self.random.randrange(self.written + 2)

    def key(self):
        return self.random.choice(KEYS)

    def end(self):
        return self.random.choice(ENDS)

    def chance(self, probability: float):
        return self.random.random() < probability


class Side:
    """One store and the revision that it began at."""

    def __init__(self, store, compact):
        self.store = store
        self._compact = compact
        self.base = 0

    async def run(self, program):
        """Every answer, then every change that a watch told."""
        self.base = (await self.store.get_many([])).revision
        watching = asyncio.create_task(self._watch())
        answers = [await self._answer(step) for step in program]
        await self.store.transact(Txn(then=(Put(b"end", b""),)))
        return answers, await watching

    async def _watch(self):
        events = []
        async with self.store.watch(b"", b"z", from_revision=self.base + 1) as batches:
            async for batch in batches:
                if batch.resync:
                    return "resync"
                events += [(*self._told(event.kv), event.deleted) for event in batch.events]
                if events and events[-1][0] == b"end":
                    return events
        raise AssertionError("the watch ended")

    async def _answer(self, step):
        try:
            match step:
                case ("transact", txn):
                    return self._told(await self.store.transact(self._moved(txn)))
                case ("get", key, revision):
                    return self._told(await self.store.get(key, revision=self._at(revision)))
                case ("get_many", names, revision):
                    snapshot = await self.store.get_many(names, revision=self._at(revision))
                    found = [
                        self._told(snapshot.found.get(name)) for name in names if isinstance(name, bytes)
                    ]
                    ranges = [self._told(snapshot.ranges[name]) for name in names if isinstance(name, Range)]
                    return snapshot.revision - self.base, found, ranges
                case ("range", key, end, revision, options):
                    found, at = await self.store.range(key, end, revision=self._at(revision), **options)
                    return self._told(found), at - self.base
                case ("scan", key, end, revision):
                    pages = self.store.scan(key, end, revision=self._at(revision))
                    return [self._told(kv) async for page in pages for kv in page]
                case ("compact", revision):
                    return await self._compact(self.base + revision)
        except MoorageError as error:
            return type(error).__name__

    def _at(self, revision):
        return self.base + revision if revision else 0

    def _moved(self, txn):
        """The program's transaction with its revisions made this store's own."""
        moved = tuple(
            Compare(c.key, c.target, self._at(c.operand)) if c.target in {Target.MOD, Target.CREATE} else c
            for c in txn.compares
        )
        then, orelse = (
            tuple(self._moved(op) if isinstance(op, Txn) else op for op in branch)
            for branch in (txn.then, txn.orelse)
        )
        return Txn(moved, then, orelse)

    def _told(self, answer):
        match answer:
            case None:
                return None
            case TxnResult():
                results = [self._told(result) for result in answer.results]
                return answer.succeeded, answer.revision - self.base, results
            case RangeResult():
                return [self._told(kv) for kv in answer.kvs], answer.more
            case DeleteResult():
                return answer.deleted
        create = answer.create_revision - self.base if answer.create_revision else 0
        return answer.key, answer.value, create, answer.mod_revision - self.base, answer.version


@pytest.fixture(scope="module")
async def etcd_side() -> AsyncIterator:
    """Makes a side on an etcd that nobody else writes to."""
    with run_etcd() as etcd:
        async with insecure_channel(etcd.endpoint) as channel:
            kv = KVStub(channel)

            async def compact(revision):
                try:
                    await kv.Compact(CompactionRequest(revision=revision))
                except AioRpcError as error:
                    gone = "has been compacted" in error.details()
                    raise (CompactedError if gone else RequestRefusedError)(error.details()) from error

            endpoints = Endpoints([etcd.endpoint])

            def make():
                return Side(EtcdStore(endpoints, Wire(b"/%d/" % next(_numbers)), NullObserver()), compact)

            yield make
            await endpoints.close()


@settings(
    max_examples=PROGRAMS,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a seed has nothing to shrink
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**64))
async def test_a_random_program_gets_the_same_answers(etcd_side, seed):
    program = Programmer(seed).program()
    memory = MemoryStore()
    expected, expected_events = await etcd_side().run(program)
    answers, events = await Side(memory, memory.compact).run(program)
    for step, answer, right in zip(program, answers, expected, strict=True):
        assert answer == right, step
    # Which of a watch and a compaction comes first is left to chance.
    if "resync" not in (events, expected_events):
        assert events == expected_events
