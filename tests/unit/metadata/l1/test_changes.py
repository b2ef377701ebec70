"""Whoever follows the feed from its snapshot on has the tree as it is (PROTOCOL.md, Clients and changes)."""

import asyncio
import random
from dataclasses import dataclass, field

import msgspec
import pytest
from upload_bed import INCARNATION, NAMESPACE, Bed

from moorage.core.errors import InvalidFieldError, MoorageError
from moorage.core.wire import ChangesAnswer
from moorage_nodes.lru import Lru
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.changes import Cursor, build_cursor, parse_cursor, read_changes
from moorage_nodes.metadata.l1.directories import Page, plan_get_node, plan_list_directory
from moorage_nodes.metadata.l1.moves import Move, plan_move
from moorage_nodes.stores.contracts import Delete, Txn

ROOT = f"root:{NAMESPACE}"


@dataclass
class Follower:
    """A client that keeps what each entry says of its node: `nodes` by id as (parent, name, version). A directory
    that comes by anything but its making comes with what is below it: that is listed.
    """

    bed: Bed
    limit: int = 3
    cursor: str | None = None
    nodes: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    async def ask(self) -> ChangesAnswer:
        cursor = None if self.cursor is None else parse_cursor(self.cursor, NAMESPACE)
        return await read_changes(self.bed.store, NAMESPACE, INCARNATION, cursor, self.limit)

    async def step(self) -> bool:
        answer = await self.ask()
        assert isinstance(answer.changes, list), answer
        for entry in answer.changes:
            if entry.state == "live":
                is_directory = entry.node == "directory"
                is_known = entry.id in self.nodes or entry.type == "create"
                self.nodes[entry.id] = (entry.parent_dir_id, entry.name, 0 if is_directory else entry.version)
                if is_directory and not is_known:
                    await self._list(entry.id)
            elif entry.id in self.nodes:
                del self.nodes[entry.id]
        self.cursor = answer.cursor
        return answer.more

    async def _list(self, directory_id: str) -> None:
        try:
            answer = await self.bed.engine.read(
                NAMESPACE, lambda view: plan_list_directory(view, directory_id, Page(), Lru(0))
            )
        except MoorageError:
            return  # gone again: a later entry tells
        listing = msgspec.json.decode(answer)
        for each in listing["files"]:
            self.nodes[each["id"]] = (directory_id, each["name"], each["version"])
        for each in listing["directories"]:
            self.nodes[each["id"]] = (directory_id, each["name"], 0)
            await self._list(each["id"])

    async def catch_up(self) -> None:
        while await self.step():
            pass

    def tree(self) -> dict[str, int]:
        """Paths of what can be reached from the root, and versions."""
        return {path: self.nodes[node_id][2] for node_id in self.nodes if (path := self._path(node_id))}

    def _path(self, node_id: str) -> str:
        names: list[str] = []
        while node_id != ROOT:
            if node_id not in self.nodes:
                return ""
            node_id, name, _ = self.nodes[node_id]
            names.append(name)
        return "/" + "/".join(reversed(names))


async def tree_of(bed: Bed, node_ids: list[str]) -> dict[str, int]:
    found = {}
    for node_id in node_ids:
        try:
            node = await bed.engine.read(
                NAMESPACE, lambda view, node_id=node_id: plan_get_node(view, node_id)
            )
        except MoorageError:
            continue
        found[node.path] = node.version if isinstance(node.version, int) else 0
    return found


async def test_a_new_namespace_has_nothing_and_a_cursor(bed):
    follower = Follower(bed)
    answer = await follower.ask()
    assert (answer.changes, answer.more) == ([], False)
    await follower.step()
    await bed.write("f", 0, {"a": b"1"})
    (entry,) = (await follower.ask()).changes
    assert (entry.type, entry.id, entry.parent_dir_id, entry.name) == ("commit", "f", ROOT, "f")
    assert (entry.version, entry.state, entry.node) == (1, "live", "file")


async def test_entries_come_once_and_in_order(bed):
    follower = Follower(bed, limit=2)
    await follower.step()
    await bed.mkdir("d", "/d")
    for number in range(4):
        await bed.write("f", number, {"a": b"%d" % number})
    seen = []
    more = True
    while more:
        answer = await follower.ask()
        seen += [(entry.id, entry.version) for entry in answer.changes]
        more = await follower.step()
    assert seen == [("d", 0), ("f", 1), ("f", 2), ("f", 3), ("f", 4)]
    assert (await follower.ask()).changes == []


async def test_a_snapshot_is_of_one_moment_whatever_happens_meanwhile(bed):
    for number in range(7):
        await bed.write(f"f{number}", 0, {"a": b"1"})
    follower = Follower(bed, limit=3)
    assert await follower.step()
    await bed.delete("f0", 1, end=True)
    await bed.delete("f5", 1, end=True)
    await bed.write("f6", 1, {"a": b"2"})
    await bed.write("a-new-one", 0, {"a": b"1"})
    assert await follower.step()
    assert await follower.step()
    assert follower.tree() == {f"/f{number}": 1 for number in range(7)}
    await follower.catch_up()
    assert follower.tree() == {"/a-new-one": 1, "/f1": 1, "/f2": 1, "/f3": 1, "/f4": 1, "/f6": 2}


async def test_a_snapshot_leaves_out_what_lies_below_a_deleted_directory(bed):
    await bed.mkdir("inner", "/outer/inner")
    await bed.mkdir("other", "/other")
    for node_id, parent in (("below", "inner"), ("beside", "other")):
        begun = await bed.begin(node_id, parent=parent, name=node_id)
        await bed.commit(begun.id, node_id, 1, [])
    outer = (await bed.engine.read(NAMESPACE, lambda view: plan_get_node(view, "inner"))).parent_dir_id
    deleted = await bed.delete_directory(outer)
    for _ in range(2):
        follower = Follower(bed, limit=2)
        await follower.catch_up()
        assert set(follower.nodes) == {"other", "beside"}
        await bed.deletions.advance(NAMESPACE, deleted.notification_id)


@pytest.mark.parametrize("seed", range(12))
async def test_followers_end_with_the_tree_as_it_is(bed, other_bed, seed):
    rng = random.Random(seed)
    directories = [ROOT, *(f"d{number}" for number in range(4))]
    files = [f"f{number}" for number in range(6)]
    followers = [Follower(bed, limit=limit) for limit in (1, 2, 50)]

    async def act() -> None:
        each = rng.choice([bed, other_bed])
        node = rng.choice([*directories[1:], *files])
        parent, name = rng.choice(directories), rng.choice("abcdef")
        kind = rng.choice(["make", "make", "make", "move", "delete", "undelete", "end", "follow"])
        try:
            if kind == "follow":
                await rng.choice(followers).step()
            elif kind == "make" and node in files:
                begun = await each.begin(node, 0, parent=parent, name=name)
                await each.commit(begun.id, node, 1, [])
            elif kind == "make":
                await each.mkdir(node, f"/{name}", parent)
            elif kind == "move":
                move = Move(node, parent, name)
                await each.engine.change(NAMESPACE, lambda view: plan_move(view, move))
            elif kind == "delete" and node in files:
                record = await each.node(node)
                await each.delete(node, record.version if record else 1, end=rng.random() < 0.5)
            elif kind == "delete":
                await each.delete_directory(node, end=rng.random() < 0.5)
            elif kind == "undelete":
                await each.undelete(node, *((parent, name) if rng.random() < 0.5 else ()))
        except MoorageError:
            pass

    for _ in range(40):
        await asyncio.gather(*(act() for _ in range(3)))
    expected = await tree_of(bed, [*directories[1:], *files])
    for follower in [*followers, Follower(bed, limit=4)]:
        await follower.catch_up()
        assert follower.tree() == expected


async def test_a_cursor_older_than_the_feed_is_a_reset(bed):
    follower = Follower(bed)
    await follower.step()
    for number in range(3):
        await bed.write(f"f{number}", 0, {"a": b"1"})
    await bed.store.transact(
        Txn(then=(Delete(keys.journal(NAMESPACE, 1)), Delete(keys.journal(NAMESPACE, 2))))
    )
    answer = await follower.ask()
    assert (answer.reset, answer.reason) == (True, "expired")
    follower.cursor = build_cursor(NAMESPACE, Cursor(INCARNATION, 2))
    assert [entry.id for entry in (await follower.ask()).changes] == ["f2"]
    await bed.store.transact(Txn(then=(Delete(keys.journal(NAMESPACE, 3)),)))
    assert (await follower.ask()).reset is True
    follower.cursor = build_cursor(NAMESPACE, Cursor(INCARNATION, 3))
    assert (await follower.ask()).changes == []


async def test_a_cursor_of_another_incarnation_is_a_reset_with_its_reason(bed):
    await bed.write("f", 0, {"a": b"1"})
    follower = Follower(bed, cursor=build_cursor(NAMESPACE, Cursor("before", 1)))
    answer = await follower.ask()
    assert (answer.reset, answer.reason) == (True, "restored")


async def test_a_snapshot_that_the_store_has_forgotten_is_a_reset(bed):
    for number in range(5):
        await bed.write(f"f{number}", 0, {"a": b"1"})
    follower = Follower(bed, limit=2)
    await follower.step()
    await bed.write("g", 0, {"a": b"1"})
    await bed.store.compact((await bed.store.get(keys.head(NAMESPACE))).mod_revision)
    answer = await follower.ask()
    assert (answer.reset, answer.reason) == (True, "expired")


@pytest.mark.parametrize(
    "cursor", [Cursor(INCARNATION, 99), Cursor(INCARNATION, 1, 10_000_000, "f")], ids=["journal", "snapshot"]
)
async def test_a_cursor_of_the_future_is_forged(bed, cursor):
    await bed.write("f", 0, {"a": b"1"})
    follower = Follower(bed, cursor=build_cursor(NAMESPACE, cursor))
    with pytest.raises(InvalidFieldError):
        await follower.ask()


@pytest.mark.parametrize(
    "text",
    ["", "x", "AAAA", "é", "z" * 2000, build_cursor("another", Cursor(INCARNATION, 1))]
    + [
        build_cursor(NAMESPACE, Cursor(INCARNATION, *place))
        for place in [(-1,), (1 << 60,), (1, -1), (1, 1, "/")]
    ],
)
def test_a_cursor_is_one_that_was_answered_to_this_user(text):
    with pytest.raises(InvalidFieldError):
        parse_cursor(text, NAMESPACE)
