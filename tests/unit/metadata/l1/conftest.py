"""A namespace's plans on a store in memory, asked as the routes ask them."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from rewriting import rewrite
from upload_bed import Bed

from moorage.core.ids import parse_path
from moorage.core.wire import NodeAnswer
from moorage_nodes.lru import Lru
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l1.directories import (
    Page,
    plan_create_directory,
    plan_get_node,
    plan_list_directory,
    plan_resolve,
)
from moorage_nodes.metadata.l1.files import plan_create_file, plan_file_metadata
from moorage_nodes.metadata.l1.moves import Move, plan_move
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata.records import JournalEntry, Node
from moorage_nodes.metadata.view import View
from moorage_nodes.stores.contracts import MetadataStore, Put, Txn, TxnResult
from moorage_nodes.stores.memory import MemoryStore

INCARNATION = b"first"


class Direct:
    def __init__(self, store: MetadataStore) -> None:
        self._store = store

    async def submit(self, txn: Txn) -> TxnResult:
        return await self._store.transact(txn)


class Tree:
    """One namespace `ns`, whose root is `root:ns`, as one server process serves it."""

    root = "root:ns"

    def __init__(self, store: MetadataStore, seed: int = 1) -> None:
        self.store = store
        self.time = 1_700_000_000.0
        self.rng = random.Random(seed)
        self.engine = Namespaces(
            store, Direct(store), incarnation=INCARNATION, clock=lambda: self.time, rng=self.rng
        )
        self.listings: Any = Lru(1 << 20)

    def new_id(self) -> str:
        return f"{self.rng.getrandbits(96):024x}"

    async def change(self, plan: Callable[[View], Any], request: str = "") -> Any:
        return await self.engine.change("ns", plan, request=request)

    async def read(self, plan: Callable[[View], Any]) -> Any:
        return await self.engine.read("ns", plan)

    async def mkdir(self, node_id: str, path: str, parent: str = root) -> NodeAnswer:
        base = self.new_id()
        return await self.change(lambda v: plan_create_directory(v, node_id, parent, parse_path(path), base))

    async def mkfile(self, node_id: str, path: str, parent: str = root) -> NodeAnswer:
        base = self.new_id()
        return await self.change(lambda v: plan_create_file(v, node_id, parent, parse_path(path), base))

    async def move(self, node_id: str, parent: str, name: str, **more: Any) -> NodeAnswer:
        return await self.change(lambda v: plan_move(v, Move(node_id, parent, name, **more)))

    async def node(self, node_id: str) -> NodeAnswer:
        return await self.read(lambda v: plan_get_node(v, node_id))

    async def resolve(self, path: str) -> NodeAnswer:
        return await self.read(lambda v: plan_resolve(v, parse_path(path)))

    async def metadata(self, file_id: str, version: int | None = None) -> Any:
        return await self.read(lambda v: plan_file_metadata(v, file_id, version, "host/meta/k/l2"))

    async def listing(self, node_id: str = root, page: Page | None = None) -> Any:
        page = page or Page()
        return msgspec.json.decode(
            await self.read(lambda v: plan_list_directory(v, node_id, page, self.listings))
        )

    async def names(self, node_id: str = root) -> dict[str, str]:
        listing = await self.listing(node_id)
        return {entry["name"]: entry["id"] for entry in [*listing["directories"], *listing["files"]]}

    async def record(self, node_id: str) -> Node:
        return records.decode(Node, (await self.store.get(keys.node("ns", node_id))).value)

    async def put_record(self, node_id: str, **changes: Any) -> None:
        """Give a node's record other values, whatever the rules."""
        node = msgspec.structs.replace(await self.record(node_id), **changes)
        await rewrite(self.store, "ns", {keys.node("ns", node_id): node})

    async def journal(self) -> list[JournalEntry]:
        found, _ = await self.store.range(*keys.journal_range("ns", 0))
        return [records.decode(JournalEntry, kv.value) for kv in found.kvs]


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await store.transact(Txn(then=(Put(keys.INCARNATION, INCARNATION),)))
    return store


@pytest.fixture
def tree(store: MemoryStore) -> Tree:
    return Tree(store)


@pytest.fixture
def other(store: MemoryStore) -> Tree:
    """The same namespace, served by another process."""
    return Tree(store, seed=2)


@pytest.fixture
def bed(store: MemoryStore) -> Bed:
    """Uploads and commits of the namespace `ns`."""
    return Bed(store)


@pytest.fixture
def other_bed(store: MemoryStore, bed: Bed) -> Bed:
    """The same namespace, served by other processes."""
    return Bed(store, seed=2, blobs=bed.blobs)
