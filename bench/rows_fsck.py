"""Rows of fsck: its pace beside a bare scan of the same keys, and its memory."""

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from pathlib import Path

from measure import Row, bound, side_by_side
from rows_engine import etcd_server

from moorage.core.errors import OutcomeUnknownError
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import Child, Chunk, Head, JournalEntry, Manifest, Node
from moorage_nodes.stores.contracts import Put, Txn
from moorage_nodes.stores.etcd import EtcdStore

FILES = 200_000
FEW_FILES = 50_000
IN_DIRECTORY = 100
PACKED = 8  # chunks in an object
CHUNK_BYTES = 4096
WRITTEN_TOGETHER = 2000
TIME = 1_700_000_000_000


def build_directory(namespace: str, number: int, sequence: int) -> Iterator[Put]:
    directory_id, name, root = f"d{number:035}", f"folder-{number:014}", f"root:{namespace}"
    node = Node(1, 0, root, name, 0, 0, TIME)
    yield Put(keys.node(namespace, directory_id), records.encode(node))
    yield Put(keys.child(namespace, root, name), records.encode(Child(1, 0, directory_id)))
    entry = JournalEntry(1, "create", directory_id, 0, root, name, 0, 0)
    yield Put(keys.journal(namespace, sequence), records.encode(entry))


def build_file(namespace: str, number: int, sequence: int) -> Iterator[Put]:
    """What `/update`, a block server and `/commit` leave of a file of one chunk."""
    chunk = hashlib.sha256(b"%d" % number).digest()
    digest, attrs, size = hashlib.sha256(chunk).digest(), {"mode": 420}, CHUNK_BYTES
    file_id, name, parent = f"f{number:035}", f"file-{number:016}", f"d{number // IN_DIRECTORY:035}"
    node = Node(1, 1, parent, name, 0, 0, TIME, 1, size, digest, attrs)
    yield Put(keys.node(namespace, file_id), records.encode(node))
    yield Put(keys.child(namespace, parent, name), records.encode(Child(1, 1, file_id)))
    manifest = Manifest(1, size, digest, TIME, f"f{number:033}", attrs, 1, "", [(None, chunk, size)])
    yield Put(keys.manifest(namespace, file_id, 1), records.encode(manifest))
    entry = JournalEntry(1, "commit", file_id, 1, parent, name, 1, 0)
    yield Put(keys.journal(namespace, sequence), records.encode(entry))
    place = Chunk(1, size, "main", f"u{number // PACKED:012}/call.0", number % PACKED * size, size)
    yield Put(keys.chunk(namespace, chunk), records.encode(place))


def build_tree(namespace: str, files: int) -> Iterator[Put]:
    """A namespace in which every directory was made before the files in it."""
    sequence = 0
    for number in range(files):
        if number % IN_DIRECTORY == 0:
            sequence += 1
            yield from build_directory(namespace, number // IN_DIRECTORY, sequence)
        sequence += 1
        yield from build_file(namespace, number, sequence)
    yield Put(keys.head(namespace), records.encode(Head(1, sequence, 0)))


def batched(puts: Iterable[Put], size: int) -> Iterator[tuple[Put, ...]]:
    rest = iter(puts)
    while part := tuple(islice(rest, size)):
        yield part


async def fill(store: EtcdStore, namespace: str, files: int) -> None:
    await store.transact(Txn(then=(Put(keys.INCARNATION, b"bench"),)))
    for puts in batched(build_tree(namespace, files), WRITTEN_TOGETHER):
        nested = tuple(Txn(then=part) for part in batched(puts, 64))
        while True:
            try:
                await store.transact(Txn(then=nested))
            except OutcomeUnknownError:  # a busy machine: the same puts again do no harm
                continue
            break


async def measured(side: str, url: str, prefix: str, files: int) -> dict[str, float]:
    argv = [sys.executable, str(Path(__file__).with_name("checking.py")), side, url, prefix, "ns"]
    argv += [str(files // PACKED), str(PACKED * CHUNK_BYTES)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    said, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, said
    result: dict[str, float] = json.loads(said)
    return result


async def fsck_rows() -> AsyncIterator[Row]:
    with etcd_server() as url:
        for prefix, files in (("/ours/", FILES), ("/few/", FEW_FILES)):
            store = EtcdStore.open([url], prefix=prefix)
            await fill(store, "ns", files)
            await store.close()
        peaks: list[float] = []

        async def check(_: int) -> float:
            result = await measured("fsck", url, "/ours/", FILES)
            peaks.append(result["peak_mib"])
            return FILES / result["seconds"]

        async def scan(_: int) -> float:
            return FILES / (await measured("scan", url, "/ours/", FILES))["seconds"]

        yield await side_by_side(
            f"fsck of {FILES:,} files", "a bare scan of the same keys", check, scan, reach=0.4, unit="files/s"
        )
        yield bound("peak RSS of that fsck", max(peaks), 300, "MiB")
        few = (await measured("fsck", url, "/few/", FEW_FILES))["peak_mib"]
        yield bound(f"more than that of {FEW_FILES:,} files", max(peaks) - few, 100, "MiB")
