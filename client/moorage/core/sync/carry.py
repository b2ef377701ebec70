"""From what shall become of each node to the steps: here first, then there, then what only the memory needs.

The order between the sides matters to an interruption. A move here that follows the server is recorded at once. A
conflict copy has its own name before the server's file comes to the old one, and before it is uploaded.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from moorage.core.sync import steps
from moorage.core.sync.names import name_key, stored_name, temporary_name
from moorage.core.sync.order import Operation, Side, Verb, order_operations
from moorage.core.sync.pairing import Fate, Pair, Pairing
from moorage.core.sync.steps import AnyStep, Problem, ProblemKind, Reason, SyncPlan
from moorage.core.sync.trees import Kind, LocalPath, SyncedNode, SyncedTree


class Carrier:
    """Carries the decisions out on models of both sides and writes down each step as it becomes possible."""

    def __init__(self, pairing: Pairing, synced: SyncedTree) -> None:
        self._pairing = pairing
        self._pairs = pairing.pairs
        self._synced = synced
        self._memory = {
            key: pair.base for key, pair in self._pairs.items() if pair.base is not None and pair.ref == key
        }
        self._here = Side(pairing.root, pairing.fold)
        self._there = Side(pairing.root, lambda name: name_key(name, folds_case=False))
        # Contents that both sides have, as (version, hash); a directory has none to differ in.
        self._agreed: dict[str, tuple[int, str]] = {}
        for key, pair in self._pairs.items():
            if pair.entry is not None:
                self._here.put(key, pair.local_parent, pair.spelled)
            if pair.remote is not None:
                self._there.put(key, pair.remote.parent, pair.remote.name)
            if pair.kind is Kind.DIRECTORY:
                self._agreed[key] = 0, ""
            elif pair.fate is Fate.KEEP and pair.entry is not None and pair.remote is not None:
                self._agreed[key] = pair.remote.version, pair.entry.hash
        self._steps: list[AnyStep] = []

    def plan(self) -> SyncPlan:
        ready = [(key, pair) for key, pair in self._pairs.items() if not pair.held]
        impossible = self._order(self._here, self._operations_here(ready), self._change_here)
        for key, pair in ready:
            if pair.fate is Fate.REPLACE_HERE:
                self._download(key, pair)
        waits = frozenset(impossible)
        possible = [(key, pair) for key, pair in ready if key not in waits]
        impossible += self._order(self._there, self._operations_there(possible), self._change_there)
        for key, pair in ready:
            if pair.fate is Fate.REPLACE_THERE:
                self._upload(key, pair)
        self._settle_memory(ready)
        undecided = sorted(key for key, pair in self._pairs.items() if pair.undecided)
        return SyncPlan(tuple(self._steps), self._problems(dict.fromkeys(impossible)), tuple(undecided))

    # --- what has to be done on each side

    def _operations_here(self, ready: list[tuple[str, Pair]]) -> Iterator[Operation]:
        for key, pair in ready:
            if pair.fate is Fate.DELETE_HERE:
                yield Operation(Verb.DELETE, key)
            elif pair.entry is None:
                if pair.fate is Fate.MAKE_HERE:
                    yield Operation(Verb.MAKE, key, pair.parent, pair.name)
            elif pair.is_copy or (pair.local_parent, stored_name(pair.spelled)) != (pair.parent, pair.name):
                yield Operation(Verb.MOVE, key, pair.parent, pair.name)

    def _operations_there(self, ready: list[tuple[str, Pair]]) -> Iterator[Operation]:
        for key, pair in ready:
            if pair.fate is Fate.DELETE_THERE:
                yield Operation(Verb.DELETE, key)
            elif pair.remote is None:
                if pair.fate is Fate.MAKE_THERE and key in self._here.places:
                    yield Operation(Verb.MAKE, key, pair.parent, pair.name)
            elif (pair.remote.parent, pair.remote.name) != (pair.parent, pair.name):
                yield Operation(Verb.MOVE, key, pair.parent, pair.name)

    def _order(
        self, side: Side, operations: Iterator[Operation], change: Callable[[Operation, bool], None]
    ) -> list[str]:
        """From the bottom up what goes, then from the top down what comes: so few have to wait."""

        def turn(operation: Operation) -> tuple[bool, int, str, str]:
            going = operation.verb is Verb.DELETE
            depth = -sum(1 for _ in side.chain(operation.key)) if going else self._depth(operation.parent)
            return not going, depth, operation.name, operation.key

        ordered = sorted(operations, key=turn)
        return order_operations(side, ordered, lambda key: temporary_name(key, self._pairing.device), change)

    def _depth(self, key: str) -> int:
        depth = 0
        while key in self._pairs:
            key, depth = self._pairs[key].parent, depth + 1
        return depth

    # --- the steps

    def _change_here(self, operation: Operation, is_temporary: bool) -> None:
        key, pair = operation.key, self._pairs[operation.key]
        path = self._here.path(key) if key in self._here.places else ()
        self._here.apply(operation)
        if operation.verb is Verb.DELETE:
            self._memory.pop(key, None)
            kept_hash = pair.entry.hash if pair.entry is not None else ""
            self._steps.append(steps.DeleteLocal(key, pair.reason, None, path, pair.kind, kept_hash))
        elif operation.verb is Verb.MAKE and pair.kind is Kind.FILE:
            self._download(key, pair)
        elif operation.verb is Verb.MAKE:
            record = self._record(key)
            self._steps.append(steps.MakeLocalDirectory(pair.ref, pair.reason, record, self._here.path(key)))
        else:
            self._move_here(pair, path, is_temporary=is_temporary)

    def _move_here(self, pair: Pair, path: LocalPath, *, is_temporary: bool) -> None:
        target = self._here.path(pair.key)
        if is_temporary:
            self._steps.append(steps.MoveLocal(pair.ref, Reason.MAKES_WAY, None, path, target))
        elif pair.is_copy:
            forgotten = pair.twin.key if pair.twin is not None else pair.key
            self._memory.pop(forgotten, None)
            self._steps.append(steps.ConflictCopy(forgotten, pair.reason, None, path, target))
        elif pair.name_taken and pair.remote is None and pair.kind is Kind.FILE:
            self._steps.append(steps.ConflictCopy(pair.ref, Reason.NAME_TAKEN, None, path, target))
        else:
            reason = Reason.NAME_TAKEN if pair.name_taken else Reason.MOVED_THERE
            self._steps.append(steps.MoveLocal(pair.ref, reason, self._record(pair.key), path, target))

    def _change_there(self, operation: Operation, is_temporary: bool) -> None:
        key, pair = operation.key, self._pairs[operation.key]
        self._there.apply(operation)
        if operation.verb is Verb.DELETE:
            assert pair.remote is not None
            self._memory.pop(key, None)
            self._steps.append(steps.DeleteRemote(key, pair.reason, None, pair.kind, pair.remote.version))
        elif operation.verb is Verb.MAKE and pair.kind is Kind.FILE:
            self._upload(key, pair)
        elif operation.verb is Verb.MAKE:
            parent, path = self._ref(operation.parent), self._here.path(key)
            self._steps.append(
                steps.MakeRemoteDirectory(
                    pair.ref, pair.reason, self._record(key), parent, operation.name, path
                )
            )
        else:
            reason = Reason.NAME_TAKEN if pair.name_taken else Reason.MOVED_HERE
            reason = Reason.MAKES_WAY if is_temporary else reason
            record = None if is_temporary else self._record(key)
            parent = self._ref(operation.parent)
            self._steps.append(steps.MoveRemote(key, reason, record, parent, operation.name))

    def _download(self, key: str, pair: Pair) -> None:
        assert pair.remote is not None
        known = self._pairing.remote_hash(pair)
        self._agreed[key] = pair.remote.version, known or ""
        replaces = pair.entry.hash if pair.entry is not None else None
        record, path = self._record(key), self._here.path(key)
        self._steps.append(
            steps.Download(key, pair.reason, record, path, pair.remote.version, known, replaces)
        )

    def _upload(self, key: str, pair: Pair) -> None:
        assert pair.entry is not None
        base = pair.remote.version if pair.remote is not None else 0
        self._agreed[key] = base + 1, pair.entry.hash
        parent, name = self._there.places[key]
        self._steps.append(
            steps.Upload(
                pair.ref,
                pair.reason,
                self._record(key),
                self._here.path(key),
                pair.entry.hash,
                base,
                self._ref(parent),
                name,
            )
        )

    # --- the memory

    def _ref(self, key: str) -> str:
        return self._pairs[key].ref if key in self._pairs else key

    def _record(self, key: str) -> SyncedNode | None:
        """What the synced tree is to say now: place and content are each taken over once both sides have them.

        None when that is what it says already, or when a node new to it does not agree in both yet.
        """
        pair, known = self._pairs[key], self._memory.get(key)
        if key not in self._here.places or key not in self._there.places:
            return None
        (parent_here, name_here), (parent, name) = self._here.places[key], self._there.places[key]
        same_place = parent_here == parent and stored_name(name_here) == name
        content = self._agreed.get(key)
        if known is None:
            if not same_place or content is None:
                return None
            record = SyncedNode(self._ref(parent), name, pair.kind, *content)
        else:
            record = known
            if same_place:
                record = replace(record, parent=self._ref(parent), name=name)
            if content is not None:
                record = replace(record, version=content[0], hash=content[1], offered=False)
        if record == known:
            return None
        self._memory[key] = record
        return record

    def _settle_memory(self, ready: list[tuple[str, Pair]]) -> None:
        for key, pair in ready:
            if key in self._here.places and key in self._there.places:
                record = self._record(key)
                if record is not None:
                    path = self._here.path(key)
                    self._steps.append(steps.MarkSynced(pair.ref, Reason.SAME_ON_BOTH_SIDES, record, path))
        for key, pair in ready:
            made_anew = pair.ref != key and not pair.is_copy and key in self._there.places
            if key in self._synced and (pair.fate is Fate.FORGET or made_anew):
                reason = Reason.GONE_ON_BOTH_SIDES if pair.fate is Fate.FORGET else pair.reason
                self._steps.append(steps.Forget(key, reason, None))

    def _problems(self, impossible: Iterable[str]) -> tuple[Problem, ...]:
        """With the paths that things have after the plan: then is when a person looks for them."""
        kinds = {key: pair.problem for key, pair in self._pairs.items() if pair.problem is not None}
        for key in impossible:
            kinds.setdefault(key, ProblemKind.BLOCKED)
        problems = [
            Problem(
                kind,
                self._here.path(key) if key in self._here.places else (),
                None if key.startswith("+") else key,
            )
            for key, kind in kinds.items()
        ]
        problems += [
            Problem(ProblemKind.NOT_IN_A_DIRECTORY, path, None) for path in self._pairing.not_entries
        ]
        return tuple(sorted(problems, key=lambda each: (each.path, each.node or "")))
