"""Reading chunks and files over HTTP: who may read what, ranges, damage, places that change."""

import asyncio
import os
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import upload_bed
from block_bed import HOST, PREFIX, chunk_form
from upload_bed import hash_of

from moorage.core.errors import StoreUnavailableError
from moorage_nodes.blocks.budget import ByteBudget
from moorage_nodes.blocks.runs import RUN_BYTES
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import CHUNK_DAMAGED
from moorage_nodes.stores.contracts import Delete, Put, Txn

LARGE = RUN_BYTES + 200_000


def refused(response, status, word):
    assert (response.status_code, response.json()["error"]) == (status, word), response.text
    return response.json()


async def get(bed, path, **headers):
    return await bed.http.get(path, headers={**bed.access(), **headers})


async def change_record(bed, data, **changes):
    """Write a chunk's record anew; no changes: remove it."""
    key = keys.chunk(upload_bed.NAMESPACE, upload_bed.digest_of(data))
    record = await bed.l1.chunk(data)
    op = Put(key, records.encode(msgspec.structs.replace(record, **changes))) if changes else Delete(key)
    await bed.l1.store.transact(Txn(then=(op,)))


def tamper(bed, name):
    """Turn over one byte of an object, as a bad disk would."""
    held = bed.objects.inner._objects
    held[name] = bytes([held[name][0] ^ 1]) + held[name][1:]


@pytest.fixture
def without_room(bed, monkeypatch):
    """Chunks are streamed, not read whole."""
    monkeypatch.setattr(bed.block, "budget", ByteBudget(1))
    return bed


@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("roomy", [True, False])
async def test_a_chunk_is_read_whole_and_in_ranges(bed, monkeypatch, size, roomy):
    if not roomy:
        monkeypatch.setattr(bed.block, "budget", ByteBudget(1))
    data = os.urandom(size)
    await bed.write("f", [b"first", data])
    path = f"/chunks/{hash_of(data)}"
    whole = await get(bed, path)
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["ETag"] == f'"{hash_of(data)}"'
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Content-Type"] == "application/octet-stream"
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    for asked, first, last in [("0-9", 0, 9), ("990-", 990, size - 1), ("-7", size - 7, size - 1)]:
        part = await get(bed, path, Range=f"bytes={asked}")
        assert (part.status_code, part.content) == (206, data[first : last + 1])
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    beyond = await get(bed, path, Range=f"bytes={size}-")
    refused(beyond, 416, "range_not_satisfiable")
    assert beyond.headers["Content-Range"] == f"bytes */{size}"
    known = await get(bed, path, **{"If-None-Match": whole.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    head = await bed.http.head(path, headers=bed.access())
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(size))
    assert bed.block.budget.used == 0


@pytest.mark.parametrize("size", [1, 2, 3, 1000, LARGE])
async def test_a_chunk_comes_as_base64_with_its_length(bed, size):
    data = os.urandom(size)
    await bed.write("f", [data])
    response = await get(bed, f"/download_chunk/{hash_of(data)}")
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == {
        "metadata": {"size": size, "hash": hash_of(data)},
        "data": chunk_form(data)["data"],
    }


async def test_what_is_not_held_and_what_is_another_users_are_the_same_404(bed):
    await bed.write("f", [b"mine"])
    answers = []
    for user, chunk in [("stranger", b"mine"), ("stranger", b"nobody's"), ("", b"nobody's")]:
        response = await bed.http.get(f"/chunks/{hash_of(chunk)}", headers=bed.access(user))
        answer = refused(response, 404, "not_found")
        answers.append(answer["detail"])
    assert len(set(answers)) == 1
    response = await bed.http.get("/files/f/content", headers=bed.access("stranger"))
    refused(response, 404, "not_found")


async def test_a_download_token_opens_one_version_and_nothing_else(bed):
    await bed.write("shown", [b"one", b"two"])
    await bed.write("hidden", [b"secret"])
    token = await bed.download_token("shown")
    await bed.write("shown", [b"newer"], base=1)
    for part in (b"one", b"two"):
        response = await bed.http.get(f"/chunks/{hash_of(part)}", headers=token)
        assert response.content == part
    content = await bed.http.get("/files/shown/content", headers=token)
    assert content.content == b"onetwo"
    for path in (
        f"/chunks/{hash_of(b'secret')}",
        f"/download_chunk/{hash_of(b'secret')}",
        f"/chunks/{hash_of(b'newer')}",
        "/files/hidden/content",
        "/files/shown/content?version=2",
    ):
        refused(await bed.http.get(path, headers=token), 404, "not_found")


async def test_names_are_those_of_the_version_that_a_download_token_opens(bed):
    await bed.l1.store_chunks(await bed.begin("warm"), {"warm": b"warm"})
    for base, data in enumerate((b"old bytes", b"new bytes")):
        upload = await bed.begin("f", base)
        body = [chunk_form(data, "chunk_1")]
        answer = await bed.http.post("/store_chunk", json=body, headers=bed.uploading(upload))
        assert answer.status_code == 200
        await bed.l1.commit(upload, "f", base + 1, ["chunk_1"])
        if base == 0:
            token = await bed.download_token("f")
    assert (await get(bed, "/chunks/chunk_1")).content == b"new bytes"
    assert (await bed.http.get("/chunks/chunk_1", headers=token)).content == b"old bytes"


async def test_damage_is_answered_with_an_error_and_never_with_bytes(bed):
    data = os.urandom(LARGE)
    await bed.write("f", [data])
    tamper(bed, bed.objects.puts[0])
    for path in (f"/chunks/{hash_of(data)}", f"/download_chunk/{hash_of(data)}"):
        refused(await get(bed, path), 500, "damaged_chunk")
    assert bed.block.budget.used == 0


@pytest.mark.parametrize("asked", ["0-9", "600-", "-7", "300000-300009"])
async def test_a_range_that_is_whole_in_a_damaged_chunk_is_not_given(bed, asked):
    """Only the first byte is wrong, and nobody has marked the chunk."""
    data = os.urandom(LARGE)
    await bed.write("f", [data])
    tamper(bed, bed.objects.puts[0])
    refused(await get(bed, f"/chunks/{hash_of(data)}", Range=f"bytes={asked}"), 500, "damaged_chunk")
    assert bed.block.budget.used == 0


@pytest.mark.parametrize("path", ["/chunks/{hash}", "/files/f/content"])
@pytest.mark.parametrize("asked", ["100-199", "400000-499999"])
async def test_a_range_of_a_damaged_chunk_that_is_streamed_never_looks_complete(without_room, path, asked):
    bed = without_room
    data = os.urandom(LARGE)
    await bed.write("f", [data])
    tamper(bed, bed.objects.puts[0])
    status, length, body = await read_raw(bed, path.format(hash=hash_of(data)), Range=f"bytes={asked}")
    first, last = map(int, asked.split("-"))
    assert (status, length) == (206, last - first + 1)
    assert len(body) < length


async def read_raw(bed, path, **headers):
    """Status line and what came of the body, until the connection ended."""
    url = urlsplit(bed.serving.public)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    head = [f"GET {PREFIX}{path} HTTP/1.1", *(f"{k}: {v}" for k, v in {**bed.access(), **headers}.items())]
    writer.write(("\r\n".join([*head, "Connection: close"]) + "\r\n\r\n").encode())
    answer = await asyncio.wait_for(reader.read(-1), 20)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length")
    )
    return int(head.split()[1]), length, body


async def test_a_damaged_chunk_that_is_streamed_never_looks_complete(without_room):
    bed, data = without_room, os.urandom(LARGE)
    await bed.write("f", [data])
    tamper(bed, bed.objects.puts[0])
    for path in (f"/chunks/{hash_of(data)}", "/files/f/content"):
        status, length, body = await read_raw(bed, path)
        assert (status, length) == (200, LARGE)
        assert len(body) < LARGE


async def test_a_file_that_fails_midway_is_cut_off(bed):
    data = os.urandom(LARGE)
    await bed.write("f", [data, b"tail"])
    bed.objects.put_error, bed.objects.pieces_left = StoreUnavailableError("gone"), 2
    status, length, body = await read_raw(bed, "/files/f/content")
    assert (status, length) == (200, LARGE + 4)
    assert len(body) < LARGE
    assert data.startswith(body)


async def test_a_chunk_that_was_moved_is_found_again(bed):
    small, large = b"small" * 10, os.urandom(LARGE)
    await bed.write("f", [small, large])
    for data in (small, large):  # the places are known now
        assert (await get(bed, f"/chunks/{hash_of(data)}")).content == data
    held = bed.objects.inner._objects
    for number, data in enumerate((small, large)):
        old = (await bed.l1.chunk(data)).object
        del held[f"{upload_bed.NAMESPACE}/{old}"]
        held[f"{upload_bed.NAMESPACE}/moved/c.{number}"] = b"pad" + data
        await change_record(bed, data, object=f"moved/c.{number}", offset=3)
    assert (await get(bed, "/files/f/content")).content == small + large
    for data in (small, large):
        assert (await get(bed, f"/chunks/{hash_of(data)}")).content == data


async def test_a_chunk_whose_bytes_are_lost_is_an_error_of_its_own(bed):
    data = os.urandom(LARGE)
    await bed.write("f", [b"small", data])
    bed.objects.inner._objects.clear()
    for part in (b"small", data):
        refused(await get(bed, f"/chunks/{hash_of(part)}"), 500, "damaged_chunk")
    refused(await get(bed, "/files/f/content"), 500, "damaged_chunk")


async def test_an_object_that_is_too_short_is_damage(bed):
    data = os.urandom(LARGE)
    await bed.write("f", [data])
    held = bed.objects.inner._objects
    held[bed.objects.puts[0]] = data[:1000]
    refused(await get(bed, f"/chunks/{hash_of(data)}"), 500, "damaged_chunk")
    refused(await get(bed, "/files/f/content"), 500, "damaged_chunk")


async def test_a_chunk_marked_as_damaged_is_not_served(bed):
    await bed.write("f", [b"bytes"])
    await change_record(bed, b"bytes", state=CHUNK_DAMAGED)
    refused(await get(bed, f"/chunks/{hash_of(b'bytes')}"), 500, "damaged_chunk")
    refused(await get(bed, "/files/f/content"), 500, "damaged_chunk")


@pytest.mark.parametrize("harm", ["other bytes", "lost"])
@pytest.mark.parametrize("size", [5, LARGE])
async def test_a_chunk_that_was_healed_is_read_also_by_who_remembers_its_old_place(bed, harm, size):
    data = os.urandom(size)
    await bed.write("f", [data])
    assert (await get(bed, f"/chunks/{hash_of(data)}")).content == data  # and its place remembered
    held = bed.objects.inner._objects
    (name,) = bed.objects.puts
    if harm == "lost":
        held.pop(name)
    else:
        held[name] = bytes(size)
    refused(await get(bed, f"/chunks/{hash_of(data)}"), 500, "damaged_chunk")
    await change_record(bed, data, state=CHUNK_DAMAGED)  # as the scrubber does
    await bed.write("g", [data])
    for path in (f"/chunks/{hash_of(data)}", "/files/f/content", "/files/g/content"):
        assert (await get(bed, path)).content == data


async def test_a_streamed_chunk_that_was_healed_is_read_at_the_second_try(bed, without_room):
    data = os.urandom(LARGE)
    await bed.write("f", [data])
    path = f"/chunks/{hash_of(data)}"
    assert (await get(bed, path)).content == data
    bed.objects.inner._objects[bed.objects.puts[0]] = bytes(LARGE)
    await change_record(bed, data, state=CHUNK_DAMAGED)
    await bed.write("g", [data])
    with pytest.raises(httpx.HTTPError):
        await get(bed, path)
    assert (await get(bed, path)).content == data


async def test_a_chunk_that_was_collected_is_not_found(bed):
    await bed.write("f", [b"bytes"])
    assert (await get(bed, f"/chunks/{hash_of(b'bytes')}")).content == b"bytes"
    await change_record(bed, b"bytes")
    bed.objects.inner._objects.pop(bed.objects.puts[0])
    refused(await get(bed, f"/chunks/{hash_of(b'bytes')}"), 404, "not_found")


async def test_a_chunk_of_another_pool_names_its_servers(bed):
    await bed.write("f", [b"elsewhere"])
    await change_record(bed, b"elsewhere", pool="p2")
    for path in (f"/chunks/{hash_of(b'elsewhere')}", "/files/f/content"):
        answer = refused(await get(bed, path), 421, "wrong_cluster")
        assert answer["block_server"] == f"{HOST}/block/p2"


async def test_users_of_a_cluster_that_this_pool_does_not_serve_are_sent_away(bed):
    headers = bed.access(server_key="c2")
    response = await bed.http.get(f"/chunks/{hash_of(b'x')}", headers=headers)
    answer = refused(response, 421, "wrong_cluster")
    assert answer["block_servers"] == [f"{HOST}/block/p2"]


async def test_a_file_of_many_small_chunks_costs_few_reads(bed):
    parts = [os.urandom(16) for _ in range(3000)]
    await bed.write("f", parts)
    bed.objects.reads.clear()
    assert (await get(bed, "/files/f/content")).content == b"".join(parts)
    assert len(bed.objects.reads) <= 4


@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (4, 5), (4, LARGE + 8), (LARGE + 4, LARGE + 14), (3, 2 * LARGE + 3)]
)
async def test_a_range_of_a_file_is_exact_across_chunks(bed, first, last):
    parts = [b"head.", os.urandom(LARGE), b"middle", os.urandom(LARGE), b"tail"]
    await bed.write("f", parts)
    whole = b"".join(parts)
    response = await get(bed, "/files/f/content", Range=f"bytes={first}-{last}")
    assert (response.status_code, response.content) == (206, whole[first : last + 1])
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(whole)}"


async def test_a_file_is_sent_to_be_saved_not_shown(bed):
    await bed.write("f", [b"<script>"])
    response = await get(bed, "/files/f/content")
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Disposition"] == "attachment; filename=\"f\"; filename*=UTF-8''f"
    head = await bed.http.head("/files/f/content", headers=bed.access())
    assert (head.status_code, head.headers["Content-Length"]) == (200, "8")
    assert head.headers["ETag"] == response.headers["ETag"]
    known = await get(bed, "/files/f/content", **{"If-None-Match": response.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")


async def test_an_empty_file_and_an_older_version_are_read(bed):
    await bed.write("f", [b"first"])
    await bed.write("f", [], base=1)
    assert (await get(bed, "/files/f/content")).content == b""
    assert (await get(bed, "/files/f/content?version=1")).content == b"first"
    refused(await get(bed, "/files/f/content?version=3"), 404, "not_found")


async def test_a_deleted_file_is_unreadable_at_once(bed):
    await bed.write("f", [b"bytes"])
    await bed.l1.delete("f", 1)
    refused(await get(bed, "/files/f/content"), 410, "gone")


async def test_a_reader_who_goes_away_lets_go_of_the_store(bed):
    parts = [os.urandom(4 * 1024 * 1024) for _ in range(3)]
    for number, part in enumerate(parts):
        await bed.write(f"part{number}", [part])
    upload = await bed.begin("f")
    await bed.l1.store_chunks(upload, {"warm": b"warm"})
    await bed.l1.commit(upload, "f", 1, [hash_of(part) for part in parts])
    async with bed.http.stream("GET", "/files/f/content", headers=bed.access()) as response:
        assert response.status_code == 200
        assert bed.objects.open_streams > 0
    for _ in range(500):
        if bed.objects.open_streams == 0:
            break
        await asyncio.sleep(0.01)
    assert bed.objects.open_streams == 0
