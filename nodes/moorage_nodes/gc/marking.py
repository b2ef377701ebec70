"""The mark: what of a namespace is held, at a head that can be brought up to date.

The scan takes as long as it takes, at no single revision: a list that stands from its beginning on is seen by it, and
one that comes later is told by the journal behind the head that was read first. So the mark at the newest head is the
scan's and what the journal since then tells: writers need not stand still, and nothing is read twice.

What is newly *pinned* after the scan need not be known. A pin is promised only for a chunk that is not condemned, and
what a call stores replaces a condemned record, which the removal compares. See docs/adr.
"""

from collections.abc import AsyncIterator, Iterable

from moorage.core.errors import DamagedTreeError
from moorage_nodes.gc.heads import too_busy
from moorage_nodes.gc.namespace_run import NamespaceRun
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.bulk_reads import read_keys
from moorage_nodes.metadata.records import FILE, Chunk, JournalEntry, Manifest
from moorage_nodes.metadata.scan import scan_chunks, scan_kind, scan_list, scan_references
from moorage_nodes.metadata.spill import SortedSpill
from moorage_nodes.stores.contracts import KeyValue, Range

CAUGHT_UP_TOGETHER = 256  # journal entries
MAX_CAUGHT_UP = 1_000_000  # digests
_BEHIND_ALL = b"\xff" * 33


class Mark:
    """Use it in a `with` block of its `SortedSpill`, `held`."""

    def __init__(self, run: NamespaceRun, held: SortedSpill) -> None:
        self._run = run
        self._held = held
        self.open_uploads: set[str] = set()
        self.lists: set[str] = set()  # bases of the long lists that something names
        self.since: set[bytes] = set()  # digests that the journal has told since the scan

    async def read(self) -> None:
        """`DamagedTreeError` when a list is not whole; StoreUnavailableError."""
        await self._run.head.read()
        async for kvs in scan_kind(self._run.store, self._run.namespace, "u", keys_only=True):
            await self._run.pause()
            self.open_uploads.update(keys.parse_upload_id(kv.key) for kv in kvs)
        async for digests in scan_references(self._run.store, self._run.namespace, self.lists.add):
            self._held.update(digests)
            await self._run.pause()

    async def catch_up(self) -> None:
        """Bring the mark to the newest head, which the next write compares."""
        while True:
            sequence = self._run.head.head.sequence
            entries = Range(*keys.journal_range(self._run.namespace, sequence), CAUGHT_UP_TOGETHER)
            snapshot = await self._run.store.get_many([self._run.head.key, entries])
            found = snapshot.ranges[entries].kvs
            last = sequence + len(found)
            if found and keys.parse_journal_sequence(found[-1].key) != last:
                raise DamagedTreeError(f"The journal of {self._run.namespace} has a gap behind {sequence}.")
            await self._learn([records.decode(JournalEntry, kv.value) for kv in found])
            self._run.head.see(snapshot.found.get(self._run.head.key))
            if self._run.head.head.sequence == last:
                return
            if len(found) < CAUGHT_UP_TOGETHER:
                raise DamagedTreeError(f"The journal of {self._run.namespace} ends before its head.")
            # There is more: the head counts as seen only up to what was read.
            self._run.head.step_back(last)

    async def _learn(self, entries: Iterable[JournalEntry]) -> None:
        wanted = {
            keys.manifest(self._run.namespace, entry.id, entry.version)
            for entry in entries
            if entry.kind == FILE and entry.version
        }
        # A deletion's own version has none.
        for kv in (await read_keys(self._run.store, list(wanted))).values():
            manifest = records.decode(Manifest, kv.value)
            self.since.update(digest for _, digest, _ in manifest.entries)
            if manifest.segments and manifest.segments not in self.lists:
                self.lists.add(manifest.segments)
                async for part in scan_list(
                    self._run.store, self._run.namespace, manifest.segments, manifest.count
                ):
                    self.since.update(digest for _, digest, _ in part)
        if len(self.since) > MAX_CAUGHT_UP:
            raise too_busy(self._run.namespace)

    async def walk_chunks(self) -> AsyncIterator[list[tuple[bytes, KeyValue, Chunk, bool]]]:
        """All chunk records beside the mark: (digest, key as read, record, whether something holds it).

        Both come in the order of the digests, so neither is ever in memory as a whole.
        """
        held = iter(self._held)
        following = next(held, _BEHIND_ALL)
        async for chunks in scan_chunks(self._run.store, self._run.namespace):
            batch = []
            for digest, kv, chunk in chunks:
                while following < digest:
                    following = next(held, _BEHIND_ALL)
                batch.append((digest, kv, chunk, following == digest or digest in self.since))
            yield batch
