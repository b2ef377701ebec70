"""In which order one side's directories and names can be changed: each step possible when its turn comes.

A tree is changed into another by deleting, moving and making nodes, where at every moment names are unique, parents
exist, a deleted directory is empty and no directory lies in itself. Steps that wait for others follow them; where
they wait for one another in a ring (two nodes that change names), one of them waits at a temporary name.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Verb(StrEnum):
    DELETE = "delete"
    MOVE = "move"
    MAKE = "make"


@dataclass(frozen=True, slots=True)
class Operation:
    """To be done with `key`; `parent` and `name` are where it shall be (not for DELETE)."""

    verb: Verb
    key: str
    parent: str = ""
    name: str = ""


@dataclass(slots=True)
class Side:
    """A model of one side's tree, by key. `fold` says which names are one name there."""

    root: str
    fold: Callable[[str], str]
    places: dict[str, tuple[str, str]] = field(default_factory=dict)
    _below: dict[str, dict[str, dict[str, None]]] = field(default_factory=lambda: defaultdict(dict))

    def put(self, key: str, parent: str, name: str) -> None:
        self.drop(key)
        self.places[key] = parent, name
        self._below[parent].setdefault(self.fold(name), {})[key] = None

    def drop(self, key: str) -> None:
        parent, name = self.places.pop(key, (None, ""))
        if parent is not None:
            names = self._below[parent]
            del names[self.fold(name)][key]
            if not names[self.fold(name)]:
                del names[self.fold(name)]

    def path(self, key: str) -> tuple[str, ...]:
        return tuple(reversed([self.places[each][1] for each in self.chain(key)]))

    def chain(self, key: str) -> Iterator[str]:
        """`key` and the directories above it, without the root."""
        while key != self.root:
            yield key
            key = self.places[key][0]

    def blockers(self, operation: Operation) -> list[str]:
        """Keys one of which must change before this can be done; empty: now."""
        if operation.verb is Verb.DELETE:
            below = self._below.get(operation.key)
            return [key for keys in list(below.values())[:1] for key in keys][:1] if below else []
        parent = operation.parent
        if parent != self.root and parent not in self.places:
            return [parent]
        others = [
            key for key in self._below[parent].get(self.fold(operation.name), {}) if key != operation.key
        ]
        if others:
            return others[:1]
        if operation.verb is Verb.MOVE and parent != self.root:
            chain = list(self.chain(parent))
            if operation.key in chain:
                return chain[: chain.index(operation.key)]
        return []

    def apply(self, operation: Operation) -> None:
        if operation.verb is Verb.DELETE:
            self.drop(operation.key)
        else:
            self.put(operation.key, operation.parent, operation.name)


def order_operations(
    side: Side,
    operations: Iterable[Operation],
    temporary: Callable[[str], str],
    carry_out: Callable[[Operation, bool], None],
) -> list[str]:
    """Call `carry_out(operation, is_temporary)` for each in a possible order; it must apply it to `side`.

    At most one operation a key. Returns the keys whose operation is impossible for good, because they wait for
    something that is not to change. Each is looked at again only when what it waited for has changed.
    """
    pending = {operation.key: operation for operation in operations}
    queue = deque(pending.values())
    waiting: dict[str, list[Operation]] = defaultdict(list)
    parked: set[str] = set()
    impossible: list[str] = []

    def step(operation: Operation, *, is_temporary: bool) -> None:
        carry_out(operation, is_temporary)
        queue.extend(waiting.pop(operation.key, ()))

    while True:
        while queue:
            operation = queue.popleft()
            if pending.get(operation.key) is not operation:
                continue
            blockers = side.blockers(operation)
            for blocker in blockers:
                waiting[blocker].append(operation)
            if not blockers:
                del pending[operation.key]
                step(operation, is_temporary=False)
        if not pending:
            return impossible
        hopeless, ring = _stuck(side, pending)
        for key in hopeless:
            del pending[key]
            impossible.append(key)
        for key in sorted(ring):
            park = Operation(Verb.MOVE, key, side.root, temporary(key))
            if pending[key].verb is Verb.MOVE and key not in parked and not side.blockers(park):
                parked.add(key)
                step(park, is_temporary=True)
                break
        else:
            for key in ring:
                del pending[key]
                impossible.append(key)


def _stuck(side: Side, pending: dict[str, Operation]) -> tuple[list[str], list[str]]:
    """Of operations that all wait: those that wait for what never comes, and one ring of the others, if any."""
    blockers = {key: side.blockers(operation) for key, operation in pending.items()}
    waiters: dict[str, list[str]] = defaultdict(list)
    hopes = {}
    for key, keys in blockers.items():
        hopes[key] = sum(each in pending for each in keys)
        for each in keys:
            waiters[each].append(key)
    hopeless = [key for key, number in hopes.items() if number == 0]
    for key in hopeless:  # grows on the way
        for waiter in waiters[key]:
            hopes[waiter] -= 1
            if hopes[waiter] == 0:
                hopeless.append(waiter)
    lost = set(hopeless)
    way: list[str] = []
    at = min((each for each in pending if each not in lost), default=None)
    places: dict[str, int] = {}
    while at is not None and at not in places:
        places[at] = len(way)
        way.append(at)
        at = next(each for each in blockers[at] if each in pending and each not in lost)
    return hopeless, way[places[at] :] if at is not None else []
