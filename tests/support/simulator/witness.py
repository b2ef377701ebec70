"""What stands in the stores after every single write, and whether it may (DESIGN.md, Invariants).

Reads the raw keys beside the servers and shares only the records' formats with them. It is told of each revision the
moment it stands, so a state that is wrong for one transaction's time is seen.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from moorage_nodes.metadata import records
from moorage_nodes.metadata.records import (
    CHUNK_CONDEMNED,
    CHUNK_DAMAGED,
    CHUNK_LIVE,
    CHUNK_SOFT_DELETED,
    DELETED,
    FILE,
    LIVE,
    PENDING_DELETION,
    PROCEED,
    Chunk,
    Deletion,
    Head,
    JournalEntry,
    Manifest,
    Node,
    Trash,
)
from moorage_nodes.notify import keys as queue_keys
from moorage_nodes.stores.contracts import Event
from simulator.raw import Namespace, parse_key


class Violation(AssertionError):  # noqa: N818 - a finding, not a failure of the code that raises it
    """An invariant does not hold. `invariant` is a short name for it."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(invariant, detail)
        self.invariant = invariant
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"


@dataclass(frozen=True)
class Limits:
    """What the servers were told, in seconds; `skew`: how far a clock may be off."""

    retained_versions: int
    retention_deleted: float
    retention_feed: float
    upload_idle: float
    upload_max: float
    grace: float
    ack_deadline: float
    skew: float


@dataclass(frozen=True)
class Made:
    """A version as its manifest was written."""

    time: float
    operation: str  # whose it is, from `attrs`
    upload: str
    digests: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True)
class Seen:
    """A node from `time` on. `readable` is the version that may be read, None: none may."""

    time: float
    readable: int | None
    node: Node | None


@dataclass
class Witness:
    """`now` gives the true time. `fail` is told of the first violation."""

    now: Callable[[], float]
    limits: Limits
    fail: Callable[[Violation], None]
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    work: set[tuple[str, str]] = field(default_factory=set)
    parked: set[tuple[str, str]] = field(default_factory=set)
    acknowledged: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    skipped: set[tuple[str, str]] = field(
        default_factory=set
    )  # notifications with clients whose queue was full
    begun: dict[tuple[str, str], float] = field(default_factory=dict)  # deletions, by their notification
    versions: dict[tuple[str, str, int], Made] = field(default_factory=dict)
    journals: dict[str, list[tuple[float, JournalEntry]]] = field(default_factory=lambda: defaultdict(list))
    seen: dict[tuple[str, str], list[Seen]] = field(default_factory=lambda: defaultdict(list))
    condemned: dict[tuple[str, bytes], float] = field(default_factory=dict)
    trashed: dict[tuple[str, str], float] = field(default_factory=dict)
    uploads_begun: dict[tuple[str, str], float] = field(default_factory=dict)
    uploads_used: dict[tuple[str, str], float] = field(default_factory=dict)
    pinned_since: dict[tuple[str, str], float] = field(default_factory=dict)  # by what `pins` gives
    collections: dict[str, float] = field(default_factory=dict)  # those that run: who -> since when
    marked: dict[tuple[str, str], dict[str, int]] = field(
        default_factory=dict
    )  # what lay below, its versions
    revision: int = 0

    # --- told by the stores

    def changed(self, revision: int, events: Sequence[Event]) -> None:
        """All that one transaction did."""
        self.revision = revision
        changes: dict[str, list[tuple[str, bytes, bytes | None]]] = defaultdict(list)
        for event in events:
            key = event.kv.key
            value = None if event.deleted else event.kv.value
            if key.startswith((b"w/", b"p/")):
                kind, namespace, work_id = key.decode().split("/")
                work = self.work if kind == "w" else self.parked
                (work.discard if value is None else work.add)((namespace, work_id))
                continue
            parsed = parse_key(key)
            if parsed is not None:
                namespace, kind, rest = parsed
                changes[namespace].append((kind, rest, value))
        try:
            for namespace, changed in changes.items():
                self._take(namespace, changed)
        except Violation as violation:
            self.fail(violation)

    def stored(self, name: str, data: bytes) -> None:
        if name in self.objects:
            self.fail(Violation("an object is written once", name))
        self.objects[name] = data

    def deleted(self, names: Iterable[str]) -> None:
        """Bytes go last: no record names them, and their upload has ended."""
        for name in names:
            data = self.objects.pop(name, None)
            if data is None:
                continue
            namespace, _, rest = name.partition("/")
            state = self.namespaces.get(namespace)
            if state is None:
                continue
            for digest, chunk in state.chunks.items():
                if chunk.object == rest:
                    held = digest in set(state.reachable_digests())
                    self.fail(
                        Violation(
                            "nothing reachable is deleted" if held else "bytes go after their record",
                            f"{name} holds {digest.hex()[:8]}, which has a record",
                        )
                    )
            if rest.split("/")[0] in state.uploads:
                self.fail(Violation("bytes of an open upload stay", name))

    # --- one transaction

    def _take(self, namespace: str, changed: list[tuple[str, bytes, bytes | None]]) -> None:
        state = self.namespaces.setdefault(namespace, Namespace(namespace))
        before = state.head
        chunks_before = {rest: state.chunks.get(rest) for kind, rest, _ in changed if kind == "k"}
        nodes_before = {
            rest.decode(): state.nodes.get(rest.decode()) for kind, rest, _ in changed if kind == "i"
        }
        manifests_before = {rest: state.raw["m"].get(rest) for kind, rest, _ in changed if kind == "m"}
        journal_before = {rest: state.raw["j"].get(rest) for kind, rest, _ in changed if kind == "j"}
        deletions_before = {
            rest.decode(): state.deletions.get(rest.decode()) for kind, rest, _ in changed if kind == "d"
        }
        devices_before = {rest.decode() for rest in state.raw["v"]}
        uploads_before = {rest for kind, rest, value in changed if kind == "u" and rest in state.raw["u"]}
        state.apply(changed)
        kinds = {kind for kind, _, _ in changed}
        self._check_head(state, before, changed)
        entries = self._check_journal(state, before, changed, journal_before)
        self._check_told(state, before, changed, entries)
        self._check_manifests(state, changed, manifests_before)
        self._check_nodes(state, nodes_before, entries)
        self._check_chunks(state, before, chunks_before)
        self._check_uploads(state, changed, uploads_before)
        self._check_deletions(state, deletions_before, devices_before)
        self._check_trash(state, changed)
        if kinds & {"i", "c", "d", "t"}:
            self._check_tree(state)
            self._look(state)

    def _check_head(
        self, state: Namespace, before: Head, changed: list[tuple[str, bytes, bytes | None]]
    ) -> None:
        moved = any(kind == "h" for kind, _, _ in changed)
        governed = sorted({kind for kind, _, _ in changed} & set("jicmxbetdv"))
        if governed and not moved:
            raise Violation(
                "the head moves with what it governs", f"{state.name}: {governed} changed without it"
            )
        if state.head.sequence < before.sequence or state.head.generation < before.generation:
            raise Violation("the head only rises", f"{state.name}: {before} to {state.head}")

    def _check_journal(
        self,
        state: Namespace,
        before: Head,
        changed: list[tuple[str, bytes, bytes | None]],
        old: Mapping[bytes, bytes | None],
    ) -> list[JournalEntry]:
        put = sorted(rest for kind, rest, value in changed if kind == "j" and value is not None)
        for rest in put:
            if old[rest] is not None:
                raise Violation("the journal is only appended to", f"{state.name}: entry {int(rest, 16)}")
        numbers = [int(rest, 16) for rest in put]
        if numbers != list(range(before.sequence + 1, state.head.sequence + 1)):
            raise Violation(
                "the journal is gapless", f"{state.name}: {numbers} between {before} and {state.head}"
            )
        entries = [records.decode(JournalEntry, state.raw["j"][rest]) for rest in put]
        self.journals[state.name].extend((self.now(), entry) for entry in entries)
        gone = [int(rest, 16) for kind, rest, value in changed if kind == "j" and value is None]
        left = [int(rest, 16) for rest in state.raw["j"]]
        if gone and left and max(gone) > min(left):
            raise Violation("the journal is cut at its beginning", f"{state.name}: {gone} went")
        return entries

    def _check_told(
        self,
        state: Namespace,
        before: Head,
        changed: list[tuple[str, bytes, bytes | None]],
        entries: Sequence[JournalEntry],
    ) -> None:
        """Other processes trust the journal, or the generation, to say which of their knowledge is old."""
        if state.head.generation != before.generation:
            return
        told: set[tuple[str, bytes]] = set()
        for entry in entries:
            told.add(("i", entry.id.encode()))
            told.add(("c", f"{entry.parent}/{entry.name}".encode()))
            told.add(("m", f"{entry.id}/{entry.version:012x}".encode()))
            if entry.from_parent:
                told.add(("c", f"{entry.from_parent}/{entry.from_name}".encode()))
        for kind, rest, value in changed:
            if kind in "icm" and (kind, rest) not in told:
                raise Violation("what changes is told", f"{state.name}: {kind}/{rest!r}")
            if kind in "kg" and value is None:
                raise Violation("what is taken away moves the generation", f"{state.name}: {kind}/{rest!r}")

    def _check_manifests(
        self,
        state: Namespace,
        changed: list[tuple[str, bytes, bytes | None]],
        old: Mapping[bytes, bytes | None],
    ) -> None:
        for kind, rest, value in changed:
            if kind != "m":
                continue
            file_id, version = rest.decode().rsplit("/", 1)
            number = int(version, 16)
            if value is None:
                self._check_dropped(state, file_id, number)
                continue
            if old[rest] is not None:
                raise Violation(
                    "one winner per base version", f"{state.name}: {file_id} {number} was written twice"
                )
            manifest = records.decode(Manifest, value)
            digests = self.check_content(state, manifest, f"{file_id} version {number}")
            self.versions[state.name, file_id, number] = Made(
                self.now(), str(manifest.attrs.get("type", "")), manifest.upload, digests
            )

    def check_content(self, state: Namespace, manifest: Manifest, what: str) -> tuple[bytes, ...]:
        """Every chunk is held, and its bytes are there and right."""
        entries = state.entries_of(manifest.entries, manifest.segments, manifest.count)
        if entries is None:
            raise Violation("no dangling reference", f"{state.name}: {what}: a segment is missing")
        for _, digest, size in entries:
            chunk = state.chunks.get(digest)
            if chunk is None:
                raise Violation(
                    "no dangling reference", f"{state.name}: {what}: {digest.hex()[:8]} has no record"
                )
            if chunk.state == CHUNK_CONDEMNED:
                raise Violation(
                    "nothing reachable is condemned", f"{state.name}: {what}: {digest.hex()[:8]} is condemned"
                )
            if chunk.size != size:
                raise Violation("sizes agree", f"{state.name}: {what}: {digest.hex()[:8]}")
            if chunk.state != CHUNK_DAMAGED:
                self._check_bytes(state.name, digest, chunk)
        return tuple(digest for _, digest, _ in entries)

    def _check_bytes(self, namespace: str, digest: bytes, chunk: Chunk) -> None:
        if chunk.size == 0:
            data = b""
        else:
            whole = self.objects.get(f"{namespace}/{chunk.object}")
            if whole is None:
                raise Violation("bytes before records", f"{namespace}/{chunk.object} is not there")
            data = whole[chunk.offset : chunk.offset + chunk.length]
        if hashlib.sha256(data).digest() != digest:
            raise Violation("bytes match their hash", f"{namespace}/{chunk.object}: {digest.hex()[:8]}")

    def _check_dropped(self, state: Namespace, file_id: str, number: int) -> None:
        """Retention lets go of the oldest versions, and never of what can be read or brought back."""
        node = state.nodes.get(file_id)
        if node is None or not state.is_retained(file_id):
            return
        content = node.version if node.state == LIVE else node.version - 1
        kept = state.versions_of(file_id)
        if number >= content or len(kept) < self.limits.retained_versions or (kept and number > min(kept)):
            raise Violation("kept versions are kept", f"{state.name}: {file_id} {number}; {kept} are left")

    def _check_nodes(
        self, state: Namespace, old: Mapping[str, Node | None], entries: Sequence[JournalEntry]
    ) -> None:
        numbers: dict[str, list[int]] = defaultdict(list)
        for entry in entries:
            is_end = entry.type == "delete" and entry.state == DELETED
            if entry.kind == FILE and entry.type not in {"create", "move"} and not is_end:
                numbers[entry.id].append(entry.version)
        for node_id, before in old.items():
            after = state.nodes.get(node_id)
            self._check_walked(state, node_id, before, after)
            if after is None:
                if before is not None and (before.state != DELETED and state.is_retained_node(before)):
                    raise Violation("what was acknowledged survives", f"{state.name}: {node_id} vanished")
                continue
            if after.kind != FILE:
                continue
            first = 0 if before is None else before.version
            if numbers[node_id] != list(range(first + 1, after.version + 1)):
                raise Violation(
                    "versions are gapless",
                    f"{state.name}: {node_id} went from {first} to {after.version} by {numbers[node_id]}",
                )

    def _check_walked(self, state: Namespace, node_id: str, before: Node | None, after: Node | None) -> None:
        """When a directory is deleted for good, every file that was below it has a version of its own since."""
        if after is None or after.kind == FILE:
            return
        name = state.name, node_id
        was = LIVE if before is None else before.state
        if after.state == PENDING_DELETION != was:
            self.marked[name] = {file_id: file.version for file_id, file in state.files_below(node_id)}
        elif after.state == LIVE:
            self.marked.pop(name, None)
        elif after.state == DELETED != was:
            for file_id, version in self.marked.pop(name, {}).items():
                file = state.nodes.get(file_id)
                if file is not None and file.version <= version:
                    raise Violation(
                        "a deletion raises versions", f"{state.name}: {file_id} is still at {version}"
                    )

    def _check_chunks(self, state: Namespace, before: Head, old: Mapping[bytes, Chunk | None]) -> None:
        reachable: set[bytes] | None = None
        for digest, was in old.items():
            chunk = state.chunks.get(digest)
            name = state.name, digest
            if chunk is not None and chunk.state in {CHUNK_LIVE, CHUNK_SOFT_DELETED}:
                self._check_bytes(state.name, digest, chunk)
                self.condemned.pop(name, None)
                continue
            is_condemned = chunk is not None and chunk.state == CHUNK_CONDEMNED
            was_condemned = was is not None and was.state == CHUNK_CONDEMNED
            if (is_condemned and not was_condemned) or chunk is None:
                if state.head.generation == before.generation:
                    raise Violation(
                        "what is taken away moves the generation", f"{state.name}: {digest.hex()[:8]}"
                    )
                reachable = reachable if reachable is not None else set(state.reachable_digests())
                if digest in reachable:
                    word = "condemned" if is_condemned else "deleted"
                    raise Violation(f"nothing reachable is {word}", f"{state.name}: {digest.hex()[:8]}")
                self._check_pins(state, digest)
            if is_condemned:
                self.condemned.setdefault(name, self.now())
            elif chunk is None:
                self._check_grace(state, digest, was)

    def _check_grace(self, state: Namespace, digest: bytes, was: Chunk | None) -> None:
        since = self.condemned.pop((state.name, digest), None)
        if was is None or was.state != CHUNK_CONDEMNED or since is None:
            raise Violation("condemned before removed", f"{state.name}: {digest.hex()[:8]}")
        if self.now() - since < self.limits.grace - self.limits.skew:
            raise Violation(
                "a grace between the marks",
                f"{state.name}: {digest.hex()[:8]} after {self.now() - since:.0f} s",
            )

    def _check_pins(self, state: Namespace, digest: bytes) -> None:
        """A pin that stood before the collection began is respected; a later one ends in `missing_chunks` at most."""
        started = min(self.collections.values(), default=self.now())
        for pinning, pins in state.pins():
            since = self.pinned_since.get((state.name, pinning), self.now())
            if digest in pins and since < started:
                raise Violation("pins are respected", f"{state.name}: {digest.hex()[:8]} of {pinning}")

    def _check_deletions(self, state: Namespace, old: Mapping[str, Deletion | None], known: set[str]) -> None:
        """Who is told, and that nobody's time is cut short, whatever clocks do. A device that comes in the same
        transaction may have come before the deletion or after it.
        """
        for work_id, before in old.items():
            name = state.name, work_id
            deletion = state.deletions.get(work_id)
            if before is None and deletion is not None:
                self.begun[name] = self.now()
                devices = {rest.decode() for rest in state.raw["v"]}
                told = set(deletion.clients)
                if not (known & devices) - {deletion.client} <= told <= (known | devices) - {deletion.client}:
                    raise Violation("every device is told", f"{name}: {told} of {devices}")
            if before is None or deletion is not None:
                continue
            node = state.nodes.get(before.node)
            if node is None or node.state != DELETED:
                continue  # cancelled
            waiting = set(before.clients) - self.acknowledged[name]
            if waiting and self.now() - self.begun[name] < self.limits.ack_deadline:
                raise Violation("deadlines are never early", f"{name}: {sorted(waiting)} still had time")

    def notified(self, revision: int, events: Sequence[Event]) -> None:
        """All that one transaction did to the notifier's queues."""
        for event in events:
            key = event.kv.key
            if event.deleted or not key.startswith(queue_keys.NOTIFICATIONS):
                continue
            notification = queue_keys.decode(queue_keys.Notification, event.kv.value)
            name = queue_keys.parse_notification(key)
            self.acknowledged[name].update(notification.acknowledged)
            if notification.skipped:
                self.skipped.add(name)

    def check_noted(self, user: str, notification_id: str, client_id: str) -> bool:
        """An acknowledgement that was answered is waited for no more, while its deletion stands; whether it is noted."""
        deletion = self.namespaces[user].deletions.get(notification_id)
        name = user, notification_id
        noted = client_id in self.acknowledged[name]
        stands = deletion is not None and deletion.step != PROCEED and client_id in deletion.clients
        if stands and not noted and name not in self.skipped:
            raise Violation("an acknowledgement is always taken", f"{name}: {client_id} is still waited for")
        return noted

    def _check_uploads(
        self, state: Namespace, changed: list[tuple[str, bytes, bytes | None]], old: set[bytes]
    ) -> None:
        for kind, rest, value in changed:
            if kind == "s" and value is not None:
                upload_id = rest.decode().split("/")[0]
                self.pinned_since[state.name, rest.decode()] = self.now()
                self.uploads_used[state.name, upload_id] = self.now()
                if upload_id not in state.uploads:
                    raise Violation("what is stored is of an open upload", f"{state.name}: {upload_id}")
            if kind != "u" or value is None:
                continue
            name = state.name, rest.decode()
            if rest not in old:
                if name in self.uploads_begun:
                    raise Violation("an upload that ended never comes back", f"{name}")
                self.uploads_begun[name] = self.pinned_since[name] = self.now()
            self.uploads_used[name] = self.now()

    def _check_trash(self, state: Namespace, changed: list[tuple[str, bytes, bytes | None]]) -> None:
        for kind, rest, value in changed:
            if kind != "t":
                continue
            name = state.name, rest.decode()
            if value is not None:
                records.decode(Trash, value)
                self.trashed[name] = self.now()
                continue
            since = self.trashed.pop(name, None)
            node = state.nodes.get(name[1])
            # Brought back, and maybe deleted again by the next request of the same transaction.
            if node is not None and node.state in {LIVE, PENDING_DELETION}:
                continue
            if since is None or self.now() - since < self.limits.retention_deleted - self.limits.skew:
                raise Violation("restorable until retention ends", f"{state.name}: {name[1]}")

    def _check_tree(self, state: Namespace) -> None:
        places: dict[str, str] = {}
        for place, child in state.children.items():
            if child.id in places:
                raise Violation("a node has one place", f"{state.name}: {child.id}")
            places[child.id] = place
        live = {i: f"{node.parent}/{node.name}" for i, node in state.nodes.items() if node.state == LIVE}
        gone = {i for i in live if not state.is_retained(i)}
        wrong = {i for i in places.keys() | live.keys() if places.get(i) != live.get(i)} - gone
        if wrong:
            raise Violation("a child key for every live node", f"{state.name}: {sorted(wrong)}")
        for node_id in live:
            state.way_up(node_id)  # raises on a cycle
        pending = {node.deletion: i for i, node in state.nodes.items() if node.state == PENDING_DELETION}
        if {key: deletion.node for key, deletion in state.deletions.items()} != pending:
            raise Violation("a deletion for every pending node", f"{state.name}: {sorted(pending)}")
        work = sorted(each for namespace, each in [*self.work, *self.parked] if namespace == state.name)
        if work != sorted(pending):
            raise Violation("work for every pending node", f"{state.name}: {sorted(pending)}")
        for node_id in state.trash:
            node = state.nodes.get(node_id)
            if node is None or node.state != DELETED:
                raise Violation("only what is deleted is in the trash", f"{state.name}: {node_id}")

    def _look(self, state: Namespace) -> None:
        """Note what may be read from now on."""
        known = {node_id for namespace, node_id in self.seen if namespace == state.name}
        for node_id in known | state.nodes.keys():
            node = state.nodes.get(node_id)
            readable = None if node is None or not state.is_readable(node_id) else node.version
            trail = self.seen[state.name, node_id]
            if not trail or (trail[-1].readable, trail[-1].node) != (readable, node):
                trail.append(Seen(self.now(), readable, node))

    # --- at any time

    def window(self, namespace: str, node_id: str, start: float, end: float) -> Iterator[Seen]:
        """All that the node was in [start, end]."""
        last = Seen(0.0, None, None)
        for each in self.seen.get((namespace, node_id), ()):
            if each.time > end:
                break
            if each.time > start:
                if last.time <= start:
                    yield last
                yield each
            last = each
        if last.time <= start:
            yield last

    def check_all(self) -> None:
        """Everything that can be read or brought back is whole. Raises `Violation`."""
        for state in self.namespaces.values():
            for file_id, number, manifest in state.retained_manifests():
                self.check_content(state, manifest, f"{file_id} version {number}")
            for file_id, node in state.nodes.items():
                if node.kind == FILE and node.state == LIVE and node.version and state.is_retained(file_id):
                    newest = state.manifest(file_id, node.version)
                    if newest is None or (newest.size, newest.digest) != (node.size, node.digest):
                        raise Violation("every readable version has its manifest", f"{state.name}: {file_id}")
            self._check_tree(state)

    def check_quiet(self) -> None:
        """After retention, grace and two collections: nothing is left that nothing needs. Raises `Violation`."""
        named: set[str] = set()
        for state in self.namespaces.values():
            reachable = set(state.reachable_digests())
            for digest, chunk in state.chunks.items():
                named.add(f"{state.name}/{chunk.object}")
                if digest not in reachable:
                    raise Violation("nothing leaks", f"{state.name}: the record of {digest.hex()[:8]}")
            segments = {rest.decode().rsplit("/", 1)[0] for rest in state.raw["g"]}
            used = {manifest.segments for _, _, manifest in state.retained_manifests()}
            if segments - used:
                raise Violation("nothing leaks", f"{state.name}: segments {sorted(segments - used)}")
            if state.uploads or state.raw["s"]:
                raise Violation(
                    "nothing leaks", f"{state.name}: uploads {sorted(state.uploads)} {len(state.raw['s'])}"
                )
            if state.trash:
                raise Violation("nothing leaks", f"{state.name}: trash {sorted(state.trash)}")
            for file_id, _ in {(i, 0) for i, _, _ in state.all_manifests()}:
                if not state.is_retained(file_id):
                    raise Violation("nothing leaks", f"{state.name}: manifests of {file_id}")
        leaked = self.objects.keys() - named
        if leaked:
            raise Violation("nothing leaks", f"objects {sorted(leaked)}")
