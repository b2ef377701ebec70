"""One side of the collector's rows, in a process of its own: `collecting.py collect|scan URL PREFIX NAMESPACE`.

Prints `{"seconds", "cpu", "peak_mib"}` of one collection, or of one bare scan of the keys that a collection reads.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import uvloop

from moorage.core.errors import MoorageError, StoreUnavailableError
from moorage_nodes.gc.age import read_clock
from moorage_nodes.gc.collector import Collector, Rules
from moorage_nodes.gc.opening import stand_back
from moorage_nodes.metadata import keys
from moorage_nodes.stores.etcd import EtcdStore

DAY = 24 * 3600
RULES = Rules(
    grace=DAY,
    upload_idle=DAY,
    upload_max=7 * DAY,
    retained_versions=20,
    retained_deleted=30 * DAY,
    retained_feed=90 * DAY,
    max_deletions=100_000,
)
READ = "msukxetlgb"  # kinds of keys that a collection reads with their values


class NamedPools:
    """Lists the objects that the bench's chunk records name, `packed` chunks in each; S3 is no part of the row."""

    names = ("main",)

    def __init__(self, objects: int, size: int) -> None:
        self._objects, self._size = objects, size

    async def list_objects(self, pool: str, namespace: str) -> AsyncIterator[list[tuple[str, int]]]:
        for start in range(0, self._objects, 1000):
            await asyncio.sleep(0)
            yield [
                (f"u{number:012}/call.0", self._size)
                for number in range(start, min(start + 1000, self._objects))
            ]

    async def delete_objects(self, pool: str, namespace: str, names: Sequence[str]) -> None:
        raise AssertionError(f"nothing is to be deleted: {names}")

    async def copy_chunks(self, *_: object) -> None:
        raise AssertionError("nothing is to be copied")


def build_collector(store: EtcdStore, objects: int, size: int) -> Collector:
    return Collector(
        store,
        NamedPools(objects, size),
        RULES,
        server_key="bench",
        name="bench",
        incarnation=b"bench",
        clock=read_clock,
        monotonic=time.monotonic,
        rng=random.Random(1),
    )


async def collect(store: EtcdStore, objects: int, size: int) -> float:
    """Seconds of one collection. One that a stalled etcd on a busy machine aborts says nothing: once more."""
    while True:
        started = time.perf_counter()
        report = await build_collector(store, objects, size).run()
        if report.outcome != "aborted":
            assert report.outcome == "complete", report.skipped
            assert report.condemned == report.removed == report.objects_deleted == 0, report
            assert report.scanned["chunks"] == report.kept["chunks_held"] >= objects, report
            return time.perf_counter() - started
        print(f"aborted, again: {report.reason}", file=sys.stderr)


async def collect_forever(store: EtcdStore, objects: int, size: int) -> None:
    while True:
        try:
            await build_collector(store, objects, size).run()
        except MoorageError as error:  # stopped for longer than its tenure, say
            print(error.detail, file=sys.stderr)
            await asyncio.sleep(0.1)


async def scan(store: EtcdStore, namespace: str) -> float:
    """Seconds of one scan, without a look at what comes."""
    while True:
        started = time.perf_counter()
        try:
            for kind in READ:
                async for _ in store.scan(*keys.kind_range(namespace, kind)):
                    pass
        except StoreUnavailableError as error:
            print(f"again: {error.detail}", file=sys.stderr)
        else:
            return time.perf_counter() - started


def peak_mib() -> float:
    """Of this program alone: `ru_maxrss` would begin with what the parent had at the fork."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM")


async def main(side: str, url: str, prefix: str, namespace: str, objects: int, size: int) -> None:
    stand_back()  # as the command does; the scan does the same
    store = EtcdStore.open([url], prefix=prefix)
    await store.get(keys.INCARNATION)
    busy = time.process_time()
    if side == "forever":
        await collect_forever(store, objects, size)
    seconds = await (scan(store, namespace) if side == "scan" else collect(store, objects, size))
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() - busy, "peak_mib": peak_mib()}))
    await store.close()


if __name__ == "__main__":
    side, url, prefix, namespace, objects, size = sys.argv[1:]
    uvloop.run(main(side, url, prefix, namespace, int(objects), int(size)))
