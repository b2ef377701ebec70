"""What retention, the trash and ended uploads let go: keys only, before the mark. Bytes are the sweep's.

Each step is right at any head, if the keys it compares are as they were read; so it is tried again at the next head
when a writer was first, and a run that ends in the middle leaves nothing that the next one does not find.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from msgspec.structs import replace

from moorage_nodes.gc.heads import GROUP_OPS, Group, cut
from moorage_nodes.gc.namespace_run import NamespaceRun
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.bulk_reads import read_keys
from moorage_nodes.metadata.l1.repeats import build_past_version
from moorage_nodes.metadata.l1.upload_ids import is_of_collector
from moorage_nodes.metadata.records import DELETED, DIRECTORY, JournalEntry, Manifest, Node, Trash
from moorage_nodes.metadata.scan import (
    find_past_versions,
    scan_kind,
    scan_range,
    scan_records,
    scan_trash,
    scan_versions,
)
from moorage_nodes.stores.contracts import Delete, KeyValue, Put, unchanged

WRITTEN_TOGETHER = 80  # groups that wait for one transaction
CHILDREN_TOGETHER = 64
JOURNAL_TOGETHER = 500


class LettingGo:
    """One namespace's."""

    def __init__(self, run: NamespaceRun) -> None:
        self._run = run

    async def run(self) -> None:
        await self._run.head.read()
        await self.end_uploads()
        await self.let_trash_go()
        await self.drop_versions()
        await self.cut_journal()
        await self.forget_requests()

    async def _write(self, what: str, groups: Sequence[Group]) -> None:
        """Write; each group counts as one of `what`."""
        await self._run.pause()
        done = len(groups) if self._run.dry_run else await self._run.head.write_anyway(groups)
        if what:
            self._run.report.let_go[what] += done

    # --- uploads ----------------------------------------------------------------------------------------------

    async def end_uploads(self) -> None:
        """End uploads that are idle or too old, and a dead collector's, with what their calls left."""
        newest: dict[str, int] = {}
        async for kvs in scan_kind(self._run.store, self._run.namespace, "s", keys_only=True):
            await self._run.pause()
            for kv in kvs:
                upload_id = keys.parse_stored_upload(kv.key)
                newest[upload_id] = max(kv.mod_revision, newest.get(upload_id, 0))
        groups: list[Group] = []
        async for kvs in scan_kind(self._run.store, self._run.namespace, "u", keys_only=True):
            await self._run.pause()
            for kv in kvs:
                upload_id = keys.parse_upload_id(kv.key)
                used = max(kv.mod_revision, newest.pop(upload_id, 0))
                if (
                    used <= self._run.horizons.upload_idle
                    or kv.create_revision <= self._run.horizons.upload_max
                    or is_of_collector(upload_id)
                ):
                    groups.append(self._end_upload(kv, upload_id))
        # Left behind by a call that was registered when its upload was just replaced.
        left = [
            Group((unchanged(keys.upload(self._run.namespace, upload_id), 0),), (self._stored_of(upload_id),))
            for upload_id in newest
        ]
        for part in _parts(groups):
            await self._write("uploads", part)
        for part in _parts(left):
            await self._write("", part)

    def _end_upload(self, kv: KeyValue, upload_id: str) -> Group:
        return Group((unchanged(kv.key, kv.mod_revision),), (Delete(kv.key), self._stored_of(upload_id)))

    def _stored_of(self, upload_id: str) -> Delete:
        return Delete(*keys.stored_range(self._run.namespace, upload_id))

    # --- old versions -----------------------------------------------------------------------------------------

    async def drop_versions(self) -> None:
        async for found in scan_versions(self._run.store, self._run.namespace, more_than=self._run.retained):
            await self._run.pause()
            past = [
                (file_id, version)
                for file_id, versions in found
                for version in find_past_versions(versions, self._run.retained)
            ]
            for part in cut(past[: self._run.budget.take("versions", len(past))], WRITTEN_TOGETHER):
                await self._write("versions", await self._drop(part))

    async def _drop(self, versions: Sequence[tuple[str, int]]) -> list[Group]:
        """A commit that comes again within a day must still find its answer: that much is kept for so long."""
        wanted = {keys.manifest(self._run.namespace, *each): each for each in versions}
        groups: list[Group] = []
        for key, kv in (await read_keys(self._run.store, list(wanted))).items():
            ops: list[Put | Delete] = [Delete(key)]
            if kv.mod_revision > self._run.horizons.requests:
                manifest = records.decode(Manifest, kv.value)
                past, remembered = build_past_version(self._run.namespace, *wanted[key], manifest)
                ops.append(Put(past, records.encode(remembered)))
            groups.append(Group((), tuple(ops)))
        return groups

    # --- the trash --------------------------------------------------------------------------------------------

    async def let_trash_go(self) -> None:
        """Files with their versions; directories with all that was below them. What was in the trash stays as a
        tombstone while the feed tells of its deletion.
        """
        oldest = await self._oldest_entry()
        async for left in scan_records(self._run.store, self._run.namespace, "l", Trash, keys.parse_node_id):
            for node_id, kv, trash in left:
                await self._empty_directory(node_id, kv, keep=trash.sequence >= oldest)
        async for found in scan_trash(self._run.store, self._run.namespace):
            await self._run.pause()
            due = [each for each in found if each[1].mod_revision <= self._run.horizons.deleted]
            due = due[: self._run.budget.take("trash", len(due))]
            nodes = await self._read_nodes(node_id for node_id, _, _ in due)
            files: list[Group] = []
            for node_id, kv, trash in due:
                node = nodes.get(node_id)
                if node is not None and node.kind == DIRECTORY:
                    await self._let_directory_go(node_id, kv, keep=trash.sequence >= oldest)
                else:
                    files.append(self._let_file_go(node_id, kv, keep=trash.sequence >= oldest))
            for part in _parts(files):
                await self._write("trash", part)

    async def _oldest_entry(self) -> int:
        start, end = keys.journal_range(self._run.namespace, 0)
        found, _ = await self._run.store.range(start, end, limit=1, keys_only=True)
        if found.kvs:
            return keys.parse_journal_sequence(found.kvs[0].key)
        return self._run.head.head.sequence + 1

    async def _read_nodes(self, node_ids: Iterable[str]) -> dict[str, Node]:
        wanted = {keys.node(self._run.namespace, node_id): node_id for node_id in node_ids}
        found = await read_keys(self._run.store, list(wanted))
        return {wanted[key]: records.decode(Node, kv.value) for key, kv in found.items()}

    def _let_file_go(self, node_id: str, kv: KeyValue, *, keep: bool) -> Group:
        ops = [Delete(kv.key), Delete(*keys.manifests_range(self._run.namespace, node_id))]
        if not keep:
            ops.append(Delete(keys.node(self._run.namespace, node_id)))
        return Group((unchanged(kv.key, kv.mod_revision),), tuple(ops))

    async def _let_directory_go(self, node_id: str, kv: KeyValue, *, keep: bool) -> None:
        """From the first step on it cannot be brought back, so nobody ever gets back a part of it."""
        place = keys.letting_go(self._run.namespace, node_id)
        mark = Group((unchanged(kv.key, kv.mod_revision),), (Delete(kv.key), Put(place, kv.value)))
        before = self._run.report.let_go["trash"]
        await self._write("trash", [mark])
        if self._run.report.let_go["trash"] > before and not self._run.dry_run:
            await self._empty_directory(node_id, KeyValue(place, kv.value, 0, 0, 0), keep=keep)

    async def _empty_directory(self, node_id: str, mark: KeyValue, *, keep: bool) -> None:
        """Take away all below a directory, the deepest first, then the mark. Nothing else changes there any more."""
        if self._run.dry_run:
            return
        way = [node_id]
        while way:
            children = await self._read_children(way[-1])
            nodes = await self._read_nodes(child_id for _, child_id, _ in children)
            groups, below = [], []
            for child_key, child_id, kind in children:
                if kind == DIRECTORY:
                    below.append(child_id)
                else:
                    groups.append(self._let_child_go(child_key, child_id, nodes.get(child_id), keep=keep))
            if groups:
                await self._write("nodes_below", groups)
            elif below:
                way.append(below[-1])
            else:
                gone = way.pop()
                if way:
                    await self._drop_directory(gone)
        ops = (
            [Delete(mark.key)]
            if keep
            else [Delete(mark.key), Delete(keys.node(self._run.namespace, node_id))]
        )
        await self._write("", [Group((), tuple(ops))])

    async def _read_children(self, directory_id: str) -> list[tuple[bytes, str, int]]:
        start, end = keys.children_range(self._run.namespace, directory_id)
        found, _ = await self._run.store.range(start, end, limit=CHILDREN_TOGETHER)
        children = [(kv.key, records.decode(records.Child, kv.value)) for kv in found.kvs]
        return [(key, child.id, child.kind) for key, child in children]

    def _let_child_go(self, child_key: bytes, child_id: str, node: Node | None, *, keep: bool) -> Group:
        """A file below stays as a tombstone too: its number of versions must not begin anew while the feed tells."""
        node_key = keys.node(self._run.namespace, child_id)
        ops: list[Put | Delete] = [
            Delete(child_key),
            Delete(*keys.manifests_range(self._run.namespace, child_id)),
        ]
        if node is not None and keep:
            ops.append(Put(node_key, records.encode(replace(node, state=DELETED))))
        else:
            ops.append(Delete(node_key))
        return Group((), tuple(ops))

    async def _drop_directory(self, directory_id: str) -> None:
        node = (await self._read_nodes([directory_id])).get(directory_id)
        ops = [Delete(keys.node(self._run.namespace, directory_id))]
        if node is not None:
            ops.append(Delete(keys.child(self._run.namespace, node.parent, node.name)))
        await self._write("nodes_below", [Group((), tuple(ops))])

    # --- the feed ---------------------------------------------------------------------------------------------

    async def cut_journal(self) -> None:
        """Entries behind the feed's horizon, the oldest first, and the tombstones that they tell of."""
        async for entries in self._past_entries():
            told = [(sequence, records.decode(JournalEntry, kv.value)) for sequence, kv in entries]
            for part in _parts(await self._find_tombstones([entry for _, entry in told])):
                await self._write("tombstones", part)
            start, _ = keys.journal_range(self._run.namespace, 0)
            end = keys.journal(self._run.namespace, told[-1][0] + 1)
            await self._write("", [Group((), (Delete(start, end),))])
            self._run.report.let_go["journal"] += len(told)

    async def _past_entries(self) -> AsyncIterator[list[tuple[int, KeyValue]]]:
        async for kvs in scan_range(self._run.store, *keys.journal_range(self._run.namespace, 0)):
            past = [kv for kv in kvs if kv.mod_revision <= self._run.horizons.feed]
            for start in range(0, len(past), JOURNAL_TOGETHER):
                part = past[start : start + JOURNAL_TOGETHER]
                yield [(keys.parse_journal_sequence(kv.key), kv) for kv in part]
            if len(past) < len(kvs):
                return

    async def _find_tombstones(self, entries: Sequence[JournalEntry]) -> list[Group]:
        """Deleted nodes that these entries are the last to tell of, and that the trash has let go."""
        versions = {entry.id: entry.version for entry in entries if entry.type in {"delete", "replace"}}
        wanted = {keys.node(self._run.namespace, node_id): node_id for node_id in versions}
        gone: dict[str, KeyValue] = {}
        for key, kv in (await read_keys(self._run.store, list(wanted))).items():
            node = records.decode(Node, kv.value)
            if node.state == DELETED and node.version <= versions[wanted[key]]:
                gone[wanted[key]] = kv
        places = {
            key: node_id
            for node_id in gone
            for key in (
                keys.trash(self._run.namespace, node_id),
                keys.letting_go(self._run.namespace, node_id),
            )
        }
        kept = {places[key] for key in await read_keys(self._run.store, list(places))}
        return [
            Group((unchanged(kv.key, kv.mod_revision),), (Delete(kv.key),))
            for node_id, kv in gone.items()
            if node_id not in kept
        ]

    # --- remembered requests ------------------------------------------------------------------------------------

    async def forget_requests(self) -> None:
        """Results under idempotency keys that are older than a day."""
        async for kvs in scan_kind(self._run.store, self._run.namespace, "e", keys_only=True):
            await self._run.pause()
            due = [Delete(kv.key) for kv in kvs if kv.mod_revision <= self._run.horizons.requests]
            for part in _parts([Group((), tuple(ops)) for ops in cut(due, GROUP_OPS)]):
                await self._write("", part)
            self._run.report.let_go["requests"] += len(due)


def _parts(groups: Sequence[Group]) -> Iterator[list[Group]]:
    return cut(groups, WRITTEN_TOGETHER)
