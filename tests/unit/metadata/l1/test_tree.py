import pytest

from moorage.core.errors import DamagedTreeError
from moorage_nodes.metadata.l1.tree import locate, path_of, should_be_readable
from moorage_nodes.metadata.records import DELETED, LIVE


async def test_a_way_up_that_does_not_lead_to_the_root_is_damage_not_an_endless_walk(tree) -> None:
    await tree.mkdir("c", "/a/b/c")
    await tree.mkfile("f", "/f")
    top = (await tree.names())["a"]
    for parent in ("c", top, "nowhere", "f"):
        await tree.put_record(top, parent=parent)
        with pytest.raises(DamagedTreeError):
            await tree.node("c")


async def test_a_node_is_readable_when_it_and_all_above_it_are_live(tree) -> None:
    await tree.mkfile("f", "/a/b/f")
    top = (await tree.names())["a"]

    async def readable() -> bool:
        return should_be_readable(await tree.read(lambda view: locate(view, "f")))

    assert await readable()
    for node in (top, "f"):
        await tree.put_record(node, state=DELETED)
        assert not await readable()
        await tree.put_record(node, state=LIVE)
        assert await readable()


async def test_a_deleted_node_still_has_its_path(tree) -> None:
    await tree.mkfile("f", "/a/b/f")
    await tree.put_record("f", state=DELETED)
    assert path_of(await tree.read(lambda view: locate(view, "f"))) == "/a/b/f"
