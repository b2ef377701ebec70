"""Rows of the collector: its pace beside a bare scan, its memory, and what writers notice of it."""

import asyncio
import hashlib
import itertools
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from measure import Row, bound, side_by_side
from rows_engine import build_work, commit_all, etcd_server, look_up, seed

from moorage.core.errors import OutcomeUnknownError
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata.records import Child, Chunk, Head, JournalEntry, Manifest, Node
from moorage_nodes.stores.contracts import Put, Txn
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.group import TransactionGroup

FILES = 200_000
FEW_FILES = 50_000
PACKED = 8  # chunks in an object
CHUNK_BYTES = 4096
COMMIT_ROUNDS = 6
INCARNATION = b"bench"


def build_file(namespace: str, number: int) -> Iterator[Put]:
    """What `/update`, a block server and `/commit` leave of a file of one chunk in a directory."""
    digest = hashlib.sha256(b"%d" % number).digest()
    file_id, name = f"f{number:035}", f"file-{number:016}"
    parent = f"d{number // 1000:035}"
    yield Put(keys.node(namespace, file_id), records.encode(
        Node(1, 1, parent, name, 0, 0, 1_700_000_000_000, 1, CHUNK_BYTES, digest, {"mode": 420})
    ))  # fmt: skip
    yield Put(keys.child(namespace, parent, name), records.encode(Child(1, 1, file_id)))
    yield Put(keys.manifest(namespace, file_id, 1), records.encode(
        Manifest(1, CHUNK_BYTES, digest, 1_700_000_000_000, f"f{number:033}", {"mode": 420}, 1, "",
                 [(None, digest, CHUNK_BYTES)])
    ))  # fmt: skip
    yield Put(keys.journal(namespace, number + 1), records.encode(
        JournalEntry(1, "commit", file_id, 1, parent, name, 1, 0)
    ))  # fmt: skip
    yield Put(keys.chunk(namespace, digest), records.encode(
        Chunk(1, CHUNK_BYTES, "main", f"u{number // PACKED:012}/call.0", number % PACKED * CHUNK_BYTES, CHUNK_BYTES)
    ))  # fmt: skip


async def fill(store: EtcdStore, namespace: str, files: int) -> None:
    await store.transact(Txn(then=(
        Put(keys.INCARNATION, INCARNATION),
        Put(keys.head(namespace), records.encode(Head(1, files, 0))),
    )))  # fmt: skip
    limit = asyncio.Semaphore(2)

    async def write(first: int) -> None:
        puts = [
            put for number in range(first, min(first + 400, files)) for put in build_file(namespace, number)
        ]
        nested = tuple(Txn(then=tuple(puts[start : start + 64])) for start in range(0, len(puts), 64))
        async with limit:
            while True:
                try:
                    await store.transact(Txn(then=nested))
                except OutcomeUnknownError:  # a busy machine: the same puts again do no harm
                    continue
                return

    await asyncio.gather(*(write(first) for first in range(0, files, 400)))


def start(side: str, url: str, prefix: str, files: int) -> "subprocess.Popen[str]":
    argv = [sys.executable, str(Path(__file__).with_name("collecting.py")), side, url, prefix, "ns"]
    argv += [str(files // PACKED), str(PACKED * CHUNK_BYTES)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


async def measured(side: str, url: str, prefix: str, files: int) -> dict[str, float]:
    process = start(side, url, prefix, files)
    said, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, said
    result: dict[str, float] = json.loads(said)
    return result


async def gc_rows() -> AsyncIterator[Row]:
    with etcd_server() as url:
        ours, them = (EtcdStore.open([url], prefix=prefix) for prefix in ("/ours/", "/them/"))
        await fill(ours, "ns", FILES)
        await fill(them, "ns", FEW_FILES)
        peaks: list[float] = []

        async def collect(_: int) -> float:
            result = await measured("collect", url, "/ours/", FILES)
            peaks.append(result["peak_mib"])
            return FILES / result["seconds"]

        async def scan(_: int) -> float:
            return FILES / (await measured("scan", url, "/ours/", FILES))["seconds"]

        yield await side_by_side(
            f"collection of {FILES:,} files", "a bare scan of the same keys", collect, scan, reach=0.4,
            unit="files/s",
        )  # fmt: skip
        yield bound("peak RSS of that collection", max(peaks), 300, "MiB")
        few = (await measured("collect", url, "/them/", FEW_FILES))["peak_mib"]
        yield bound(f"more than that of {FEW_FILES:,} files", max(peaks) - few, 100, "MiB")
        yield await writers_row(ours, url)
        for store in (ours, them):
            await store.close()


async def writers_row(store: EtcdStore, url: str) -> Row:
    """Commits into the very namespace that is collected over and over."""
    engine = Namespaces(
        store, TransactionGroup(store), incarnation=INCARNATION, clock=time.time, rng=random.Random(1)
    )
    labels = itertools.count()
    collecting = start("forever", url, "/ours/", FILES)

    async def commit() -> float:
        """Per second, over many bursts: one stall of a busy machine must not decide."""
        rates = []
        for _ in range(COMMIT_ROUNDS):
            bursts = build_work(["ns"], f"{next(labels):03}")
            await seed(store, bursts)
            await look_up(engine, bursts)
            rates.append((await commit_all(engine, bursts)).rate)
        return statistics.harmonic_mean(rates)

    async def beside(_: int) -> float:
        collecting.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.5)
        return await commit()

    async def alone(_: int) -> float:
        collecting.send_signal(signal.SIGSTOP)
        return await commit()

    try:
        return await side_by_side(
            "commits while their namespace is collected", "without a collector", beside, alone, reach=0.8
        )
    finally:
        collecting.kill()
        collecting.wait()
