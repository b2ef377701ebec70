import asyncio

import pytest

from moorage.core.errors import IdempotencyKeyReusedError, InvalidFieldError, NameTakenError
from moorage.core.wire import NodeAnswer
from moorage_nodes.metadata.l1.moves import Move, plan_move
from moorage_nodes.metadata.l1.repeats import parse_repeat, plan_once


async def moved(tree, header: str, node_id: str, name: str) -> NodeAnswer:
    request = Move(node_id, tree.root, name)
    repeat = parse_repeat(header, "move", node_id, name)
    return await tree.change(
        plan_once(lambda view: plan_move(view, request), repeat, NodeAnswer), request=repeat.key
    )


async def test_a_repeat_answers_as_the_first_did_though_the_tree_has_changed_since(tree, other) -> None:
    await tree.mkfile("f", "/a")
    first = await moved(tree, "key", "f", "b")
    await tree.move("f", tree.root, "c")
    assert await moved(other, "key", "f", "b") == first
    assert await tree.names() == {"c": "f"}


async def test_the_journal_carries_the_key(tree) -> None:
    await tree.mkfile("f", "/a")
    await moved(tree, "key", "f", "b")
    assert (await tree.journal())[-1].request == parse_repeat("key", "move").key


async def test_repeats_of_one_batch_are_carried_out_once(tree) -> None:
    await tree.mkfile("f", "/a")
    answers = await asyncio.gather(*(moved(tree, "key", "f", "b") for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0].meta_version == 1


async def test_the_same_key_with_other_arguments_is_refused(tree) -> None:
    await tree.mkfile("f", "/a")
    await moved(tree, "key", "f", "b")
    with pytest.raises(IdempotencyKeyReusedError):
        await moved(tree, "key", "f", "c")
    assert await tree.names() == {"b": "f"}


async def test_a_refused_request_is_judged_anew(tree) -> None:
    await tree.mkfile("f", "/a")
    await tree.mkfile("g", "/b")
    with pytest.raises(NameTakenError):
        await moved(tree, "key", "f", "b")
    await tree.move("g", tree.root, "c")
    assert (await moved(tree, "key", "f", "b")).name == "b"


async def test_a_repeat_that_changes_nothing_keeps_its_answer_too(tree) -> None:
    await tree.mkfile("f", "/a")
    first = await moved(tree, "key", "f", "a")
    await tree.move("f", tree.root, "b")
    assert await moved(tree, "key", "f", "a") == first
    assert await tree.names() == {"b": "f"}


def test_arguments_are_told_apart_and_absent_is_not_empty() -> None:
    digests = {
        parse_repeat("k", *arguments).arguments
        for arguments in (("a",), ("a", ""), ("a", None), ("a", "b"), ("ab",), ("a", "b", ""))
    }
    assert len(digests) == 6


@pytest.mark.parametrize("header", ["", "x" * 256, "new\nline", "é"])
def test_a_key_that_is_no_visible_ascii_is_refused(header) -> None:
    with pytest.raises(InvalidFieldError):
        parse_repeat(header, "move")


def test_no_header_is_no_repeat() -> None:
    assert parse_repeat(None, "move", "x") is None
