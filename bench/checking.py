"""One side of fsck's rows, in a process of its own: `checking.py fsck|scan URL PREFIX NAMESPACE OBJECTS SIZE`.

Prints `{"seconds", "cpu", "peak_mib"}` of one check, or of one bare scan of the keys that a check reads.
"""

import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import uvloop

from moorage_nodes.fsck.check import check_store
from moorage_nodes.fsck.command import spare_collections
from moorage_nodes.metadata import keys
from moorage_nodes.stores.contracts import prefix_end
from moorage_nodes.stores.etcd import EtcdStore


class NamedPool:
    """Lists the objects that the bench's chunk records name; S3 is no part of the row."""

    def __init__(self, objects: int, size: int) -> None:
        self._objects, self._size = objects, size

    async def list_objects(self, namespace: str) -> AsyncIterator[Sequence[tuple[str, int]]]:
        for start in range(0, self._objects, 1000):
            yield [
                (f"u{number:012}/call.0", self._size)
                for number in range(start, min(start + 1000, self._objects))
            ]

    async def verify(self, namespace: str, chunks: Sequence[object]) -> list:
        raise AssertionError("nothing is to be read")


def peak_mib() -> float:
    """Of this program alone: `ru_maxrss` would begin with what the parent had at the fork."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM")


async def main(side: str, url: str, prefix: str, namespace: str, objects: int, size: int) -> None:
    store = EtcdStore.open([url], prefix=prefix)
    await store.get(keys.INCARNATION)
    started, busy = time.perf_counter(), time.process_time()
    if side == "scan":
        start = keys.namespace_prefix(namespace)
        async for _ in store.scan(start, prefix_end(start)):
            pass
    else:
        spare_collections()
        result = await check_store(store, {"main": NamedPool(objects, size)}, namespaces=[namespace])
        assert result.is_clean, result.findings.listed[:5]
        assert not result.findings.counts, result.findings.counts
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() - busy, "peak_mib": peak_mib()}))
    await store.close()


if __name__ == "__main__":
    side, url, prefix, namespace, objects, size = sys.argv[1:]
    uvloop.run(main(side, url, prefix, namespace, int(objects), int(size)))
