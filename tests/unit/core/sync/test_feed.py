"""The fold of `/changes`: what an entry says of a node, and what it says of all below it."""

from typing import Any

import pytest

from moorage.core.sync import Change, Kind, RemoteTree, State, apply_changes, parse_entry
from moorage.core.wire import ChangeEntry

ROOT = "root:ann"


def directory(node_id: str, parent: str = ROOT, **more: Any) -> Change:
    return Change(Kind.DIRECTORY, node_id, parent, node_id, 0, **{"state": State.LIVE, **more})


def file(node_id: str, parent: str, version: int = 1) -> Change:
    return Change(Kind.FILE, node_id, parent, node_id, version, State.LIVE)


def made(node_id: str, parent: str = ROOT) -> Change:
    return directory(node_id, parent, created=True)


def gone(node_id: str, parent: str = ROOT) -> Change:
    return directory(node_id, parent, state=State.DELETED)


TREE = [made("a"), made("b", "a"), file("f", "a"), file("g", "b"), made("other"), file("h", "other")]


def folded(*pages: list[Change]) -> RemoteTree:
    tree = RemoteTree(ROOT)
    for page in pages:
        once = apply_changes(tree, page)
        assert apply_changes(once, page) == once, "the same page again changes nothing"
        tree = once
    return tree


def test_a_directory_that_comes_back_has_what_lay_below_it():
    assert set(folded(TREE, [gone("a")]).live()) == {"other", "h"}
    assert set(folded(TREE, [gone("a")], [directory("a")]).live()) == {"a", "b", "f", "g", "other", "h"}


def test_a_directory_that_is_made_under_the_id_of_a_forgotten_one_is_empty():
    """Its tombstone has left the server, the client's feed goes on."""
    tree = folded(TREE, [gone("a")], [made("a")])
    assert set(tree.live()) == {"a", "other", "h"}
    assert {"b", "f", "g"}.isdisjoint(tree.nodes)
    later = folded(TREE, [gone("a")], [made("a"), made("b", "a"), file("f", "b", 7)])
    assert set(later.live()) == {"a", "b", "f", "other", "h"}
    assert later.nodes["f"].version == 7


def test_so_is_one_whose_deletion_was_told_of_a_directory_above_it():
    tree = folded(TREE, [gone("a")], [made("b", "other")])
    assert set(tree.live()) == {"b", "other", "h"}
    assert "g" not in tree.nodes
    assert set(folded(TREE, [gone("a")], [made("b", "other")], [made("a")]).live()) == {
        "a",
        "b",
        "other",
        "h",
    }


def test_a_directory_that_is_there_and_told_as_made_once_more_keeps_what_lies_below_it():
    """A snapshot tells of every node so, in any order, and what came meanwhile is told again behind it."""
    shuffled = sorted(TREE, key=lambda change: change.id, reverse=True)
    assert folded(shuffled, TREE).live() == folded(TREE).live()


@pytest.mark.parametrize(("word", "created"), [("create", True), ("undelete", False), ("move", False)])
def test_an_entry_is_parsed_with_whether_it_made_the_node(word: str, created: bool):
    entry = ChangeEntry(
        type=word, id="a", parent_dir_id=ROOT, name="a", version=0, state="live", node="directory"
    )
    assert parse_entry(entry) == directory("a", created=created)
