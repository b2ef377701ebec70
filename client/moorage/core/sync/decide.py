"""What becomes of each node: contents first, then places, then which directories live on, then names.

The server wins places and names, because other devices see them; the change made here is never dropped for it: a
changed content goes on under a name of its own. A move is no change of content: what was deleted on one side and
only moved on the other goes (and can be had back from the trash).
"""

from collections import defaultdict
from itertools import count

from moorage.core.sync.names import conflict_name, stored_name
from moorage.core.sync.pairing import Fate, Pair, Pairing
from moorage.core.sync.steps import ProblemKind, Reason
from moorage.core.sync.trees import Kind

_DYING = frozenset({Fate.DELETE_HERE, Fate.DELETE_THERE, Fate.FORGET})


def is_dying(pair: Pair) -> bool:
    return pair.fate in _DYING


def decide(pairing: Pairing, *, date: str) -> None:
    """Fill in `fate`, `parent`, `name`, `held` and their reasons. Adds the conflict copies as pairs."""
    for pair in list(pairing.pairs.values()):
        _decide_content(pairing, pair)
    for pair in pairing.pairs.values():
        _decide_place(pairing, pair)
    _break_cycles(pairing)
    _let_directories_live(pairing)
    _give_names(pairing, date)
    _hold_below_held(pairing)


# --- contents -----------------------------------------------------------------------------------------------


def _decide_content(pairing: Pairing, pair: Pair) -> None:
    if pair.entry is not None and pair.remote is not None:
        if pair.kind is Kind.FILE and not pair.held:
            _compare(pairing, pair)
    elif pair.entry is not None:
        _decide_lone_here(pairing, pair)
    elif pair.remote is not None:
        _decide_lone_there(pairing, pair)
    else:
        pair.fate, pair.reason = Fate.FORGET, Reason.GONE_ON_BOTH_SIDES


def _compare(pairing: Pairing, pair: Pair) -> None:
    """A file that is on both sides."""
    assert pair.entry is not None
    assert pair.remote is not None
    base, here, there = pair.base, pair.entry.hash, pairing.remote_hash(pair)
    if there == here:
        return
    unsure = pairing.after_restore or (base is not None and base.offered and there is None)
    if base is not None and not unsure:
        if not _changed_there(pairing, pair):
            pair.fate, pair.reason = Fate.REPLACE_THERE, Reason.CHANGED_HERE
            return
        if here == base.hash:
            pair.fate, pair.reason = Fate.REPLACE_HERE, Reason.CHANGED_THERE
            return
    if there is None:
        pair.held = pair.undecided = True
    elif base is not None and there == base.hash:
        pair.fate, pair.reason = Fate.REPLACE_THERE, Reason.CHANGED_HERE
    elif base is not None and pairing.after_restore and pair.remote.version < base.version:
        # The server fell back behind what it once acknowledged; it keeps its own as an older version.
        pair.fate, pair.reason = Fate.REPLACE_THERE, Reason.OFFERED_AGAIN
    else:
        _split(pairing, pair)


def _changed_there(pairing: Pairing, pair: Pair) -> bool:
    """Whether the content there is another than the synced one; another version of unknown content counts."""
    assert pair.base is not None
    assert pair.remote is not None
    there = pairing.remote_hash(pair)
    return pair.remote.version != pair.base.version if there is None else there != pair.base.hash


def _split(pairing: Pairing, pair: Pair) -> None:
    """Changed on both sides: the file here becomes a new one beside, and the server's comes in its place."""
    key = pairing.fresh()
    pairing.pairs[key] = Pair(
        key,
        Kind.FILE,
        key,
        entry=pair.entry,
        local_parent=pair.local_parent,
        fate=Fate.MAKE_THERE,
        reason=Reason.CHANGED_ON_BOTH_SIDES,
        is_copy=True,
        twin=pair,
    )
    pair.entry, pair.local_parent = None, ""
    pair.fate, pair.reason = Fate.MAKE_HERE, Reason.CHANGED_ON_BOTH_SIDES


def _decide_lone_here(pairing: Pairing, pair: Pair) -> None:
    assert pair.entry is not None
    pair.fate, pair.reason = Fate.MAKE_THERE, Reason.NEW_HERE
    if pair.base is None:
        return
    # Gone there. The old id is never used again: the server would refuse it, and rightly.
    if pairing.after_restore:
        pair.ref, pair.reason = pairing.fresh(), Reason.OFFERED_AGAIN
    elif pair.kind is Kind.FILE and pair.entry.hash != pair.base.hash:
        pair.ref, pair.reason, pair.is_copy = pairing.fresh(), Reason.CHANGED_HERE_GONE_THERE, True
    else:
        pair.fate, pair.reason = Fate.DELETE_HERE, Reason.GONE_THERE


def _decide_lone_there(pairing: Pairing, pair: Pair) -> None:
    pair.fate, pair.reason = Fate.MAKE_HERE, Reason.NEW_THERE
    if pair.base is None:
        return
    if pair.kind is Kind.FILE and _changed_there(pairing, pair):
        pair.reason = Reason.GONE_HERE_CHANGED_THERE
    elif pair.kind is Kind.FILE and pairing.after_restore and pairing.remote_hash(pair) is None:
        pair.held = pair.undecided = True
    else:
        pair.fate, pair.reason = Fate.DELETE_THERE, Reason.GONE_HERE


# --- places -------------------------------------------------------------------------------------------------


def _decide_place(pairing: Pairing, pair: Pair) -> None:
    """Where it shall be on both sides: where one side moved it; where both did, the server's place."""
    here = there = None
    if pair.entry is not None:
        here = pair.local_parent, stored_name(pair.spelled) or pair.spelled
    if pair.remote is not None:
        there = pair.remote.parent, pair.remote.name
    place, base = there or here, pair.base
    if here is not None and base is not None:
        before = base.parent, base.name
        waits_here = pairing.is_temporary(pair.key, here[1])
        if there is None:
            place = (here[0], base.name) if waits_here else here
        elif not pair.held:
            moved_there = there != before and not pairing.is_temporary(pair.key, there[1])
            pair.goes_there = not moved_there and not waits_here and here != there
            place = here if pair.goes_there else there
    if place is not None:
        pair.parent, pair.name = place


def _break_cycles(pairing: Pairing) -> None:
    """Two moves, one on each side, may put two directories into one another: the move made here is undone.

    Each side alone is a tree, so that a ring always holds a node which was moved here.
    """
    done = {pairing.root}
    for start in sorted(key for key, pair in pairing.pairs.items() if pair.kind is Kind.DIRECTORY):
        way: list[str] = []
        key = start
        while key not in done and key in pairing.pairs:
            if key not in way:
                way.append(key)
                key = pairing.pairs[key].parent
                continue
            ring = [pairing.pairs[each] for each in way[way.index(key) :]]
            undone = min((pair for pair in ring if pair.goes_there), key=lambda pair: pair.key)
            assert undone.remote is not None
            undone.goes_there = False
            undone.parent, undone.name = undone.remote.parent, undone.remote.name
            way, key = [], start
        done.update(way)


def _let_directories_live(pairing: Pairing) -> None:
    """A deleted directory lives on while something in it does: it is made anew on the side that deleted it."""
    living = [pair for pair in pairing.pairs.values() if not is_dying(pair) or pair.held]
    while living:
        pair = living.pop()
        parents = {pair.parent}
        if pair.held:  # it stays where it is on each side
            parents |= {pair.local_parent} if pair.entry is not None else set()
            parents |= {pair.remote.parent} if pair.remote is not None else set()
        for parent in sorted(parents):
            directory = pairing.pairs.get(parent)
            if directory is None or not is_dying(directory):
                continue
            if directory.fate is Fate.DELETE_HERE:
                directory.fate, directory.ref = Fate.MAKE_THERE, pairing.fresh()
            else:
                directory.fate = Fate.MAKE_HERE
            directory.reason = Reason.HOLDS_WHAT_IS_KEPT
            living.append(directory)


# --- names --------------------------------------------------------------------------------------------------


def _give_names(pairing: Pairing, date: str) -> None:
    """One name, one node, in each directory: the server's nodes keep theirs, the others give way."""
    siblings: dict[str, list[Pair]] = defaultdict(list)
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)  # who is, or was to be, at a name
    for pair in pairing.pairs.values():
        if pair.entry is not None:
            seen[pair.local_parent, pairing.fold(pair.spelled)].add(pair.key)
        if pair.remote is not None:
            seen[pair.remote.parent, pairing.fold(pair.remote.name)].add(pair.key)
        if not is_dying(pair) and not (pair.held and pair.remote is None):
            siblings[pair.parent].append(pair)
            seen[pair.parent, pairing.fold(pair.name)].add(pair.key)
    for parent, pairs in siblings.items():
        given: dict[str, str] = {}
        for pair in sorted(pairs, key=_precedence):
            if not pair.is_copy and given.setdefault(pairing.fold(pair.name), pair.key) == pair.key:
                continue
            if _stands_there(pair):
                pair.held, pair.problem = True, ProblemKind.NAME_COLLISION
                continue
            pair.name_taken = not pair.is_copy
            for number in count(1):
                name = conflict_name(pair.name, pairing.device, date, number)
                if seen[parent, pairing.fold(name)] <= {pair.key}:
                    break
            pair.name = name
            seen[parent, pairing.fold(name)].add(pair.key)
            given[pairing.fold(name)] = pair.key


def _stands_there(pair: Pair) -> bool:
    return pair.remote is not None and (pair.remote.parent, pair.remote.name) == (pair.parent, pair.name)


def _precedence(pair: Pair) -> tuple[int, bool, bool, str]:
    """Who keeps a name: what stands there, then what was moved here, then what is new here, copies last."""
    here = pair.entry is not None and pair.local_parent == pair.parent and pair.spelled == pair.name
    rank = 0 if _stands_there(pair) else 1 if pair.remote is not None else 3 if pair.is_copy else 2
    return rank, not pair.held, not here, pair.key


def _hold_below_held(pairing: Pairing) -> None:
    """What shall lie in a directory that is left alone is left alone too; a conflict copy and what it is a copy of
    wait together, for until the copy has its own name the server's file would take it.
    """
    below: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairing.pairs.values():
        below[pair.parent].append(pair)
        if pair.twin is not None:
            below[pair.twin.key].append(pair)
            below[pair.key].append(pair.twin)
    held = [pair for pair in pairing.pairs.values() if pair.held]
    while held:
        for pair in below[held.pop().key]:
            if not pair.held:
                pair.held = True
                held.append(pair)
