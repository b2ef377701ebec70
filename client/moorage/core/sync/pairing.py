"""Which local entry is which node: the first half of the rule.

By the id that the client remembers, if it fits; else by place: what lies where a synced node lay is that node (an
editor's save puts a new file over the old one). What is left over here meets what is left over there when both lie
at one place and are the same: two directories of a name are one, two files of one content are one file.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum

from moorage.core.ids import MAX_PATH_DEPTH
from moorage.core.sync.names import name_key, stored_name, temporary_name
from moorage.core.sync.steps import ProblemKind, Reason
from moorage.core.sync.trees import (
    Kind,
    LocalEntry,
    LocalPath,
    LocalTree,
    RemoteNode,
    RemoteTree,
    SyncedNode,
    SyncedTree,
)

Place = tuple[str, str]  # key of the directory, name


class Fate(StrEnum):
    """What becomes of the content, or of a directory as such. Places are decided apart."""

    KEEP = "keep"
    MAKE_HERE = "make here"
    MAKE_THERE = "make there"
    REPLACE_HERE = "replace here"
    REPLACE_THERE = "replace there"
    DELETE_HERE = "delete here"
    DELETE_THERE = "delete there"
    FORGET = "forget"


@dataclass(eq=False, slots=True)
class Pair:
    """One node on both sides. `key` names it within the plan: its id, or a `+n`; `ref` names it in the steps.

    `spelled` and `local_parent` are where it is here; `parent` and `name` are where it shall be on both sides.
    """

    key: str
    kind: Kind
    ref: str
    base: SyncedNode | None = None
    remote: RemoteNode | None = None
    entry: LocalEntry | None = None
    local_parent: str = ""
    fate: Fate = Fate.KEEP
    reason: Reason = Reason.SAME_ON_BOTH_SIDES
    parent: str = ""
    name: str = ""
    goes_there: bool = False  # moved here alone: the place here is what the server shall have
    held: bool = False  # nothing is done about it, for itself (`problem`, `undecided`) or for what it lies in
    problem: ProblemKind | None = None
    undecided: bool = False
    name_taken: bool = False
    is_copy: bool = False
    twin: "Pair | None" = None  # of a conflict copy: whose copy it is

    @property
    def spelled(self) -> str:
        assert self.entry is not None
        return self.entry.path[-1]


@dataclass(eq=False, slots=True)
class Pairing:
    """All pairs by key, with what both sides' directories hold."""

    root: str
    device: str
    folds_case: bool
    after_restore: bool = False
    pairs: dict[str, Pair] = field(default_factory=dict)
    not_entries: list[LocalPath] = field(default_factory=list)  # of the scan, that make no tree
    made: int = 0

    def fresh(self) -> str:
        self.made += 1
        return f"+{self.made}"

    def fold(self, name: str) -> str:
        return name_key(name, folds_case=self.folds_case)

    def remote_hash(self, pair: Pair) -> str | None:
        """The hash of the content there, as far as it is known without asking. After a restore the same version
        may be other content; of an upload whose answer was not seen, none is known to stand.
        """
        assert pair.remote is not None
        if pair.remote.hash is not None:
            return pair.remote.hash
        base = pair.base
        if base is None or base.offered or self.after_restore or base.version != pair.remote.version:
            return None
        return base.hash

    def is_temporary(self, key: str, name: str) -> bool:
        return name == temporary_name(key, self.device)


def pair_trees(
    local: LocalTree, synced: SyncedTree, remote: RemoteTree, *, after_restore: bool, device: str
) -> Pairing:
    """Total: what cannot be paired is alone, what cannot be synced is held and reported."""
    pairing = Pairing(remote.root, device, local.folds_case, after_restore)
    live = remote.live()
    for key in sorted({*synced, *live} - {remote.root}):
        base, node = synced.get(key), live.get(key)
        if base is not None and base.offered and node is None and not remote.is_gone(key):
            base = None  # the upload never arrived: still new here, and offered under the same id
        if base is not None and node is not None and base.kind is not node.kind:
            base = None  # no server does this; the synced tree was of another store
        kind = node.kind if node else synced[key].kind
        pairing.pairs[key] = Pair(key, kind, key, base, node)
    entries = _usable_entries(local, pairing.not_entries)
    _pair_here(pairing, entries, synced)
    _meet_there(pairing, list(entries.values()))
    return pairing


def _usable_entries(local: LocalTree, left_out: list[LocalPath]) -> dict[LocalPath, LocalEntry]:
    """By path, from the top down, directories that only show in paths put in."""
    entries: dict[LocalPath, LocalEntry] = {}
    for entry in sorted(local.entries, key=lambda each: (len(each.path), each.path)):
        above = [entry.path[:depth] for depth in range(1, len(entry.path))]
        in_a_file = any(path in entries and entries[path].kind is Kind.FILE for path in above)
        if not entry.path or entry.path in entries or in_a_file:
            left_out.append(entry.path)
            continue
        for path in above:
            entries.setdefault(path, LocalEntry(path, Kind.DIRECTORY))
        entries[entry.path] = entry
    return dict(sorted(entries.items(), key=lambda item: (len(item[0]), item[0])))


def _pair_here(pairing: Pairing, entries: dict[LocalPath, LocalEntry], synced: SyncedTree) -> None:
    """Give each local entry its pair: by remembered id, by synced place, else one of its own."""
    claimed = _claims_by_id(pairing, entries, synced)
    by_place: dict[Place, list[str]] = defaultdict(list)
    for node_id, base in synced.items():
        if node_id != pairing.root and pairing.pairs[node_id].kind is base.kind:
            by_place[base.parent, base.name].append(node_id)
    taken = set(claimed.values())
    keys: dict[LocalPath, str] = {(): pairing.root}
    # An exact spelling comes before another spelling of the same name.
    in_order = sorted(
        entries.values(), key=lambda e: (len(e.path), stored_name(e.path[-1]) != e.path[-1], e.path)
    )
    for entry in in_order:
        parent = keys[entry.path[:-1]]
        key = claimed.get(entry.path)
        if key is None:
            here = by_place.get((parent, stored_name(entry.path[-1]) or ""), [])
            fitting = [k for k in here if k not in taken and pairing.pairs[k].kind is entry.kind]
            key = min(fitting, key=lambda k: _doubt(pairing.pairs[k], entry), default=None)
        if key is None:
            key = pairing.fresh()
            pairing.pairs[key] = Pair(key, entry.kind, key)
        taken.add(key)
        keys[entry.path] = key
        pair = pairing.pairs[key]
        pair.entry, pair.local_parent = entry, parent
        problem = _refusal(entry)
        if problem is not None:
            pair.held, pair.problem = True, problem


def _doubt(pair: Pair, entry: LocalEntry) -> tuple[bool, bool, bool, str]:
    """Which of several nodes that are said to lie at one place an entry is: after an interruption, or while a
    problem keeps one from being followed. The one that lives, that is there still, that has this content.
    """
    base, remote = pair.base, pair.remote
    moved = (
        base is not None and remote is not None and (remote.parent, remote.name) != (base.parent, base.name)
    )
    return remote is None, moved, base is None or base.hash != entry.hash, pair.key


def _refusal(entry: LocalEntry) -> ProblemKind | None:
    if stored_name(entry.path[-1]) is None:
        return ProblemKind.NAME_REFUSED
    return ProblemKind.TOO_DEEP if len(entry.path) == MAX_PATH_DEPTH + 1 else None


def _claims_by_id(
    pairing: Pairing, entries: dict[LocalPath, LocalEntry], synced: SyncedTree
) -> dict[LocalPath, str]:
    """Which path holds a remembered id. A copied folder may hold one twice: the one at the old place has it."""
    holders: dict[str, list[LocalEntry]] = defaultdict(list)
    for entry in entries.values():
        known = pairing.pairs.get(entry.node) if entry.node is not None else None
        if known is not None and known.kind is entry.kind:
            holders[known.key].append(entry)
    claims: dict[LocalPath, str] = {}
    for key, candidates in holders.items():
        old = _synced_path(key, synced, pairing.root) if len(candidates) > 1 else None
        chosen = min(candidates, key=lambda e: (tuple(stored_name(n) for n in e.path) != old, e.path))
        claims[chosen.path] = key
    return claims


def _synced_path(key: str, synced: SyncedTree, root: str) -> LocalPath | None:
    names: list[str] = []
    while key != root:
        base = synced.get(key)
        if base is None or len(names) > MAX_PATH_DEPTH:
            return None
        names.append(base.name)
        key = base.parent
    return tuple(reversed(names))


def _meet_there(pairing: Pairing, entries: list[LocalEntry]) -> None:
    """Join what has no node there with what has no entry here, where both lie at one place and are the same."""
    by_entry = {id(pair.entry): pair for pair in pairing.pairs.values() if pair.entry is not None}
    lone: dict[Place, list[Pair]] = defaultdict(list)
    for pair in pairing.pairs.values():
        if pair.remote is not None and pair.entry is None:
            lone[pair.remote.parent, pairing.fold(pair.remote.name)].append(pair)
    joined: dict[str, str] = {}
    for entry in entries:  # from the top down: a directory that met carries what lies in it along
        here = by_entry[id(entry)]
        here.local_parent = joined.get(here.local_parent, here.local_parent)
        if here.remote is not None or here.held:
            continue
        place = here.local_parent, pairing.fold(entry.path[-1])
        candidates = [pair for pair in lone.get(place, []) if pair.entry is None and pair.kind is here.kind]
        if here.kind is Kind.FILE:
            candidates = [pair for pair in candidates if _may_be_same(pairing, here, pair)]
        if not candidates:
            continue
        there = min(candidates, key=lambda p: (p.remote is None or p.remote.name != entry.path[-1], p.key))
        there.entry, there.local_parent = entry, here.local_parent
        here.entry, here.local_parent = None, ""
        joined[here.key] = there.key
        if here.key.startswith("+"):
            del pairing.pairs[here.key]


def _may_be_same(pairing: Pairing, here: Pair, there: Pair) -> bool:
    """Whether the file here has the content of the file there, or may have it while nobody asked for its hash.

    What was only deleted there need not be asked about: it goes, and the new one comes.
    """
    assert here.entry is not None
    theirs = pairing.remote_hash(there)
    unchanged = here.base is not None and here.base.hash == here.entry.hash
    return not unchanged if theirs is None else theirs == here.entry.hash
