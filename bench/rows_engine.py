"""Rows inside one L1 process: commits that arrive together, beside one plain transaction each of the same writes."""

import asyncio
import contextlib
import dataclasses
import hashlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec
from cpu import Meter
from measure import Row, Sample, side_by_side
from system import child, free_port, scratch, wait_for

from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.commit import plan_commit
from moorage_nodes.metadata.l1.file_commit import FileCommit
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata.records import Chunk, Upload, UploadFile
from moorage_nodes.stores.contracts import Op, Put, Target, Txn, TxnResult
from moorage_nodes.stores.etcd import EtcdStore
from moorage_nodes.stores.group import TransactionGroup
from moorage_operator.local.tools import ensure_etcd

TOGETHER = 64
BURSTS = 12
INCARNATION = b"bench"
DIGEST = hashlib.sha256(b"bench").digest()
POOL = "main"


@contextlib.contextmanager
def etcd_server() -> Iterator[str]:
    """The URL of an etcd in memory."""
    with scratch() as folder:
        client, peer = free_port(), free_port()
        urls = f"http://127.0.0.1:{client}"
        argv = [str(ensure_etcd(print)), "--data-dir", str(folder / "data"), "--log-level", "error"]
        argv += ["--quota-backend-bytes", str(8 * 1024**3)]
        argv += ["--listen-client-urls", urls, "--advertise-client-urls", urls]
        argv += ["--listen-peer-urls", f"http://127.0.0.1:{peer}"]
        log = folder / "etcd.log"
        with child(argv, log) as process:
            wait_for(f"{urls}/health", process, log)
            yield urls


@contextlib.asynccontextmanager
async def etcd_store() -> AsyncIterator[list[EtcdStore]]:
    """Two stores on one etcd in memory, with prefixes of the same length: ours, and the one compared to."""
    with etcd_server() as url:
        stores = [EtcdStore.open([url], prefix=prefix) for prefix in ("/ours/", "/them/")]
        try:
            yield stores
        finally:
            for store in stores:
                await store.close()


class Recorder:
    """Sends transactions one by one and keeps them."""

    def __init__(self, store: EtcdStore) -> None:
        self.store = store
        self.kept: list[Txn] = []

    async def submit(self, txn: Txn) -> TxnResult:
        self.kept.append(txn)
        return await self.store.transact(txn)


@dataclasses.dataclass(frozen=True)
class Work:
    """One commit to make: of a new file, under an upload that planned it."""

    namespace: str
    upload_id: str
    file_id: str


def build_work(namespaces: Sequence[str], label: str) -> list[list[Work]]:
    """`BURSTS` bursts of `TOGETHER` commits, spread over the namespaces."""
    return [
        [
            Work(
                namespaces[n % len(namespaces)],
                f"f{label}{burst:04}{n:04}",
                f"file-{label}-{burst:04}-{n:04}",
            )
            for n in range(TOGETHER)
        ]
        for burst in range(BURSTS)
    ]


async def seed(store: EtcdStore, bursts: list[list[Work]]) -> None:
    """What `/update` and the block servers would have left: open uploads and registered chunks."""
    chunk = records.encode(Chunk(1, 5, POOL, "o", 0, 5))
    puts: dict[bytes, bytes] = {keys.INCARNATION: INCARNATION}
    for work in itertools.chain.from_iterable(bursts):
        planned = UploadFile(
            work.file_id, 0, f"root:{work.namespace}", work.file_id, planned=True, count=1,
            entries=[(None, DIGEST, 5)],
        )  # fmt: skip
        puts[keys.chunk(work.namespace, DIGEST)] = chunk
        puts[keys.upload(work.namespace, work.upload_id)] = records.encode(
            Upload(1, work.namespace, 0, POOL, [planned])
        )
    ops: list[Op] = [Put(key, value) for key, value in puts.items()]
    for start in range(0, len(ops), 100):
        await store.transact(Txn(then=tuple(ops[start : start + 100])))


async def look_up(engine: Namespaces, bursts: list[list[Work]]) -> None:
    """What each file's `/update` has read in this process before: that neither id nor name is taken."""
    for work in itertools.chain.from_iterable(bursts):
        wanted = [
            keys.node(work.namespace, work.file_id),
            keys.child(work.namespace, f"root:{work.namespace}", work.file_id),
        ]
        await engine.read(work.namespace, lambda view, wanted=wanted: view.need(wanted))


async def commit_all(engine: Namespaces, bursts: list[list[Work]], *, together: bool = True) -> Sample:
    with Meter(itself=True) as meter:
        for burst in bursts:
            changes = [
                engine.change(work.namespace, plan_commit(work.upload_id, FileCommit(work.file_id, 1)))
                for work in burst
            ]
            if together:
                await asyncio.gather(*changes)
            else:
                for change in changes:
                    await change
    return meter.sample(BURSTS * TOGETHER)


async def send_singly(store: EtcdStore, recorded: list[Txn], *, heads: dict[bytes, int] | None) -> Sample:
    """The recorded transactions, `TOGETHER` in flight. `heads`: compare each head as our own writes left it;
    None: compare no head (in one namespace only one of them could win).
    """
    bursts = [recorded[start : start + TOGETHER] for start in range(0, len(recorded), TOGETHER)]
    seconds = cpu = 0.0
    for burst in bursts:
        prepared = [_rebased(txn, heads) for txn in burst]
        with Meter(itself=True) as meter:
            results = await asyncio.gather(*(store.transact(txn) for txn in prepared))
        seconds, cpu = seconds + meter.seconds, cpu + meter.cpu
        if not all(result.succeeded for result in results):
            raise RuntimeError("a transaction of the comparison failed: it would measure nothing")
        if heads is not None:
            for txn, result in zip(burst, results, strict=True):
                heads[txn.compares[0].key] = result.revision
    return Sample(len(recorded) / seconds, cpu / len(recorded))


def _rebased(txn: Txn, heads: dict[bytes, int] | None) -> Txn:
    head, *others = txn.compares
    kept = [compare for compare in others if compare.target is Target.VALUE]
    if heads is not None:
        kept.insert(0, msgspec.structs.replace(head, operand=heads.get(head.key, 0)))
    return msgspec.structs.replace(txn, compares=tuple(kept))


async def engine_rows() -> list[Row]:
    rows = []
    async with etcd_store() as (ours_store, theirs_store):
        for name, count in (("64 namespaces", TOGETHER), ("one namespace", 1)):
            rows.append(
                await _row(ours_store, theirs_store, name, [f"{name[0]}{n:02}" for n in range(count)])
            )
    return rows


async def _row(ours_store: EtcdStore, theirs_store: EtcdStore, name: str, namespaces: list[str]) -> Row:
    labels = itertools.count()
    heads: dict[bytes, int] | None = {} if len(namespaces) > 1 else None

    def engine_on(submitter: TransactionGroup | Recorder) -> Namespaces:
        return Namespaces(
            ours_store, submitter, incarnation=INCARNATION, clock=time.time, rng=random.Random(1)
        )

    group = TransactionGroup(ours_store)
    engine = engine_on(group)
    recorded: list[list[Txn]] = []

    async def ours(_: int) -> Sample:
        bursts = build_work(namespaces, f"{next(labels):03}")
        await seed(ours_store, bursts)
        await look_up(engine, bursts)
        return await commit_all(engine, bursts)

    async def theirs(_: int) -> Sample:
        # The same keys and bytes: recorded from commits made one by one, then sent under the other prefix.
        bursts = build_work(namespaces, f"{next(labels):03}")
        await seed(ours_store, bursts)
        await seed(theirs_store, bursts)
        recorder = Recorder(ours_store)
        await commit_all(engine_on(recorder), bursts, together=False)
        recorded.append(recorder.kept)
        return await send_singly(theirs_store, recorder.kept, heads=heads)

    return await side_by_side(
        f"commits of 64 files at once in one L1 process, {name}",
        "a transaction of the same keys and bytes each, sent singly",
        ours,
        theirs,
        reach=2.5,
    )
