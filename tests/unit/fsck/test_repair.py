"""What `--repair` does on real etcd and S3: only what is provably safe, once, and nothing where it is right already."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from upload_bed import INCARNATION, digest_of, hash_of

from moorage.core.errors import NameTakenError
from moorage.core.ids import root_id
from moorage_nodes.fsck.findings import KINDS, Finding
from moorage_nodes.fsck.pools import DirectPool
from moorage_nodes.fsck.repair import Repairs
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import CHUNK_DAMAGED, Child, Head, Node, Trash, Work


@pytest.fixture
async def hurt(patient):
    await patient.bed.l1.mkdir("dir", "/dir", root_id(patient.namespace))
    await patient.bed.write("f", [b"one"])
    await patient.bed.write("g", [b"two"])
    await patient.bed.l1.delete("g", 1)
    return patient


def repairs_of(patient) -> Repairs:
    return Repairs(patient.store, {"p1": DirectPool(patient.bed.objects)}, INCARNATION.encode())


def child_of(patient, name: str) -> bytes:
    return keys.child(patient.namespace, root_id(patient.namespace), name)


async def findings_of(patient, *, deep: bool = False) -> list[Finding]:
    listed = (await patient.check(deep=deep)).findings.listed
    return [finding for finding in listed if KINDS[finding.kind].level == "finding"]


async def all_state(patient) -> dict[bytes, bytes]:
    return {kv.key: kv.value for letter in "cijmdtkusx" for kv in await patient.keys(letter)}


async def lose_child(patient):
    await patient.delete(child_of(patient, "f"))


async def ghost_child(patient):
    await patient.put(child_of(patient, "ghost"), Child(1, 1, "nobody"))


async def second_child(patient):
    await patient.put(child_of(patient, "second"), Child(1, 1, "f"))


async def lose_work(patient):
    (deletion,) = await patient.keys("d")
    await patient.delete(keys.work(patient.namespace, deletion.key.rpartition(b"/")[2].decode()))


async def ghost_work(patient):
    await patient.put(keys.work(patient.namespace, "nobody"), Work(1))


async def ghost_parked(patient):
    await patient.put(keys.parked(patient.namespace, "nobody"), Work(1))


async def ghost_trash(patient):
    await patient.put(keys.trash(patient.namespace, "f"), Trash(1, 1, 0))


@pytest.mark.parametrize(
    "harm",
    [lose_child, ghost_child, second_child, lose_work, ghost_work, ghost_parked, ghost_trash],
    ids=lambda f: f.__name__,
)
async def test_a_repair_brings_back_what_was_and_nothing_else(hurt, harm):
    before = await all_state(hurt)
    work = (await hurt.store.range(*keys.work_range()))[0].kvs
    await harm(hurt)
    (finding,) = await findings_of(hurt)
    assert KINDS[finding.kind].repair
    head = records.decode(Head, (await hurt.store.get(keys.head(hurt.namespace))).value)
    assert await repairs_of(hurt).repair(finding)
    assert await findings_of(hurt) == []
    assert await all_state(hurt) == before
    assert {kv.key for kv in (await hurt.store.range(*keys.work_range()))[0].kvs} == {kv.key for kv in work}
    moved = records.decode(Head, (await hurt.store.get(keys.head(hurt.namespace))).value)
    assert (moved.sequence, moved.generation) == (head.sequence, head.generation + 1)
    # Again, late: there is nothing to do, and nothing is done.
    assert not await repairs_of(hurt).repair(finding)
    assert await all_state(hurt) == before


async def test_a_lost_child_is_not_put_over_another_that_took_the_name(hurt):
    await lose_child(hurt)
    (finding,) = await findings_of(hurt)
    await hurt.put(child_of(hurt, "f"), Child(1, 1, "other"))
    assert not await repairs_of(hurt).repair(finding)
    kv = await hurt.store.get(child_of(hurt, "f"))
    assert records.decode(Child, kv.value).id == "other"


async def test_a_lost_child_of_a_directory_that_is_gone_is_left_to_a_person(hurt):
    await hurt.change(Node, keys.node(hurt.namespace, "f"), parent="nowhere")
    await lose_child(hurt)
    kinds = {finding.kind: finding for finding in await findings_of(hurt)}
    assert {"child_missing", "parent_missing"} <= kinds.keys()
    assert not await repairs_of(hurt).repair(kinds["child_missing"])


async def test_servers_see_a_repair_at_once(hurt):
    """A server that has cached the absence of the entry forgets it, because the head's generation moves."""
    await lose_child(hurt)
    l1 = hurt.bed.l1
    l1.engine._known.drop(hurt.namespace)  # the harm was done past every server
    assert await l1.begin("new", parent=root_id(hurt.namespace), name="f")
    (finding,) = [each for each in await findings_of(hurt) if each.kind == "child_missing"]
    assert await repairs_of(hurt).repair(finding)
    with pytest.raises(NameTakenError):
        await l1.begin("newer", parent=root_id(hurt.namespace), name="f")


async def test_lost_bytes_are_marked_and_bytes_that_are_right_are_not(hurt):
    name = await hurt.object_of(b"one")
    await hurt.overwrite(name, b"0ne")
    (finding,) = await findings_of(hurt, deep=True)
    assert (finding.kind, finding.subject) == ("bytes_differ", hash_of(b"one"))
    await hurt.overwrite(name, b"one")
    assert not await repairs_of(hurt).repair(finding)
    await hurt.overwrite(name, b"0ne")
    assert await repairs_of(hurt).repair(finding)
    kv = await hurt.store.get(keys.chunk(hurt.namespace, digest_of(b"one")))
    assert records.decode(records.Chunk, kv.value).state == CHUNK_DAMAGED
    assert not await repairs_of(hurt).repair(finding)


async def test_repairs_beside_writers_end(hurt):
    """Each is tried again when a writer was first."""
    await ghost_child(hurt)
    (finding,) = await findings_of(hurt)

    async def write() -> None:
        for version in range(1, 15):
            await hurt.bed.write("f", [b"%d" % version], version)

    done, _ = await asyncio.gather(repairs_of(hurt).repair(finding), write())
    assert done
    assert await findings_of(hurt) == []


def test_every_kind_says_what_it_means_and_what_to_do():
    for kind in KINDS.values():
        assert kind.meaning.endswith(".")
        assert kind.remedy.endswith((".", "chunk."))
    assert {word for word, kind in KINDS.items() if kind.repair} == repairs_of_nobody()


def repairs_of_nobody() -> frozenset[str]:
    return Repairs(msgspec.UNSET, {}, b"").kinds


def test_every_kind_stands_in_the_documents():
    text = (Path(__file__).parents[3] / "docs" / "fsck.md").read_text()
    for kind in KINDS.values():
        told = [kind.meaning, kind.remedy] + ([kind.repair] if kind.level == "finding" else [])
        assert f"| `{kind.word}` | {' | '.join(told)} |" in text
