"""A healthy store that is being written all the time has no findings, whenever it is looked at."""

import asyncio
import dataclasses
import random
import secrets

import upload_bed
from upload_bed import hash_of

from moorage.core.errors import MoorageError
from moorage.core.ids import root_id

CHECKS = 12
STEPS = 200
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

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.step()
            except MoorageError:
                continue  # the store refuses what is no longer so; it must stay whole all the same
            self.done += 1

    async def step(self) -> None:
        file_id = f"file{self.number}-{self.rng.randrange(8)}"
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


async def test_no_finding_in_a_store_that_is_written_meanwhile(patient):
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    await patient.bed.l1.mkdir("d", "/d", root_id(patient.namespace))
    writers = [Writer(patient, number, seed) for number in range(WRITERS)]
    stop = asyncio.Event()
    tasks = [asyncio.create_task(writer.run(stop)) for writer in writers]
    try:
        number = 0
        while number < CHECKS or sum(writer.done for writer in writers) < STEPS:
            assert not any(task.done() for task in tasks)
            assert await patient.found(deep=number % 3 == 2) == {}
            number += 1
    finally:
        stop.set()
        await asyncio.gather(*tasks)
    assert await patient.found(deep=True) == {}
    await patient.bed.objects.delete([await patient.object_of(b"everybody has this")])
    assert hash_of(b"everybody has this") in (await patient.found())["object_missing"]
