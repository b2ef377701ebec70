"""What a process knows of its namespaces, and how that keeps up with what other processes write.

A state is what is known at one head. Our own transaction turns it into the next one; when another process has moved
the head, the journal between the two heads says which keys to forget. Nothing is ever taken for granted: a state
counts only where its head is compared, by a transaction, or by a linearizable read of the head.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import Head, JournalEntry
from moorage_nodes.metadata.view import ENTRY_BYTES, RangeKey, State, View, told_keys
from moorage_nodes.stores.contracts import MAX_TXN_OPS, KeyValue, MetadataStore, Range, Snapshot

MAX_CAUGHT_UP = 512  # journal entries; further behind, all that is known is forgotten
LOADED_TOGETHER = MAX_TXN_OPS - 2  # reads in one request, beside the head and the journal
WARY_FOR = 8  # transactions
MAX_CACHED_ENTRIES = 200_000  # over all namespaces of a process, about 60 MB
_FRESH_RANGES = keys.ADDED | keys.UPLOADS | keys.ASIDE


class HeadMoved(Exception):  # noqa: N818 - a signal inside the engine
    """Another process changed the namespace: start the attempt anew."""


class Knowledge:
    """The states of all namespaces of a process, those used last; shared by its tasks.

    `governed` is one dictionary from state to state, changed in place: whoever holds an older state sees that it is
    `superseded`, and between two awaits nothing changes.
    """

    def __init__(self, store: MetadataStore) -> None:
        self._store = store
        self._states: OrderedDict[str, State] = OrderedDict()
        self._learned = 0  # entries added since they were last counted

    def kept(self, namespace: str) -> State | None:
        """The newest state known here; others may have moved on since."""
        return self._states.get(namespace)

    async def current(self, namespace: str) -> State:
        """The state at the present head: the kept one when the head has not moved since."""
        key, state = keys.head(namespace), self._states.get(namespace)
        if state is None or not state.wary:
            head = await self._store.get(key)
            state = self._states.get(namespace)
            if state is None:
                return self._replace(namespace, None, _build_state(head))
            # A head older than ours: this read was overtaken by our own write, which etcd has acknowledged.
            if state.head_revision >= _revision_of(head):
                self._states.move_to_end(namespace)
                return state
        journal = _journal_after(namespace, state)
        snapshot = await self._store.get_many([key, journal])
        return self._catch_up(namespace, state, snapshot.found.get(key), snapshot.ranges[journal].kvs)

    def _catch_up(
        self, namespace: str, old: State, head: KeyValue | None, journal: Sequence[KeyValue]
    ) -> State:
        """The state at a later head than `old`'s: what is known but for what the journal since then tells.

        `head` and `journal` (all entries behind `old`'s, or too many) were read at one revision. When somebody else
        was faster meanwhile, theirs.
        """
        kept = self._states.get(namespace)
        fresh = _build_state(head)
        if kept is not None and kept.head_revision >= fresh.head_revision:
            kept.wary = max(0, kept.wary - 1)
            return kept
        fresh.wary = WARY_FOR
        if kept is not old or old.superseded or old.head.generation != fresh.head.generation:
            return self._replace(namespace, kept, fresh)
        if len(journal) > MAX_CAUGHT_UP or len(journal) != fresh.head.sequence - old.head.sequence:
            return self._replace(namespace, kept, fresh)
        fresh.governed, fresh.untold, fresh.present = old.governed, old.untold, old.present
        for entry in journal:
            for key in told_keys(namespace, records.decode(JournalEntry, entry.value)):
                fresh.governed.pop(key, None)
        for key in fresh.untold:
            fresh.governed.pop(key, None)
        fresh.untold.clear()
        old.superseded = True
        self._states[namespace] = fresh
        self._states.move_to_end(namespace)
        return fresh

    def _replace(self, namespace: str, old: State | None, fresh: State) -> State:
        if old is not None and old.head.generation == fresh.head.generation:
            # Only the collector removes chunks, and it moves the generation: what was present still is.
            fresh.present = old.present
        self._states[namespace] = fresh
        self._states.move_to_end(namespace)
        self._learned += 1
        self._evict()
        return fresh

    async def load(self, view: View, wanted: Sequence[bytes | RangeKey], *, beside_head: bool = True) -> None:
        """Read what a plan asked for, and the head with each part of it, in one round trip.

        Without the head what is read may be younger than the state: for plans whose transaction compares the head, or
        that are followed by a look at it. What then enters the state does no harm there: whatever has changed since
        the state's head is forgotten when the state catches up with a later one.
        """
        parts = [wanted[start : start + LOADED_TOGETHER] for start in range(0, len(wanted), LOADED_TOGETHER)]
        load = self._load_part if beside_head or view.state.wary else self._load_alone
        if len(parts) == 1:
            await load(view, wanted)
        else:
            loads = (load(view, part) for part in parts)
            for failure in await asyncio.gather(*loads, return_exceptions=True):
                if failure is not None:
                    raise failure
        if view.state.superseded:
            raise HeadMoved
        self._states.setdefault(view.namespace, view.state)
        self._evict()

    async def _load_alone(self, view: View, wanted: Sequence[bytes | RangeKey]) -> None:
        state, before = view.state, view.before
        snapshot = await self._store.get_many(_asked(wanted))
        if view.state.superseded:
            # The state that came after has forgotten what changed, perhaps this: it may be older than that.
            raise HeadMoved
        if view.state is not state:
            # The transaction before was carried out meanwhile, and what it wrote may have been read before that.
            wanted = [key for key in wanted if not _is_written(key, before)]
        self._learn_all(view, wanted, snapshot)

    async def _load_part(self, view: View, wanted: Sequence[bytes | RangeKey]) -> None:
        """Nothing that was read beside another head, or before our own write, may enter the state."""
        namespace, state = view.namespace, view.state
        head_key, journal = keys.head(namespace), _journal_after(namespace, state)
        snapshot = await self._store.get_many([head_key, journal, *_asked(wanted)])
        if state.superseded:
            raise HeadMoved
        head = snapshot.found.get(head_key)
        if _revision_of(head) == state.head_revision:
            self._learn_all(view, wanted, snapshot)
            return
        if self._states.get(namespace) is state:
            # Not in vain: it is kept for the next attempt, with the state at the head that it was read beside.
            later = self._catch_up(namespace, state, head, snapshot.ranges[journal].kvs)
            if later.head_revision == _revision_of(head):
                self._learn_all(View(namespace, later, now=view.now), wanted, snapshot)
        raise HeadMoved

    async def look_back(
        self, namespace: str, wanted: Sequence[bytes | RangeKey], *, now: int
    ) -> tuple[View, int]:
        """A view of a state of its own that holds what is `wanted`, and the revision at which all of it was read: no
        writer gets in the way of reading on there. The state is not kept: it grows old while it is read.
        """
        head_key = keys.head(namespace)
        snapshot = await self._store.get_many([head_key, *_asked(wanted)])
        view = View(namespace, _build_state(snapshot.found.get(head_key)), now=now)
        self._learn_all(view, wanted, snapshot)
        return view, snapshot.revision

    async def load_past(self, view: View, wanted: Sequence[bytes | RangeKey], revision: int) -> None:
        """Read what a plan asked for at a revision; `CompactedError`."""
        snapshot = await self._store.get_many(_asked(wanted), revision=revision)
        self._learn_all(view, wanted, snapshot)

    def _learn_all(self, view: View, wanted: Sequence[bytes | RangeKey], snapshot: Snapshot) -> None:
        for key in wanted:
            if isinstance(key, bytes):
                self._learn(view, key, snapshot.found.get(key))
            else:
                self._learn_range(view, key, snapshot.ranges[_range_of(key)].kvs)

    def _learn_range(self, view: View, key: RangeKey, kvs: tuple[KeyValue, ...]) -> None:
        if key.by_create_revision:
            # Operations of one transaction share a revision; within it the key decides.
            kvs = tuple(sorted(kvs, key=lambda kv: (kv.create_revision, kv.key)))
        if key.start[view.kind_at] in _FRESH_RANGES:
            view.fresh_ranges[key] = kvs
        else:
            view.state.ranges[key] = kvs
            self._learned += len(kvs)

    def _learn(self, view: View, key: bytes, kv: KeyValue | None) -> None:
        self._learned += 1
        kind = key[view.kind_at]
        if kind in keys.ASIDE:
            view.fresh_values[key] = kv
        elif kind in keys.ADDED:
            view.fresh_values[key] = kv
            if kv is not None:
                view.state.present[key] = kv.value
        elif kind in keys.UPLOADS:
            view.fresh_values[key] = kv
            if kv is not None:
                self._learn_upload(view.state, key, kv.value)
        else:
            view.state.governed[key] = None if kv is None else kv.value
            if kind in keys.UNTOLD:
                view.state.untold.add(key)

    def _learn_upload(self, state: State, key: bytes, data: bytes) -> None:
        state.uploads[key] = data
        self._learned += len(data) // ENTRY_BYTES

    def learn_begun(self, namespace: str, key: bytes, data: bytes, revision: int) -> None:
        """We have made an upload's record, at `revision` and without the head. A state at a later head may have seen
        its end already.
        """
        state = self._states.get(namespace)
        if state is not None and state.head_revision < revision:
            self._learn_upload(state, key, data)
            self._evict()

    def keep(self, view: View, revision: int) -> State | None:
        """The state after our own transaction: what we knew, with what we wrote. None: it is not to be known."""
        namespace = view.namespace
        old, kept = view.state, self._states.get(namespace)
        if view.follows is not None:
            return None  # the outcome of the one before it was never heard
        if old.superseded and (kept is None or kept.head_revision != revision):
            return None  # somebody has read the head since and gone beyond it, or forgotten all
        new = State(
            view.build_head(),
            revision,
            old.governed,
            old.untold,
            old.present,
            old.uploads,
            wary=max(0, old.wary - 1),
        )
        at = view.kind_at
        for key, data in view.writes.items():
            kind = key[at]
            if kind in keys.ADDED:
                if data is None:
                    new.present.pop(key, None)
                else:
                    new.present[key] = data
            elif kind in keys.UPLOADS:
                if data is None:
                    new.uploads.pop(key, None)
                else:
                    self._learn_upload(new, key, data)
            elif kind in keys.TOLD or kind in keys.UNTOLD:
                new.governed[key] = data
                if kind in keys.UNTOLD:
                    new.untold.add(key)
        self._learned += len(view.writes)
        old.superseded = True
        if kept is not None:
            kept.superseded = True
        self._states[namespace] = new
        self._states.move_to_end(namespace)
        self._evict()
        return new

    def drop(self, namespace: str) -> None:
        self._states.pop(namespace, None)

    def _evict(self) -> None:
        """Forget the namespaces used longest ago once too much is kept. Counted anew only when it may be so."""
        if self._learned < MAX_CACHED_ENTRIES // 4:
            return
        self._learned = 0
        total = sum(state.entries() for state in self._states.values())
        while total > MAX_CACHED_ENTRIES * 3 // 4 and self._states:
            _, state = self._states.popitem(last=False)
            total -= state.entries()


def _build_state(head: KeyValue | None) -> State:
    """What a head says of itself; nothing else is known yet."""
    if head is None:
        return State(Head(), 0)
    return State(records.decode(Head, head.value), head.mod_revision)


def _revision_of(head: KeyValue | None) -> int:
    return 0 if head is None else head.mod_revision


def _range_of(key: RangeKey) -> Range:
    return Range(key.start, key.end, key.limit)


def _is_written(key: bytes | RangeKey, writes: Mapping[bytes, object]) -> bool:
    if isinstance(key, bytes):
        return key in writes
    return any(key.start <= written < key.end for written in writes)


def _asked(wanted: Iterable[bytes | RangeKey]) -> list[bytes | Range]:
    return [key if isinstance(key, bytes) else _range_of(key) for key in wanted]


def _journal_after(namespace: str, state: State) -> Range:
    start, end = keys.journal_range(namespace, state.head.sequence)
    return Range(start, end, MAX_CAUGHT_UP + 1)
