"""One namespace's state at a head, as pure plans see it.

A plan is a synchronous pure function of a `View`: it reads keys, decides, writes into the view, and returns its
result or raises a `MoorageError` to refuse. When it reads what is not loaded yet the view raises `NotLoaded`; the
engine (namespace.py) loads that and runs the plan again from its start. So plans hold all the rules and no I/O.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec import Struct

from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import Head, JournalEntry
from moorage_nodes.stores.contracts import KeyValue

ENTRY_BYTES = 300  # what the record of an upload is counted by
_ABSENT_FOR_NOW = keys.ADDED | keys.UPLOADS | keys.ASIDE
R = TypeVar("R", bound=Struct)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RangeKey:
    """A bounded range read: up to `limit` keys in [start, end), 0 for all."""

    start: bytes
    end: bytes
    limit: int = 0
    by_create_revision: bool = False


class NotLoaded(Exception):  # noqa: N818 - a signal to the engine, not an error
    """The plan needs these; the engine loads them and runs the plan again."""

    def __init__(self, wanted: Iterable[bytes | RangeKey]) -> None:
        super().__init__("not loaded")
        self.wanted = tuple(wanted)


class NotSettled(Exception):  # noqa: N818 - a signal to the engine, not an error
    """The plan needs what a transaction that is under way may be changing: it runs again when that has ended."""


@dataclass(slots=True)
class State:
    """What is known of a namespace at one head. Valid in every process while the head's revision stands.

    `governed` holds keys that only change with the head (None: known absent), `untold` those of them whose changes
    the journal does not tell; `present` holds records whose presence the head protects (chunks, segments), `uploads`
    those of open uploads, which the head protects as well: an absence of those is never kept.
    """

    head: Head
    head_revision: int
    governed: dict[bytes, bytes | None] = field(default_factory=dict)
    untold: set[bytes] = field(default_factory=set)
    present: dict[bytes, bytes] = field(default_factory=dict)
    uploads: dict[bytes, bytes] = field(default_factory=dict)
    ranges: dict[RangeKey, tuple[KeyValue, ...]] = field(default_factory=dict)
    wary: int = 0  # another process moved the head lately: for so many transactions more it may do so again
    superseded: bool = False  # a later state shares `governed` with this one

    def entries(self) -> int:
        uploads = len(self.uploads) + sum(map(len, self.uploads.values())) // ENTRY_BYTES
        return len(self.governed) + len(self.present) + uploads + sum(map(len, self.ranges.values()))


@dataclass(slots=True)
class _Layer:
    """The writes of one plan, so that a refused plan leaves nothing behind."""

    writes: dict[bytes, bytes | None] = field(default_factory=dict)
    range_deletes: list[tuple[bytes, bytes]] = field(default_factory=list)
    compares: dict[bytes, int] = field(default_factory=dict)
    told: set[bytes] = field(default_factory=set)
    sequence: int = 0
    size: int = 0  # bytes of all puts, those that were put again included


def told_keys(namespace: str, entry: JournalEntry) -> tuple[bytes, ...]:
    """The keys of nodes, children and manifests that the change of this entry may have written."""
    told = (
        keys.node(namespace, entry.id),
        keys.child(namespace, entry.parent, entry.name),
        keys.manifest(namespace, entry.id, entry.version),
    )
    if entry.from_parent:
        return *told, keys.child(namespace, entry.from_parent, entry.from_name)
    return told


class View:
    """`State` plus what this attempt has read freshly and what its plans have written so far.

    `namespace` whose; `now` in Unix milliseconds; `request` the idempotency key of the plan that runs. `mark` tells the
    head that this attempt leaves behind from all others. `before`: a view on the same state whose transaction is under
    way: its writes count as done, for this one's transaction compares the head that it leaves.
    """

    def __init__(
        self, namespace: str, state: State, *, now: int, mark: int = 0, before: "View | None" = None
    ) -> None:
        self.namespace = namespace
        self.kind_at = keys.kind_at(namespace)
        self.state = state
        self.now = now
        self.mark = mark
        self.request = ""
        self.fresh_values: dict[bytes, KeyValue | None] = {}
        self.fresh_ranges: dict[RangeKey, tuple[KeyValue, ...]] = {}
        self.writes: dict[bytes, bytes | None] = {}
        self.range_deletes: list[tuple[bytes, bytes]] = []
        self.compares: dict[bytes, int] = {}  # keys beside the head, with their revisions
        self.follows = None if before is None else before.build_head()
        self.before: Mapping[bytes, bytes | None] = {} if before is None else before.writes
        self.began: int = state.head.sequence if before is None else before.sequence
        self.sequence: int = self.began
        self._layer: _Layer | None = None

    def rebase(self, state: State) -> None:
        """The transaction before has been carried out and left this state behind."""
        self.state = state
        for key in self.before:
            self.fresh_values.pop(key, None)
        self.fresh_ranges.clear()  # they may be of before it
        self.follows, self.before = None, {}

    def build_head(self) -> Head:
        """The head that this attempt leaves behind."""
        return Head(sequence=self.sequence, generation=self.state.head.generation, mark=self.mark)

    # --- reading ------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """A key that the head governs; sees the writes of this attempt."""
        if self._layer is not None and key in self._layer.writes:
            return self._layer.writes[key]
        if key in self.writes:
            return self.writes[key]
        if key in self.before:
            return self._written_before(key)
        try:
            return self.state.governed[key]
        except KeyError:
            raise NotLoaded((key,)) from None

    def need(self, wanted: Iterable[bytes]) -> None:
        """Say at once which governed keys will be read, so that they are loaded in one round trip."""
        missing = [key for key in wanted if key not in self.state.governed and not self._written(key)]
        if missing:
            raise NotLoaded(missing)

    def need_together(
        self,
        *,
        governed: Iterable[bytes] = (),
        fresh: Iterable[bytes] = (),
        present: Iterable[bytes] = (),
        uploads: Iterable[bytes] = (),
        fresh_ranges: Iterable[RangeKey] = (),
    ) -> None:
        """As `need`, `need_fresh`, `present`, `upload` and `fresh_range`, all in one round trip."""
        known = self.state.governed
        missing: list[bytes | RangeKey] = [
            key for key in governed if key not in known and not self._written(key)
        ]
        missing.extend(key for key in fresh if key not in self.fresh_values)
        missing.extend(
            key
            for key in present
            if key not in self.state.present and key not in self.fresh_values and not self._written(key)
        )
        missing.extend(
            key
            for key in uploads
            if key not in self.state.uploads and key not in self.fresh_values and not self._written(key)
        )
        missing.extend(key for key in fresh_ranges if key not in self.fresh_ranges)
        if missing:
            raise NotLoaded(missing)

    def record(self, kind: type[R], key: bytes) -> R | None:
        data = self.get(key)
        return None if data is None else records.decode(kind, data)

    def range(self, key: RangeKey) -> tuple[KeyValue, ...]:
        """A range of governed keys **as of the head**: writes of this attempt are not in it."""
        if self.follows is not None:
            raise NotSettled
        try:
            return self.state.ranges[key]
        except KeyError:
            raise NotLoaded((key,)) from None

    def need_ranges(self, wanted: Iterable[RangeKey]) -> None:
        """Say at once which ranges will be read, so that they are loaded in one round trip."""
        if self.follows is not None:
            raise NotSettled
        missing = [key for key in wanted if key not in self.state.ranges]
        if missing:
            raise NotLoaded(missing)

    def written_within(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """What earlier plans of this attempt wrote in [start, end), which `range` does not show; None: deleted."""
        return ((key, data) for key, data in self.writes.items() if start <= key < end)

    def fresh(self, key: bytes) -> KeyValue | None:
        """A key that the head does not govern (what calls stored): read in this attempt."""
        if key in self.before:
            raise NotSettled
        try:
            return self.fresh_values[key]
        except KeyError:
            raise NotLoaded((key,)) from None

    def need_fresh(self, wanted: Iterable[bytes]) -> None:
        missing = [key for key in wanted if key not in self.fresh_values]
        if missing:
            raise NotLoaded(missing)

    def fresh_range(self, key: RangeKey) -> tuple[KeyValue, ...]:
        if any(key.start <= written < key.end for written in self.before):
            raise NotSettled
        try:
            return self.fresh_ranges[key]
        except KeyError:
            raise NotLoaded((key,)) from None

    def present(self, wanted: Sequence[bytes]) -> list[bytes | None]:
        """Records that are added without the head (chunks, segments): seen ones are kept while the head
        stands, absences are read anew in each attempt.
        """
        found: list[bytes | None] = []
        missing = []
        for key in wanted:
            data = self.get(key) if self.touched(key) else self.state.present.get(key)
            if data is None:
                if key not in self.fresh_values:
                    missing.append(key)
                    continue
                kv = self.fresh_values[key]
                data = None if kv is None else kv.value
            found.append(data)
        if missing:
            raise NotLoaded(missing)
        return found

    def upload(self, key: bytes) -> bytes | None:
        """An open upload's record: a seen one is kept while the head stands, an absence is read anew in each attempt."""
        if self._written(key):
            return self.get(key)
        data = self.state.uploads.get(key)
        if data is None:
            if key not in self.fresh_values:
                raise NotLoaded((key,))
            kv = self.fresh_values[key]
            data = None if kv is None else kv.value
        return data

    # --- writing ------------------------------------------------------------------------------------------

    def begin(self, request: str = "") -> None:
        """Start one plan: what it writes joins the attempt with `merge`, or vanishes with the next `begin`."""
        self._layer = _Layer(sequence=self.sequence)
        self.request = request

    def cost(self) -> tuple[int, int]:
        """Puts of the plan that has just run, and what they are at most in bytes."""
        layer = self._writing()
        return len(layer.writes), layer.size

    def compare_count(self) -> int:
        """Keys that the transaction would compare, with the plan that has just run."""
        return len(self.compares) + len(self._writing().compares)

    def check_told(self) -> None:
        """The plan that has just run must have told all it did: other processes trust the journal to say what of
        their knowledge has become old. RuntimeError: the plan is wrong.
        """
        layer = self._writing()
        at = self.kind_at
        for key in layer.writes:
            if key[at] in keys.TOLD and key not in layer.told:
                raise RuntimeError(f"{key!r} was changed without a journal entry that tells")

    def merge(self) -> None:
        layer = self._writing()
        self.writes.update(layer.writes)
        self.range_deletes.extend(layer.range_deletes)
        self.compares.update(layer.compares)
        self.sequence = layer.sequence
        self._layer = None

    def reset(self) -> None:
        """Forget all writes: the plans run again from the state."""
        self.writes, self.range_deletes, self.compares = {}, [], {}
        self.sequence = self.began
        self._layer = None

    def put(self, key: bytes, record: Struct) -> None:
        layer = self._writing()
        layer.writes[key] = data = records.encode(record)
        layer.size += len(key) + len(data)

    def delete(self, key: bytes) -> None:
        layer = self._writing()
        layer.writes[key] = None
        layer.size += len(key)

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Only for ranges that no plan puts into (what an upload stored)."""
        self._writing().range_deletes.append((start, end))

    def require(self, kv: KeyValue) -> None:
        """The transaction fails, and the attempt is repeated, unless this fresh key is still as it was read."""
        self._writing().compares[kv.key] = kv.mod_revision

    def append(self, entry: JournalEntry) -> None:
        """Write the next journal entry: every change of a node has exactly one."""
        layer = self._writing()
        layer.sequence += 1
        layer.told.update(told_keys(self.namespace, entry))
        key, data = keys.journal(self.namespace, layer.sequence), records.encode(entry)
        layer.writes[key] = data
        layer.size += len(key) + len(data)

    def last_sequence(self) -> int:
        """Of the newest journal entry, this attempt's included."""
        return self._writing().sequence

    def touched(self, key: bytes) -> bool:
        """Whether a plan of this attempt, or of the one before that is under way, wrote `key`."""
        return self._written(key)

    def _written_before(self, key: bytes) -> bytes | None:
        """What the transaction before leaves under `key`. An absence says nothing where others may add without the head."""
        data = self.before[key]
        if data is None and key[self.kind_at] in _ABSENT_FOR_NOW:
            raise NotSettled
        return data

    def _writing(self) -> _Layer:
        if self._layer is None:
            raise RuntimeError("a view is written only inside a plan")
        return self._layer

    def _written(self, key: bytes) -> bool:
        return (
            key in self.writes
            or (self._layer is not None and key in self._layer.writes)
            or key in self.before
        )


Plan = Callable[[View], T]
"""Returns its result, or raises a `MoorageError` to refuse."""
