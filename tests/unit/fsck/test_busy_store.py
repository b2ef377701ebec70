"""A healthy store that is being written all the time has no findings, whenever it is looked at."""

import asyncio
import contextlib
import dataclasses
import random
import secrets
import time

import pytest
import upload_bed
from collector_bed import DirectPools, Hands
from upload_bed import INCARNATION, hash_of

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage.core.ids import root_id
from moorage_nodes.gc.collector import Collector, Rules

CHECKS = 12
STEPS = 200
LONGEST = 60.0  # seconds
RULES = Rules(
    grace=60,
    upload_idle=10**6,
    upload_max=10**6,
    retained_versions=2,
    retained_deleted=60,
    retained_feed=60,
    max_deletions=1000,
)
WRITERS = 4


class Writer:
    """Makes, changes, moves, deletes and brings back files of its own."""

    def __init__(self, patient, number: int, seed: int) -> None:
        self.l1 = upload_bed.Bed(patient.store, seed=1000 + number)  # a process of its own
        self.bed = dataclasses.replace(patient.bed, l1=self.l1)
        self.number = number
        self.rng = random.Random(seed + number)
        self.versions: dict[str, int] = {}
        self.deleted: set[str] = set()
        self.done = 0
        self.generation = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.step()
            except (MoorageError, AssertionError):  # a machine too busy to answer in time is told by the bed
                # The store refuses what is no longer so; it must stay whole all the same. What the collector let go
                # is gone: a new life under a new id.
                self.generation += 1
                self.versions, self.deleted = {}, set()
                continue
            self.done += 1

    async def step(self) -> None:
        file_id = f"file{self.number}.{self.generation}-{self.rng.randrange(8)}"
        if file_id in self.deleted:
            await self.l1.undelete(file_id)
            self.deleted.discard(file_id)
            self.versions[file_id] += 1
        elif file_id in self.versions and self.rng.random() < 0.25:
            await self.l1.delete(file_id, self.versions[file_id], end=self.rng.random() < 0.7)
            self.versions[file_id] += 1
            self.deleted.add(file_id)
        elif self.rng.random() < 0.1:
            await self.l1.mkdir(f"d{secrets.token_hex(4)}", f"/w{self.number}/{secrets.token_hex(2)}")
        else:
            shared = b"everybody has this"
            parts = [secrets.token_bytes(self.rng.randrange(1, 3000)), shared]
            base = self.versions.get(file_id, 0)
            await self.bed.write(file_id, parts, base)
            self.versions[file_id] = base + 1


async def collect_on(patient, stop: asyncio.Event, reports: list) -> None:
    """Collections one after the other, for whom everything is long ago."""
    hands = Hands()
    rng = random.Random(1)  # one for all: names of objects are never used twice
    while not stop.is_set():
        hands.pass_by(100)
        collector = Collector(
            patient.store,
            DirectPools({"p1": patient.bed.objects}),
            RULES,
            server_key="c1",
            name="collector",
            incarnation=INCARNATION.encode(),
            clock=hands.read,
            monotonic=hands.monotonic,
            rng=rng,
        )
        reports.append(await collector.run())


@pytest.mark.parametrize("collecting", [False, True], ids=["written", "written and collected"])
async def test_no_finding_in_a_store_that_is_at_work_meanwhile(patient, collecting):
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    reports: list = []
    await patient.bed.l1.mkdir("d", "/d", root_id(patient.namespace))
    writers = [Writer(patient, number, seed) for number in range(WRITERS)]
    stop = asyncio.Event()
    tasks = [asyncio.create_task(writer.run(stop)) for writer in writers]
    if collecting:
        tasks.append(asyncio.create_task(collect_on(patient, stop, reports)))
    try:
        deadline = time.monotonic() + LONGEST
        number = 0
        while time.monotonic() < deadline and (
            number < CHECKS
            or sum(writer.done for writer in writers) < STEPS
            or (collecting and not any(report.removed for report in reports))
        ):
            with contextlib.suppress(StoreUnavailableError):  # could not look, on a machine that is too busy
                assert await patient.found(deep=number % 3 == 2) == {}
                number += 1
    finally:
        stop.set()
        await asyncio.gather(*tasks)
    assert number > 0
    assert any(writer.done for writer in writers)
    await patient.bed.write("last", [b"lost in the end"])
    assert await patient.found(deep=True) == {}
    await patient.bed.objects.delete([await patient.object_of(b"lost in the end")])
    assert await patient.found() == {"object_missing": [hash_of(b"lost in the end")]}
