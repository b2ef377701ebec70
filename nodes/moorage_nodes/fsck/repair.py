"""The few repairs that are provably safe: each looks again, and changes only what contradicts itself at that head.

A repair is one transaction that compares the namespace's head and moves its generation (every server forgets what it
knew then), or, for a damaged chunk, the record as it was read. It takes no content away: it puts or removes an index
that can be derived from the records, and nothing at all where the contradiction is gone. So it may be done twice, at
the same time as anything else, or be cut off anywhere.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from moorage.core.errors import StoreUnavailableError
from moorage.core.ids import format_hash, parse_hash, root_id
from moorage_nodes.fsck.findings import Finding
from moorage_nodes.fsck.pools import Pool
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l3.damage import Verified, plan_damage
from moorage_nodes.metadata.records import (
    DELETED,
    DIRECTORY,
    LIVE,
    Child,
    Chunk,
    Head,
    Node,
    Work,
)
from moorage_nodes.peer_api import VerifiedChunk
from moorage_nodes.stores.contracts import (
    Compare,
    Delete,
    KeyValue,
    MetadataStore,
    Op,
    Put,
    Target,
    Txn,
    unchanged,
)

MAX_ATTEMPTS = 20

Found = Mapping[bytes, KeyValue]


class Repairs:
    """`repair` tells what it did about a finding: True: repaired; False: there was nothing to do any more."""

    def __init__(self, store: MetadataStore, pools: Mapping[str, Pool], incarnation: bytes) -> None:
        self._store = store
        self._pools = pools
        self._fence = Compare(keys.INCARNATION, Target.VALUE, incarnation)
        self._incarnation = incarnation
        self._by_kind: dict[str, Callable[[str, str], Awaitable[bool]]] = {
            "child_missing": self._put_child,
            "child_dangling": self._drop_child,
            "work_missing": self._put_work,
            "work_dangling": self._drop_work,
            "trash_wrong": self._drop_trash,
            "object_missing": self._mark_damaged,
            "object_short": self._mark_damaged,
            "bytes_differ": self._mark_damaged,
        }

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(self._by_kind)

    async def repair(self, finding: Finding) -> bool:
        """StoreUnavailableError: maybe done; the same again does no harm."""
        return await self._by_kind[finding.kind](finding.namespace, finding.subject)

    async def _at_head(
        self, namespace: str, wanted: Sequence[bytes], decide: Callable[[Found], Sequence[Op]]
    ) -> bool:
        """Write what `decide` makes of these keys, if they and the head are still as they were read."""
        head_key = keys.head(namespace)
        for _ in range(MAX_ATTEMPTS):
            found = (await self._store.get_many([head_key, *wanted])).found
            ops = decide(found)
            if not ops:
                return False
            kv = found.get(head_key)
            head = Head() if kv is None else records.decode(Head, kv.value)
            moved = Head(sequence=head.sequence, generation=head.generation + 1)
            compares = (
                self._fence,
                *(
                    unchanged(key, found[key].mod_revision if key in found else 0)
                    for key in (head_key, *wanted)
                ),
            )
            result = await self._store.transact(Txn(compares, (Put(head_key, records.encode(moved)), *ops)))
            if result.succeeded:
                return True
        raise StoreUnavailableError(f"The namespace {namespace} changes faster than it can be repaired.")

    # --- the tree

    async def _put_child(self, namespace: str, node_id: str) -> bool:
        """The name must be free, and the directory there: else a person has to choose."""
        node_key = keys.node(namespace, node_id)
        known = await self._store.get(node_key)
        if known is None:
            return False
        seen = records.decode(Node, known.value)
        child_key = keys.child(namespace, seen.parent, seen.name)
        parent_key = keys.node(namespace, seen.parent)

        def decide(found: Found) -> Sequence[Op]:
            node = records.decode(Node, found[node_key].value) if node_key in found else None
            if node is None or child_key in found or node.state != LIVE:
                return ()
            if (node.parent, node.name) != (seen.parent, seen.name):
                return ()
            if node.parent != root_id(namespace):
                parent = records.decode(Node, found[parent_key].value) if parent_key in found else None
                if parent is None or parent.kind != DIRECTORY:
                    return ()
            return (Put(child_key, records.encode(Child(1, node.kind, node_id))),)

        return await self._at_head(namespace, [node_key, child_key, parent_key], decide)

    async def _drop_child(self, namespace: str, place: str) -> bool:
        parent, _, name = place.partition("/")
        child_key = keys.child(namespace, parent, name)
        known = await self._store.get(child_key)
        if known is None:
            return False
        child_id = records.decode(Child, known.value).id
        node_key = keys.node(namespace, child_id)

        def decide(found: Found) -> Sequence[Op]:
            if child_key not in found or records.decode(Child, found[child_key].value).id != child_id:
                return ()
            node = records.decode(Node, found[node_key].value) if node_key in found else None
            if node is not None and node.state == LIVE and (node.parent, node.name) == (parent, name):
                return ()
            return (Delete(child_key),)

        return await self._at_head(namespace, [child_key, node_key], decide)

    # --- deletions

    async def _put_work(self, namespace: str, notification_id: str) -> bool:
        deletion_key, work_key, parked_key = _work_keys(namespace, notification_id)

        def decide(found: Found) -> Sequence[Op]:
            lacks = deletion_key in found and work_key not in found and parked_key not in found
            return (Put(work_key, records.encode(Work(1))),) if lacks else ()

        return await self._at_head(namespace, [deletion_key, work_key, parked_key], decide)

    async def _drop_work(self, namespace: str, notification_id: str) -> bool:
        deletion_key, work_key, parked_key = _work_keys(namespace, notification_id)

        def decide(found: Found) -> Sequence[Op]:
            if deletion_key in found:
                return ()
            return [Delete(key) for key in (work_key, parked_key) if key in found]

        return await self._at_head(namespace, [deletion_key, work_key, parked_key], decide)

    async def _drop_trash(self, namespace: str, node_id: str) -> bool:
        node_key, trash_key = keys.node(namespace, node_id), keys.trash(namespace, node_id)

        def decide(found: Found) -> Sequence[Op]:
            node = records.decode(Node, found[node_key].value) if node_key in found else None
            is_wrong = trash_key in found and (node is None or node.state != DELETED)
            return (Delete(trash_key),) if is_wrong else ()

        return await self._at_head(namespace, [node_key, trash_key], decide)

    # --- bytes

    async def _mark_damaged(self, namespace: str, chunk_hash: str) -> bool:
        kv = await self._store.get(keys.chunk(namespace, parse_hash(chunk_hash)))
        if kv is None:
            return False
        chunk = records.decode(Chunk, kv.value)
        if chunk.pool not in self._pools:
            return False
        question = VerifiedChunk(
            hash=format_hash(kv.key[-32:]), size=chunk.size, object=chunk.object, offset=chunk.offset
        )
        (verdict,) = await self._pools[chunk.pool].verify(namespace, [question])
        changes = plan_damage([Verified(kv, chunk, verdict == "ok")], self._incarnation)
        return any([(await self._store.transact(change.txn)).succeeded for change in changes])


def _work_keys(namespace: str, notification_id: str) -> tuple[bytes, bytes, bytes]:
    return (
        keys.deletion(namespace, notification_id),
        keys.work(namespace, notification_id),
        keys.parked(namespace, notification_id),
    )
