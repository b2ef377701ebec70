"""What a block server does for the collector, over HTTP: for it alone, and within one namespace."""

import os

import httpx
import pytest
import upload_bed
from block_bed import BlockBed
from upload_bed import hash_of

from moorage_nodes.gc.pools import BlockServers
from moorage_nodes.metrics import Metrics
from moorage_nodes.peers import PeerDirectory
from moorage_nodes.settings import Peers
from moorage_nodes.tokens import Audience


@pytest.fixture
async def internal(bed: BlockBed):
    async with httpx.AsyncClient(base_url=bed.serving.internal, timeout=30) as http:
        yield http


@pytest.fixture
def pools(bed: BlockBed):
    """As the collector reaches them."""
    peers = PeerDirectory(Peers(block={"p1": (bed.serving.internal,)}), bed.realm.signer("gc"), Metrics())
    yield BlockServers(peers, "c1", ["p1"])
    peers.close()


def token(bed: BlockBed, role: str, audience: Audience) -> dict[str, str]:
    return {"Authorization": f"Bearer {bed.realm.signer(role).sign(audience, role, 60)}"}


def hard(*objects: str, **changes) -> dict:
    return {
        "namespace": upload_bed.NAMESPACE,
        "server_key": "c1",
        "chunk_ids": [],
        "deletion_mode": "hard",
        "objects": list(objects),
        **changes,
    }


async def names_of(pools: BlockServers) -> dict[str, int]:
    found = [each async for page in pools.list_objects("p1", upload_bed.NAMESPACE) for each in page]
    assert len(found) == len({name for name, _ in found})
    return dict(found)


async def test_objects_are_listed_over_pages_and_deleted(bed, pools):
    for number in range(2300):
        await bed.objects.inner.put(f"{upload_bed.NAMESPACE}/u{number % 7}/call.{number}", b"12")
    await bed.objects.inner.put(f"{upload_bed.NAMESPACE}x/u/call.0", b"another's")
    found = await names_of(pools)
    assert len(found) == 2300
    assert set(found.values()) == {2}
    await pools.delete_objects("p1", upload_bed.NAMESPACE, list(found)[1:])
    await pools.delete_objects("p1", upload_bed.NAMESPACE, list(found)[1:])
    assert list(await names_of(pools)) == list(found)[:1]
    assert bytes(await bed.objects.inner.get(f"{upload_bed.NAMESPACE}x/u/call.0")) == b"another's"


async def test_chunks_are_copied_verified_and_readers_find_them_where_they_are(bed, pools):
    parts = [os.urandom(1000) for _ in range(4)]
    await bed.write("f", parts)
    (old,) = await names_of(pools)
    chunks = [(upload_bed.digest_of(parts[n]), n * 1000, 1000) for n in (3, 1)]
    for _ in range(2):
        await pools.copy_chunks("p1", upload_bed.NAMESPACE, old, "cmine/call.0", chunks)
    assert (await names_of(pools))["cmine/call.0"] == 2000
    data = await bed.objects.inner.get(f"{upload_bed.NAMESPACE}/cmine/call.0")
    assert bytes(data) == parts[3] + parts[1]
    assert bed.block.budget.used == 0


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"chunks": [{"hash": hash_of(b"other"), "offset": 0, "size": 1000}]}, 500, "damaged_chunk"),
        ({"chunks": [{"hash": hash_of(b"other"), "offset": 900, "size": 1000}]}, 500, "damaged_chunk"),
        ({"source": "u/none.0"}, 500, "damaged_chunk"),
        ({"source": "../x"}, 422, "invalid_field"),
        ({"source": "a/b/c"}, 422, "invalid_field"),
        ({"target": "flat"}, 422, "invalid_field"),
        ({"namespace": "a/b"}, 422, "invalid_field"),
        ({"chunks": []}, 422, "invalid_field"),
        (
            {"chunks": [{"hash": hash_of(b"x"), "offset": 0, "size": 8 * 1024 * 1024}] * 2},
            422,
            "invalid_field",
        ),
    ],
)
async def test_a_copy_that_cannot_be_right_is_refused(bed, internal, pools, change, status, word):
    part = os.urandom(1000)
    await bed.write("f", [part])
    (old,) = await names_of(pools)
    body = {
        "namespace": upload_bed.NAMESPACE,
        "source": old,
        "target": "cmine/call.0",
        "chunks": [{"hash": hash_of(part), "offset": 0, "size": 1000}],
        **change,
    }
    answer = await internal.post(
        "/internal/copy_object", json=body, headers=token(bed, "gc", Audience.COLLECTOR)
    )
    assert (answer.status_code, answer.json()["error"]) == (status, word), answer.text
    assert list(await names_of(pools)) == [old]


async def test_hard_is_the_collectors_alone_and_soft_is_not_its(bed, internal):
    await bed.write("f", [b"content"])
    (name,) = await bed.objects.names()
    body = hard(name.partition("/")[2])
    refused = await internal.post(
        "/delete_chunks", json=body, headers=token(bed, "l1", Audience.SERVICE_BLOCK)
    )
    assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
    soft = body | {"deletion_mode": "soft"}
    refused = await internal.post("/delete_chunks", json=soft, headers=token(bed, "gc", Audience.COLLECTOR))
    assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
    for headers in (
        {},
        bed.access(),
        token(bed, "l1", Audience.COLLECTOR),
        token(bed, "gc", Audience.UPLOAD),
    ):
        refused = await internal.post("/delete_chunks", json=body, headers=headers)
        assert refused.status_code == 401, refused.text
    for path in ("/internal/list_objects", "/internal/copy_object"):
        for headers in ({}, bed.access(), token(bed, "l1", Audience.SERVICE_BLOCK)):
            assert (await internal.post(path, json={}, headers=headers)).status_code == 401
    assert list(await bed.objects.names()) == [name]


@pytest.mark.parametrize("name", ["", "x", "/x", "../f/call.0", "a/b/c", "a/..", "a/b\n"])
async def test_only_names_of_objects_are_deleted(bed, internal, name):
    await bed.write("f", [b"content"])
    answer = await internal.post(
        "/delete_chunks", json=hard(name), headers=token(bed, "gc", Audience.COLLECTOR)
    )
    assert answer.status_code == 422, answer.text
    assert len(await bed.objects.names()) == 1
