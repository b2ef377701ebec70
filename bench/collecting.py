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

from moorage_nodes.gc.age import read_clock
from moorage_nodes.gc.collector import Collector, Rules
from moorage_nodes.gc.opening import look_seldom_for_cycles
from moorage_nodes.gc.tenure import CollectorBusyError
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


async def collect(store: EtcdStore, objects: int, size: int, rounds: int) -> None:
    """`rounds` collections; 0: until somebody ends the process."""
    number = 0
    while not rounds or number < rounds:
        try:
            report = await build_collector(store, objects, size).run()
        except CollectorBusyError:
            await asyncio.sleep(0.1)
            continue
        if rounds:
            assert report.outcome == "complete", report.reason
            assert report.condemned == report.removed == report.objects_deleted == 0, report
        number += 1


async def scan(store: EtcdStore, namespace: str) -> None:
    for kind in READ:
        async for _ in store.scan(*keys.kind_range(namespace, kind)):
            pass


def peak_mib() -> float:
    """Of this program alone: `ru_maxrss` would begin with what the parent had at the fork."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM")


async def main(side: str, url: str, prefix: str, namespace: str, objects: int, size: int) -> None:
    look_seldom_for_cycles()  # as the command does; the scan gains by it too
    store = EtcdStore.open([url], prefix=prefix)
    await store.get(keys.INCARNATION)
    started, busy = time.perf_counter(), time.process_time()
    if side == "scan":
        await scan(store, namespace)
    else:
        await collect(store, objects, size, 0 if side == "forever" else 1)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() - busy, "peak_mib": peak_mib()}))
    await store.close()


if __name__ == "__main__":
    side, url, prefix, namespace, objects, size = sys.argv[1:]
    uvloop.run(main(side, url, prefix, namespace, int(objects), int(size)))
