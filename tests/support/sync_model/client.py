"""A client: a disk, a memory, and the execution of a plan. It asserts what each step promises."""

from dataclasses import dataclass, field, replace
from functools import singledispatchmethod
from typing import Any

from moorage.core.sync import (
    Feed,
    Kind,
    LocalEntry,
    LocalTree,
    SyncedNode,
    SyncPlan,
    apply_page,
    plan_sync,
    start_feed,
    steps,
)
from moorage.core.sync.names import name_key
from sync_model.server import ROOT, Server

Path = tuple[str, ...]


@dataclass(frozen=True)
class Thing:
    kind: Kind
    hash: str = ""
    node: str | None = None


@dataclass
class Client:
    device: str = "laptop"
    remembers: bool = True  # whether a scan finds the ids again (inodes), or only paths
    folds_case: bool = False
    pages: int = 1000
    disk: dict[Path, Thing] = field(default_factory=dict)
    synced: dict[str, SyncedNode] = field(default_factory=dict)
    feed: Feed = field(default_factory=lambda: start_feed(ROOT))
    uploads: list[str] = field(default_factory=list)  # contents sent, for tests that count transfers
    downloads: list[str] = field(default_factory=list)

    # --- syncing

    def scan(self) -> LocalTree:
        entries = [
            LocalEntry(path, thing.kind, thing.hash, thing.node if self.remembers else None)
            for path, thing in self.disk.items()
        ]
        return LocalTree(tuple(entries), folds_case=self.folds_case)

    def fetch(self, server: Server) -> None:
        while True:
            self.feed = apply_page(self.feed, server.changes(self.feed.cursor, self.pages))
            if self.feed.complete:
                return

    def plan(self, server: Server) -> SyncPlan:
        """Ask `/changes`, then for each hash that would decide something."""
        self.fetch(server)
        plan = self.plan_on_feed()
        while plan.undecided:
            asked = {i for i in plan.undecided if self.feed.tree.nodes[i].hash is None}
            assert asked == set(plan.undecided)
            nodes = dict(self.feed.tree.nodes)
            for node_id in plan.undecided:
                nodes[node_id] = replace(nodes[node_id], hash=server.nodes[node_id].hash)
            self.feed = replace(self.feed, tree=replace(self.feed.tree, nodes=nodes))
            plan = self.plan_on_feed()
        return plan

    def plan_on_feed(self) -> SyncPlan:
        return plan_sync(
            self.scan(),
            self.synced,
            self.feed.tree,
            after_restore=self.feed.after_restore,
            device=self.device,
            date="2026-11-03",
        )

    def sync(self, server: Server) -> SyncPlan:
        plan = self.plan(server)
        self.carry_out(plan, server)
        self.feed = self.feed.settled()
        return plan

    def carry_out(
        self, plan: SyncPlan, server: Server, *, stop_after: int | None = None, torn: bool = False
    ) -> None:
        """All steps, or the first `stop_after`; `torn`: of the last one the effect, but not the record."""
        ids: dict[str, str] = {}
        self._received: dict[str, str] = {}
        chosen = plan.steps if stop_after is None else plan.steps[:stop_after]
        for number, step in enumerate(chosen, 1):
            forgets = self._do(step, server, ids)
            if torn and number == len(chosen):
                return
            if forgets:
                self.synced.pop(step.node, None)
            if step.record is not None:
                self._remember(step, ids)

    def _remember(self, step: Any, ids: dict[str, str]) -> None:
        record = replace(step.record, parent=ids.get(step.record.parent, step.record.parent))
        assert not record.parent.startswith("+")
        if record.kind is Kind.FILE and not record.hash:
            record = replace(record, hash=self._received[step.node])
        self.synced[ids.get(step.node, step.node)] = record

    # --- the disk

    def fold(self, path: Path) -> Path:
        return tuple(name_key(name, folds_case=True) for name in path) if self.folds_case else path

    def is_free(self, path: Path) -> bool:
        folded = self.fold(path)
        return all(self.fold(other) != folded for other in self.disk)

    def put(self, path: Path, thing: Thing) -> None:
        assert len(path) == 1 or self.disk[path[:-1]].kind is Kind.DIRECTORY
        assert path in self.disk or self.is_free(path), path
        self.disk[path] = thing

    def rename(self, path: Path, target: Path) -> None:
        assert path in self.disk, path
        assert target[: len(path)] != path
        assert len(target) == 1 or self.disk[target[:-1]].kind is Kind.DIRECTORY
        moving = {each: thing for each, thing in self.disk.items() if each[: len(path)] == path}
        for each in moving:
            del self.disk[each]
        assert self.is_free(target), target
        for each, thing in moving.items():
            self.disk[target + each[len(path) :]] = thing

    def remove(self, path: Path) -> None:
        assert not any(each[: len(path)] == path and each != path for each in self.disk), f"{path} not empty"
        del self.disk[path]

    # --- the steps; each returns whether the memory drops the node

    @singledispatchmethod
    def _do(self, step: Any, server: Server, ids: dict[str, str]) -> bool:
        raise AssertionError(step)

    @_do.register
    def _(self, step: steps.MakeLocalDirectory, server: Server, ids: dict[str, str]) -> bool:
        assert step.path not in self.disk
        self.put(step.path, Thing(Kind.DIRECTORY, "", step.node))
        return False

    @_do.register
    def _(self, step: steps.MoveLocal, server: Server, ids: dict[str, str]) -> bool:
        self.rename(step.path, step.target)
        return False

    @_do.register
    def _(self, step: steps.ConflictCopy, server: Server, ids: dict[str, str]) -> bool:
        if step.path != step.target:
            self.rename(step.path, step.target)
        thing = self.disk[step.target]
        assert thing.kind is Kind.FILE
        self.disk[step.target] = replace(thing, node=None)
        return True

    @_do.register
    def _(self, step: steps.DeleteLocal, server: Server, ids: dict[str, str]) -> bool:
        thing = self.disk[step.path]
        assert (thing.kind, thing.hash) == (step.kind, step.hash)
        self.remove(step.path)
        return True

    @_do.register
    def _(self, step: steps.Download, server: Server, ids: dict[str, str]) -> bool:
        there = self.disk.get(step.path)
        assert (there.hash if there else None) == step.replaces
        content = server.contents[step.node, step.version]
        assert step.hash in {None, content}
        self.downloads.append(content)
        self._received[step.node] = content
        self.put(step.path, Thing(Kind.FILE, content, step.node))
        return False

    @_do.register
    def _(self, step: steps.MakeRemoteDirectory, server: Server, ids: dict[str, str]) -> bool:
        assert self.disk[step.path].kind is Kind.DIRECTORY
        ids[step.node] = self._new_id(step.node, server)
        server.make_directory(ids[step.node], ids.get(step.parent, step.parent), step.name)
        self.disk[step.path] = replace(self.disk[step.path], node=ids[step.node])
        return False

    @_do.register
    def _(self, step: steps.MoveRemote, server: Server, ids: dict[str, str]) -> bool:
        server.move(step.node, ids.get(step.parent, step.parent), step.name)
        return False

    @_do.register
    def _(self, step: steps.DeleteRemote, server: Server, ids: dict[str, str]) -> bool:
        server.delete(step.node, step.version)
        return True

    @_do.register
    def _(self, step: steps.Upload, server: Server, ids: dict[str, str]) -> bool:
        assert self.disk[step.path].hash == step.hash
        parent = ids.get(step.parent, step.parent)
        node_id = step.node
        if step.base_version == 0 and node_id not in server.nodes:
            node_id = ids[step.node] = self._new_id(step.node, server)
            offer = SyncedNode(parent, step.name, Kind.FILE, 1, step.hash, offered=True)
            self.synced[node_id] = offer
        self.disk[step.path] = replace(self.disk[step.path], node=node_id)
        self.uploads.append(step.hash)
        server.commit(node_id, step.base_version, step.hash, parent, step.name)
        return False

    @_do.register
    def _(self, step: steps.MarkSynced, server: Server, ids: dict[str, str]) -> bool:
        self.disk[step.path] = replace(self.disk[step.path], node=ids.get(step.node, step.node))
        return False

    @_do.register
    def _(self, step: steps.Forget, server: Server, ids: dict[str, str]) -> bool:
        return True

    def _new_id(self, node: str, server: Server) -> str:
        return server.fresh_id(f"{self.device}.") if node.startswith("+") else node
