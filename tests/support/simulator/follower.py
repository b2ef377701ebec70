"""A device's copy of the tree, made from `/changes` alone, held against what the witness saw of the journal."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from moorage.core.sync import Feed, apply_page, parse_entry, start_feed
from moorage.core.sync.feed import Change, ChangesPage, apply_changes
from moorage.core.sync.trees import Kind, State
from moorage.core.wire import ChangeEntry
from moorage_nodes.metadata.l1.changes import parse_cursor
from moorage_nodes.metadata.records import FILE, KIND_NAMES, STATE_NAMES, JournalEntry
from simulator.device import Device
from simulator.network import Answered, Asked
from simulator.witness import Violation

PAGE = 3  # small, so that a snapshot has several


@dataclass
class Follower:
    """`following`: the journal's entries from the one behind `sequence` on are yet to come."""

    device: Device
    feed: Feed = field(init=False)
    resets: int = 0

    def __post_init__(self) -> None:
        self.feed = start_feed(self.device.root)

    async def follow(self) -> bool:
        """Read to the end; False when nobody answers."""
        device = self.device
        op = device.begin("changes", "")
        start = device.world.loop.now()
        expected = len(device.world.witness.journals[device.user])
        while True:
            query = {"limit": str(PAGE)}
            if self.feed.cursor is not None:
                query["cursor"] = self.feed.cursor
            answered = await device.insist(op, "l1", Asked("GET", "/changes", query))
            if answered is None:
                return False
            if answered.status != 200:
                raise Violation("the feed can be followed", f"{op}")
            page, whole = _parse(answered)
            self._check(op, page, start)
            self.feed = apply_page(self.feed, page)
            if page.reset:
                self.resets += 1
                continue
            for directory_id in whole:
                await self._list(op, directory_id)
            if self.feed.complete:
                break
        reached = self._sequence()
        if reached < expected:
            raise Violation("the feed is of the present", f"{op}: ends at {reached}, there were {expected}")
        return True

    def _sequence(self) -> int:
        assert self.feed.cursor is not None
        return parse_cursor(self.feed.cursor, self.device.user).sequence

    def _check(self, op: Any, page: ChangesPage, start: float) -> None:
        """What follows a snapshot is the journal, entry by entry."""
        if page.reset or self.feed.cursor is None:
            return
        cursor = parse_cursor(self.feed.cursor, self.device.user)
        if cursor.revision:
            return
        journal = self.device.world.witness.journals[self.device.user]
        wanted = [
            _of_entry(entry) for _, entry in journal[cursor.sequence : cursor.sequence + len(page.changes)]
        ]
        if wanted != list(page.changes):
            raise Violation("the feed tells the journal", f"{op}: {page.changes} where {wanted} stands")

    async def _list(self, op: Any, directory_id: str) -> None:
        answered = await self.device.insist(op, "l1", Asked("GET", f"/list_directory/{directory_id}"))
        if answered is None or answered.status != 200:
            return  # gone again: the feed will tell
        listing = answered.json()
        found = [
            Change(Kind(kind), each["id"], directory_id, each["name"], each.get("version", 0), State.LIVE)
            for kind, group in (("directory", "directories"), ("file", "files"))
            for each in listing[group]
        ]
        self.feed = Feed(
            apply_changes(self.feed.tree, found),
            self.feed.cursor,
            self.feed.phase,
            self.feed.more,
            self.feed.after_restore,
        )
        for each in found:
            if each.type is Kind.DIRECTORY:
                await self._list(op, each.id)

    def check_converged(self) -> None:
        """Once all is quiet and followed, the copy is the tree."""
        device = self.device
        state = device.world.witness.namespaces.get(device.user)
        if state is None:
            return
        truth = {
            i: (node.parent, node.name, node.version if node.kind == FILE else 0)
            for i, node in state.nodes.items()
            if state.is_readable(i)
        }
        copy = {
            i: (node.parent, node.name, node.version if node.kind is Kind.FILE else 0)
            for i, node in self.feed.tree.live().items()
        }
        if truth != copy:
            wrong = {
                i: (truth.get(i), copy.get(i))
                for i in truth.keys() | copy.keys()
                if truth.get(i) != copy.get(i)
            }
            raise Violation("who was away converges", f"{device.id}: {wrong}")


def _parse(answered: Answered) -> tuple[ChangesPage, list[str]]:
    """The page, and the directories that come with what is below, which is to be listed."""
    body = answered.json()
    if body.get("reset"):
        return ChangesPage(reset=True, reason=body["reason"]), []
    entries = msgspec.convert(body["changes"], list[ChangeEntry])
    changes = tuple(map(parse_entry, entries))
    whole = [
        each.id
        for each in entries
        if (each.node, each.state) == ("directory", "live") and each.type != "create"
    ]
    return ChangesPage(changes, body["cursor"], body["more"]), whole


def _of_entry(entry: JournalEntry) -> Change:
    return Change(
        Kind(KIND_NAMES[entry.kind]),
        entry.id,
        entry.parent,
        entry.name,
        entry.version,
        State(STATE_NAMES[entry.state]),
        created=entry.type == "create",
    )
