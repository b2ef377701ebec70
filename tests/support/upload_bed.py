"""One or more L1 servers on one store, and a block server's part in an upload: what tests of commits need.

Chunks are registered by L3's real code; only their bytes are kept here, in a dict.
"""

import hashlib
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from moorage.core.errors import MoorageError
from moorage.core.ids import format_hash, parse_path
from moorage.core.routing import ClusterRoute, RoutingTable
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.batch import commit_file, commit_files
from moorage_nodes.metadata.l1.context import L1, Caller
from moorage_nodes.metadata.l1.deletion import Delete, plan_delete_directory, plan_delete_file
from moorage_nodes.metadata.l1.deletions import Deletions
from moorage_nodes.metadata.l1.directories import plan_create_directory
from moorage_nodes.metadata.l1.entries import parse_id_of_chunk
from moorage_nodes.metadata.l1.file_commit import FileCommit
from moorage_nodes.metadata.l1.repeats import Repeat
from moorage_nodes.metadata.l1.segments import read_segments
from moorage_nodes.metadata.l1.trash import plan_undelete
from moorage_nodes.metadata.l1.uploads import FileUpdate, begin_upload
from moorage_nodes.metadata.l3.registry import Registry
from moorage_nodes.metadata.names import read_names
from moorage_nodes.metadata.namespace import Namespaces, Submitter
from moorage_nodes.metadata.records import Chunk, Entry, JournalEntry, Manifest, Node, Upload
from moorage_nodes.notification_ids import build_notification_id
from moorage_nodes.peer_api import RegisteredChunk, RegisterRequest
from moorage_nodes.settings import Cluster
from moorage_nodes.stores.contracts import MetadataStore, Put, Txn
from moorage_nodes.stores.group import TransactionGroup

INCARNATION = "first"
NAMESPACE = "ns"


def digest_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hash_of(data: bytes) -> str:
    return format_hash(digest_of(data))


def entry(data: bytes, name: str | None = None) -> Entry:
    return name, digest_of(data), len(data)


async def make_cluster(store: MetadataStore) -> None:
    await store.transact(Txn(then=(Put(keys.INCARNATION, INCARNATION.encode()),)))


@dataclass
class Begun:
    id: str
    required: list[str]


@dataclass
class Bed:
    """One process of L1 (and one of L3) on `store`. `blobs` are the bytes in the object store, by digest; processes
    on one store share them.
    """

    store: MetadataStore
    seed: int = 1
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    group: Submitter | None = None

    def __post_init__(self) -> None:
        self.time = 1_700_000_000.0
        self.rng = random.Random(self.seed)
        self.calls = (f"call{self.seed:04x}{number:08x}" for number in itertools.count())
        group = self.group or TransactionGroup(self.store)
        shared: dict[str, Any] = {
            "incarnation": INCARNATION.encode(),
            "clock": lambda: self.time,
            "rng": self.rng,
        }
        self.engine = Namespaces(self.store, group, **shared)
        self.registry = Registry(self.store, group, **shared)
        self.deletions = Deletions(self.store, self.engine, self.registry.mark_soft)
        cluster = ClusterRoute(server_key="c1", pools=("p1",), write_pools=("p1",))
        table = RoutingTable(revision=1, hosts=("localhost",), clusters=(cluster,))
        self.server = L1(
            cluster=Cluster(server_key="c1"),
            incarnation=INCARNATION,
            store=self.store,
            namespaces=self.engine,
            deletions=self.deletions,
            routing=cast("Any", SimpleNamespace(value=table)),
            signer=cast("Any", None),  # nothing is signed here
            verifier=cast("Any", None),
            clock=lambda: self.time,
            rng=self.rng,
        )
        self.caller = Caller(NAMESPACE, "user")

    # --- what a client asks

    async def begin(self, file_id: str, base: int = 0, **more: Any) -> Begun:
        """`/update`; `planned` is a list of entries."""
        begun = await begin_upload(
            self.server, NAMESPACE, [FileUpdate(file_id, base, **more)], several_files=False
        )
        (required,) = begun.required
        if isinstance(required, MoorageError):
            raise required
        assert begun.upload_id is not None
        return Begun(begun.upload_id, required)

    async def begin_batch(self, *updates: FileUpdate) -> Any:
        return await begin_upload(self.server, NAMESPACE, updates, several_files=True)

    async def store_chunks(
        self, upload: str, chunks: Mapping[str | None, bytes] | Sequence[tuple[str | None, bytes]]
    ) -> None:
        """One `store_chunk` call. A name None is the hash."""
        pairs = list(chunks.items()) if isinstance(chunks, Mapping) else list(chunks)
        call = next(self.calls)
        self.blobs.update({digest_of(data): data for _, data in pairs})
        registered = [
            RegisteredChunk(
                chunk_id=hash_of(data) if name is None else name,
                hash=hash_of(data),
                size=len(data),
                object=f"{upload}/{call}.0" if data else "",
                offset=0,
            )
            for name, data in pairs
        ]
        await self.registry.register(
            RegisterRequest(namespace=NAMESPACE, upload=upload, call=call, pool="p1", chunks=registered)
        )

    async def commit(
        self,
        upload: str,
        file_id: str,
        version: int,
        ids: Sequence[str] | None = None,
        repeat: Repeat | None = None,
        **attrs: Any,
    ) -> int:
        return await commit_file(
            self.server, self.caller, upload, commit_of(file_id, version, ids, **attrs), repeat
        )

    async def commit_batch(self, upload: str, *commits: FileCommit) -> list[int | MoorageError]:
        return await commit_files(self.server, self.caller, upload, commits)

    async def write(self, file_id: str, base: int, chunks: Mapping[str, bytes]) -> int:
        """A naive client's whole update."""
        upload = (await self.begin(file_id, base)).id
        await self.store_chunks(upload, list(chunks.items()))
        return await self.commit(upload, file_id, base + 1)

    async def delete(self, file_id: str, version: int, *, client: str = "", end: bool = False) -> Any:
        """`end`: wait until it is in the trash."""
        delete = Delete(file_id, client, build_notification_id(NAMESPACE, self.server.rng))
        answer = await self.engine.change(NAMESPACE, lambda view: plan_delete_file(view, delete, version))
        if end:
            await self.deletions.advance(NAMESPACE, answer.notification_id)
        return answer

    async def delete_directory(self, node_id: str, *, recursive: bool = True, end: bool = False) -> Any:
        delete = Delete(node_id, "", build_notification_id(NAMESPACE, self.server.rng))
        answer = await self.engine.change(
            NAMESPACE, lambda view: plan_delete_directory(view, delete, recursive=recursive)
        )
        if end:
            await self.deletions.advance(NAMESPACE, answer.notification_id)
        return answer

    async def undelete(self, node_id: str, parent: str | None = None, name: str | None = None) -> Any:
        return await self.engine.change(NAMESPACE, lambda view: plan_undelete(view, node_id, parent, name))

    async def mkdir(self, node_id: str, path: str, parent: str = f"root:{NAMESPACE}") -> Any:
        base = self.server.new_id()
        return await self.engine.change(
            NAMESPACE, lambda view: plan_create_directory(view, node_id, parent, parse_path(path), base)
        )

    # --- what is there

    async def manifest(self, file_id: str, version: int | None = None) -> Manifest:
        if version is None:
            node = await self.node(file_id)
            assert node is not None
            version = node.version
        kv = await self.store.get(keys.manifest(NAMESPACE, file_id, version))
        assert kv is not None
        return records.decode(Manifest, kv.value)

    async def entries(self, file_id: str, version: int | None = None) -> list[Entry]:
        found = await self.manifest(file_id, version)
        if found.segments:
            return await read_segments(self.store, NAMESPACE, found.segments, found.count)
        return list(found.entries)

    async def read(self, file_id: str, version: int | None = None) -> bytes:
        return b"".join([self.blobs[digest] for _, digest, _ in await self.entries(file_id, version)])

    async def listing(self, file_id: str) -> list[str]:
        """The ids as L2 tells them."""
        entries = await self.entries(file_id)
        meanings = await read_names(self.store, NAMESPACE, [name for name, _, _ in entries if name])
        return [
            name if name is not None and meanings.get(name) == digest else format_hash(digest)
            for name, digest, _ in entries
        ]

    async def meaning(self, name: str) -> bytes | None:
        digest = (await read_names(self.store, NAMESPACE, [name])).get(name)
        return None if digest is None else self.blobs[digest]

    async def node(self, node_id: str) -> Node | None:
        kv = await self.store.get(keys.node(NAMESPACE, node_id))
        return None if kv is None else records.decode(Node, kv.value)

    async def journal(self) -> list[JournalEntry]:
        found, _ = await self.store.range(*keys.journal_range(NAMESPACE, 0))
        return [records.decode(JournalEntry, kv.value) for kv in found.kvs]

    async def open_uploads(self) -> dict[str, Upload]:
        found, _ = await self.store.range(*keys.uploads_range(NAMESPACE))
        return {keys.parse_upload_id(kv.key): records.decode(Upload, kv.value) for kv in found.kvs}

    async def stored_keys(self, upload: str) -> int:
        found, _ = await self.store.range(*keys.stored_range(NAMESPACE, upload))
        return len(found.kvs)

    async def chunk(self, data: bytes) -> Chunk | None:
        kv = await self.store.get(keys.chunk(NAMESPACE, digest_of(data)))
        return None if kv is None else records.decode(Chunk, kv.value)


def commit_of(file_id: str, version: int, ids: Sequence[str] | None = None, **attrs: Any) -> FileCommit:
    parsed = None if ids is None else tuple(parse_id_of_chunk(text, "chunks") for text in ids)
    return FileCommit(file_id, version, parsed, attrs)
