"""The joins by node: records, children, contents, the trash and the journal of each node say the same. Pure."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from moorage_nodes.fsck.partitions import PARTS
from moorage_nodes.fsck.tables import CHILD, CONTENT, ENTRY, LET_GO, MADE, NODE, RAISED, Tables
from moorage_nodes.metadata.records import DELETED, FILE, LIVE, PENDING_DELETION


@dataclass(slots=True)
class _Part:
    """What one part of the join holds, by node."""

    nodes: dict[str, list[Any]] = field(default_factory=dict)
    children: dict[str, list[list[Any]]] = field(default_factory=lambda: defaultdict(list))
    contents: dict[str, list[list[Any]]] = field(default_factory=lambda: defaultdict(list))
    journal: dict[str, list[Any]] = field(default_factory=dict)  # the newest entry of each
    trash: dict[str, int] = field(default_factory=dict)


def check_tree(tables: Tables) -> Iterator[None]:
    """Tell what is wrong. A generator, so that whoever runs it may breathe between the parts."""
    _check_head(tables)
    _check_deletions(tables)
    let_go = _LetGo(tables)
    rings = find_rings(tables.directories)
    for number in range(PARTS):
        part = _Part()
        for row in tables.nodes.rows(number):
            _sort_in(tables, part, row)
        if part.nodes or part.children or part.contents or part.journal or part.trash:
            _check_part(tables, part, let_go, rings)
            yield


def _sort_in(tables: Tables, part: _Part, row: list[Any]) -> None:
    what, node_id = row[0], row[1]
    if what == NODE:
        part.nodes[node_id] = row
    elif what == CHILD:
        part.children[node_id].append(row)
    elif what == CONTENT:
        part.contents[node_id].append(row)
    elif what == ENTRY:
        _check_rise(tables, part.journal.get(node_id), row)
        part.journal[node_id] = row
    else:
        part.trash[node_id] = row[2]


# --- the journal ---------------------------------------------------------------------------------------------


def _check_head(tables: Tables) -> None:
    head, findings, namespace = tables.head, tables.findings, tables.namespace
    if head is None:
        if tables.last_sequence:
            findings.add("head_wrong", namespace, "h", "There is a journal, but no head.")
    elif tables.last_sequence and head.sequence != tables.last_sequence:
        findings.add(
            "head_wrong",
            namespace,
            "h",
            f"The head stands at entry {head.sequence}, the newest entry is {tables.last_sequence}.",
        )
    reached = head.sequence if head is not None else 0
    for binding, sequence in tables.bound:
        if sequence > reached:
            findings.add(
                "name_wrong", namespace, binding, f"It counts from entry {sequence} on, after {reached}."
            )


def _check_rise(tables: Tables, last: list[Any] | None, row: list[Any]) -> None:
    """Each entry raises its node's version by one, or leaves it."""
    _, node_id, sequence, effect, version = row[:5]
    if last is None:
        right = tables.first_sequence > 1 or version == (0 if effect == MADE else 1)
    elif effect == MADE:
        right = version == 0
    else:
        right = version == last[4] + (effect == RAISED)
        right = right or (last[5] != LIVE and effect == RAISED and version == 1)  # the id began anew
    if not right:
        was = "nothing" if last is None else f"version {last[4]} at entry {last[2]}"
        tables.findings.add(
            "version_order",
            tables.namespace,
            node_id,
            f"Entry {sequence} tells of version {version}, before it was {was}.",
        )


# --- deletions -----------------------------------------------------------------------------------------------


def _check_deletions(tables: Tables) -> None:
    for notification_id, node_id in tables.pending.items():
        if tables.deletions.get(notification_id) != node_id:
            tables.findings.add(
                "deletion_wrong",
                tables.namespace,
                node_id,
                f"It is pending with the deletion {notification_id!r}, which is not under way.",
            )
    for notification_id, node_id in tables.deletions.items():
        if tables.pending.get(notification_id) != node_id:
            tables.findings.add(
                "deletion_wrong",
                tables.namespace,
                notification_id,
                f"The deletion of {node_id!r} is under way, but that is not pending with it.",
            )


class _LetGo:
    """Which directories the trash has let go, or something above them: the collector is at work there."""

    def __init__(self, tables: Tables) -> None:
        self._directories = tables.directories
        self._made = tables.made
        self._known: dict[int, bool] = {hash(tables.root): False}

    def __call__(self, parent: str) -> bool:
        chain: list[int] = []
        at = hash(parent)
        while (known := self._known.get(at)) is None:
            found = self._directories.get(at)
            chain.append(at)
            if found is None or found[1] == LET_GO:
                known = True  # gone already, or going
                break
            if len(chain) > len(self._directories):
                known = False  # a ring, which is told by itself
                break
            at = found[0]
        self._known.update(dict.fromkeys(chain, known))
        return known

    def has_gone_since(self, parent: str, sequence: int) -> bool:
        """Whether what lay in `parent` when the entry `sequence` was written has gone with it, or with something above
        it: also where a new directory has taken the id of one that has gone.
        """
        if self(parent):
            return True
        at = hash(parent)
        for _ in range(len(self._directories)):
            if self._made.get(at, 0) > sequence:
                return True
            if at not in self._directories:
                break
            at = self._directories[at][0]
        return False


# --- nodes ---------------------------------------------------------------------------------------------------


def _check_part(tables: Tables, part: _Part, let_go: _LetGo, rings: set[int]) -> None:
    for node_id, node in part.nodes.items():
        _, _, kind, parent, _, state, _, _, _, _ = node
        gone = let_go(parent) if state == LIVE else (state == DELETED and node_id not in part.trash)
        _check_children(tables, node_id, node, part.children.pop(node_id, []))
        _check_entry(tables, node_id, node, part.journal.pop(node_id, None))
        if rings and hash(node_id) in rings:
            tables.findings.add(
                "tree_cycle", tables.namespace, node_id, f"It lies in {parent!r}, and that in it."
            )
        if state == LIVE and hash(parent) not in tables.directories:
            tables.findings.add(
                "parent_missing", tables.namespace, node_id, f"{parent!r} is no directory that is there."
            )
        contents = part.contents.pop(node_id, [])
        if kind == FILE:
            _check_contents(tables, node_id, node, contents, is_gone=gone)
    _check_left(tables, part, let_go)


def _check_left(tables: Tables, part: _Part, let_go: _LetGo) -> None:
    """What is of no node."""
    findings, namespace = tables.findings, tables.namespace
    for node_id, rows in part.children.items():
        for _, _, parent, name, _ in rows:
            findings.add(
                "child_dangling",
                namespace,
                f"{parent}/{name}",
                f"It leads to {node_id!r}, which is not there.",
            )
    for node_id, rows in part.contents.items():
        for row in rows:
            findings.add("manifest_leftover", namespace, f"{node_id} version {row[2]}")
    for node_id, row in part.journal.items():
        if row[5] == LIVE and not let_go.has_gone_since(row[6], row[2]):
            findings.add(
                "node_missing", namespace, node_id, f"Entry {row[2]} of the feed is the newest about it."
            )
    for node_id in part.trash:
        state = part.nodes[node_id][5] if node_id in part.nodes else None
        if state != DELETED:
            findings.add("trash_wrong", namespace, node_id)


def _check_children(tables: Tables, node_id: str, node: list[Any], rows: list[list[Any]]) -> None:
    _, _, kind, parent, name, state, _, _, _, _ = node
    findings, namespace = tables.findings, tables.namespace
    place = [parent, name, kind]
    right = [row for row in rows if state == LIVE and row[2:5] == place]
    if state == LIVE and not right:
        findings.add(
            "child_missing", namespace, node_id, f"There is no entry for it in {parent!r} as {name!r}."
        )
    for row in rows:
        if row not in right:
            findings.add(
                "child_dangling",
                namespace,
                f"{row[2]}/{row[3]}",
                f"It leads to {node_id!r}, which is not live there.",
            )


def _check_entry(tables: Tables, node_id: str, node: list[Any], row: list[Any] | None) -> None:
    _, _, _, parent, name, state, version, _, _, _ = node
    if row is None:
        if tables.first_sequence == 1:
            tables.findings.add("journal_disagrees", tables.namespace, node_id, "No entry tells of it.")
        return
    _, _, sequence, _, told_version, told_state, told_parent, told_name = row
    # A file below a deleted directory stays live by itself, and is told as pending; once the trash has let go of
    # the directory it is deleted, and nothing is told of it any more.
    same_state = told_state == state or (told_state == PENDING_DELETION and state in {LIVE, DELETED})
    if (told_version, told_parent, told_name) != (version, parent, name) or not same_state:
        tables.findings.add(
            "journal_disagrees",
            tables.namespace,
            node_id,
            f"Entry {sequence} tells of version {told_version} as {told_name!r} in {told_parent!r}; its record "
            f"says version {version}, {name!r} in {parent!r}.",
        )


def _check_contents(
    tables: Tables, file_id: str, node: list[Any], rows: list[list[Any]], *, is_gone: bool
) -> None:
    """Kept versions are those that have content, from the oldest kept to the newest, without a gap."""
    _, _, _, _, _, state, version, size, digest, attrs = node
    findings, namespace = tables.findings, tables.namespace
    newest = version if state == LIVE else version - 1  # a deletion's own version has no content
    kept = {row[2]: row for row in rows}
    for number in kept:
        if number < 1 or number > newest:
            findings.add(
                "manifest_wrong",
                namespace,
                f"{file_id} version {number}",
                f"The file is at version {version}, and none of this number has content.",
            )
    if is_gone:
        return
    if newest > 0 and newest not in kept:
        findings.add(
            "manifest_missing", namespace, f"{file_id} version {newest}", "It is the newest content."
        )
    elif newest > 0 and kept[newest][4:7] != [size, digest, attrs]:
        findings.add(
            "manifest_wrong",
            namespace,
            f"{file_id} version {newest}",
            "Its size, digest or attributes are not those that the file's record has.",
        )
    numbers = sorted(kept)
    for before, after in pairwise(numbers):
        # Between a deletion and its undelete lies the deletion's version, which has no content.
        if after - before > 1 and not (after - before == 2 and kept[after][3]):
            findings.add(
                "manifest_missing",
                namespace,
                f"{file_id} version {after - 1}",
                f"Versions {before} and {after} are kept, and what is between them is not.",
            )


def find_rings(directories: dict[int, tuple[int, int]]) -> set[int]:
    """The directories that lie in one another. Those that lead up to something that is gone are told by itself."""
    settled: set[int] = set()
    rings: set[int] = set()
    for start in directories:
        chain: dict[int, None] = {}
        at = start
        while at not in settled and at not in chain and at in directories:
            chain[at] = None
            at = directories[at][0]
        if at in chain:
            whole = list(chain)
            rings.update(whole[whole.index(at) :])
        settled.update(chain)
    return rings
