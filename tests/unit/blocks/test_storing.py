"""Storing chunks over HTTP: what is kept, what is refused, and that nothing is kept of what is refused."""

import asyncio
import base64
import hashlib
import json
import os
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import upload_bed
from block_bed import HOST, PREFIX, call_of, chunk_form
from upload_bed import hash_of

from moorage.core.errors import OutcomeUnknownError, StoreUnavailableError
from moorage_nodes.blocks.receiving import MAX_CALL_BYTES, decode_base64, has_more_objects
from moorage_nodes.peer_api import MAX_CALL_CHUNKS
from moorage_nodes.tokens import Audience
from moorage_operator.reconcile.servers import StoringReport, parse_registry, parse_storing

LARGEST = 8 * 1024 * 1024


def refused(response, status, word):
    assert (response.status_code, response.json()["error"]) == (status, word), response.text
    return response.json()


def ok(response):
    assert response.status_code == 200, response.text
    return response.json()


async def nothing_is_kept(bed, *parts):
    assert await bed.objects.names() == {}
    for part in parts:
        assert await bed.l1.chunk(part) is None
    assert bed.block.budget.used == 0


async def test_a_thousand_small_chunks_cost_one_put_and_come_back(bed):
    parts = [os.urandom(8) * 512 for _ in range(1000)]
    upload = await bed.begin()
    answer = ok(await bed.http.post("/store_chunk", content=call_of(*parts), headers=bed.uploading(upload)))
    assert [each["chunk_id"] for each in answer["chunks"]] == [hash_of(part) for part in parts]
    assert {(each["size"], each["status"]) for each in answer["chunks"]} == {(4096, "stored")}
    assert len(bed.objects.puts) == 1
    assert list((await bed.objects.names()).values()) == [1000 * 4096]
    for part in parts[::111]:
        response = await bed.http.get(f"/chunks/{hash_of(part)}", headers=bed.access())
        assert response.content == part


async def test_objects_lie_below_their_user_and_upload(bed):
    upload = await bed.begin()
    ok(await bed.http.put("/chunks/a", content=b"one", headers=bed.uploading(upload)))
    (name,) = bed.objects.puts
    assert name.startswith(f"{upload_bed.NAMESPACE}/{upload}/")


@pytest.mark.parametrize("name", ["chunk_1", None])
async def test_of_a_call_with_a_wrong_hash_nothing_is_kept_and_each_chunk_says_why(bed, name):
    upload = await bed.begin()
    good, bad = b"good bytes", b"bad bytes"
    body = [chunk_form(good, name), chunk_form(bad, "bad", metadata={"hash": hash_of(b"others")})]
    answer = refused(
        await bed.http.post("/store_chunk", json=body, headers=bed.uploading(upload)), 422, "hash_mismatch"
    )
    assert [(each["chunk_id"], each["status"], each["hash"]) for each in answer["chunks"]] == [
        (name or hash_of(good), "not_stored", hash_of(good)),
        ("bad", "hash_mismatch", hash_of(bad)),
    ]
    await nothing_is_kept(bed, good, bad)
    assert await bed.l1.stored_keys(upload) == 0


async def test_an_id_that_looks_like_a_hash_must_be_that_of_the_bytes(bed):
    upload = await bed.begin()
    lie = hash_of(b"something else")
    headers = bed.uploading(upload)
    refused(
        await bed.http.post("/store_chunk", json=[chunk_form(b"bytes", lie)], headers=headers),
        422,
        "hash_mismatch",
    )
    refused(await bed.http.put(f"/chunks/{lie}", content=b"bytes", headers=headers), 422, "hash_mismatch")
    await nothing_is_kept(bed, b"bytes")


async def test_the_same_bytes_twice_in_a_call_are_stored_once_under_both_names(bed):
    upload = await bed.begin()
    body = [chunk_form(b"same", "one"), chunk_form(b"same", "two"), chunk_form(b"same", "one")]
    ok(await bed.http.post("/store_chunk", json=body, headers=bed.uploading(upload)))
    assert list((await bed.objects.names()).values()) == [4]
    assert await bed.l1.commit(upload, "f", 1, ["two", "one"]) == 1
    assert (await bed.http.get("/files/f/content", headers=bed.access())).content == b"samesame"


async def test_one_name_for_different_bytes_in_a_call_is_refused(bed):
    upload = await bed.begin()
    body = [chunk_form(b"first", "one"), chunk_form(b"second", "one")]
    answer = refused(
        await bed.http.post("/store_chunk", json=body, headers=bed.uploading(upload)), 422, "invalid_field"
    )
    assert answer["field"] == "$[1].chunk_id"
    await nothing_is_kept(bed, b"first", b"second")


GOOD = chunk_form(b"good", "good")


@pytest.mark.parametrize(
    ("body", "status", "word", "field"),
    [
        ("[", 400, "malformed", None),
        ("\xff", 400, "malformed", None),
        ("{}", 422, "invalid_field", "$"),
        ("[]", 422, "invalid_field", "$"),
        ([{"chunk_id": "a"}], 422, "invalid_field", "$[0]"),
        ([GOOD, {**GOOD, "chunk_id": "b", "data": "%%%"}], 422, "invalid_field", "$[1].data"),
        ([{**GOOD, "data": "Z29vZA"}], 422, "invalid_field", "$[0].data"),
        ([{**GOOD, "data": 1234567890}], 422, "invalid_field", "$[0].data"),
        ([{**GOOD, "data": None}], 422, "invalid_field", "$[0].data"),
        ([{**GOOD, "chunk_id": "a/b"}], 422, "invalid_field", "$[0].chunk_id"),
        ([{**GOOD, "chunk_id": ".."}], 422, "invalid_field", "$[0].chunk_id"),
        ([{**GOOD, "metadata": {"hash": "sha256_xyz"}}], 422, "invalid_field", "$[0].metadata.hash"),
        (
            [{**GOOD, "metadata": {"hash": hash_of(b"good"), "size": 5}}],
            422,
            "invalid_field",
            "$[0].metadata.size",
        ),
        ([{**GOOD, "more": 1}], 422, "invalid_field", "$[0]"),
    ],
)
async def test_a_call_that_is_not_right_names_the_field_and_keeps_nothing(bed, body, status, word, field):
    upload = await bed.begin()
    content = body.encode("latin-1") if isinstance(body, str) else json.dumps(body).encode()
    answer = refused(
        await bed.http.post("/store_chunk", content=content, headers=bed.uploading(upload)), status, word
    )
    assert answer.get("field") == field
    await nothing_is_kept(bed, b"good")


async def test_slashes_may_be_escaped_as_some_encoders_do(bed):
    data = b"\xff" * 6
    assert base64.b64encode(data) == b"////////"
    upload = await bed.begin()
    content = json.dumps([chunk_form(data)]).replace("/", "\\/").encode()
    ok(await bed.http.post("/store_chunk", content=content, headers=bed.uploading(upload)))
    assert await bed.l1.chunk(data) is not None


async def test_a_call_of_too_many_chunks_is_refused_before_it_is_decoded(bed):
    upload = await bed.begin()
    body = json.dumps([GOOD] * (MAX_CALL_CHUNKS + 1)).encode()
    assert has_more_objects(body, 2 * MAX_CALL_CHUNKS)
    assert not has_more_objects(json.dumps([GOOD] * MAX_CALL_CHUNKS).encode(), 2 * MAX_CALL_CHUNKS)
    refused(
        await bed.http.post("/store_chunk", content=body, headers=bed.uploading(upload)), 413, "too_large"
    )


async def test_a_chunk_larger_than_allowed_is_refused_in_both_forms(bed):
    upload = await bed.begin()
    data = bytes(LARGEST + 1)
    refused(
        await bed.http.post("/store_chunk", content=call_of(data), headers=bed.uploading(upload)),
        413,
        "too_large",
    )
    refused(await bed.http.put("/chunks/big", content=data, headers=bed.uploading(upload)), 413, "too_large")

    async def without_length():
        for _ in range(9):
            yield bytes(1024 * 1024)

    response = await bed.http.put("/chunks/big", content=without_length(), headers=bed.uploading(upload))
    refused(response, 413, "too_large")
    await nothing_is_kept(bed, data)


@pytest.mark.parametrize("path", ["/store_chunk", "/chunks/big"])
async def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(bed, path):
    upload = await bed.begin()
    method = "POST" if path == "/store_chunk" else "PUT"
    limit = MAX_CALL_BYTES if path == "/store_chunk" else LARGEST
    reader, writer = await connect(bed)
    headers = {**bed.uploading(upload), "Content-Length": str(limit + 1)}
    writer.write(head_of(method, path, headers))
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert b" 413 " in answer.splitlines()[0]
    writer.close()


async def connect(bed):
    url = urlsplit(bed.serving.public)
    return await asyncio.open_connection(url.hostname, url.port)


def head_of(method, path, headers):
    lines = [f"{method} {PREFIX}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("path", ["/store_chunk", "/chunks/cut"])
async def test_of_an_upload_that_breaks_off_nothing_is_kept(bed, path):
    upload = await bed.begin()
    data = os.urandom(200_000)
    body = data if path != "/store_chunk" else call_of(data)
    method = "POST" if path == "/store_chunk" else "PUT"
    _, writer = await connect(bed)
    writer.write(head_of(method, path, {**bed.uploading(upload), "Content-Length": str(len(body))}))
    writer.write(body[: len(body) // 2])
    await writer.drain()
    await until(lambda: bed.block.budget.used > 0)
    writer.close()
    await until(lambda: bed.block.budget.used == 0)
    await nothing_is_kept(bed, data, data[:100_000])
    assert await bed.l1.stored_keys(upload) == 0


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


async def test_the_hash_of_a_raw_chunk_may_be_announced(bed):
    upload = await bed.begin()
    data, headers = b"raw bytes", bed.uploading(upload)
    for announced, status, word in [
        (hash_of(b"others"), 422, "hash_mismatch"),
        ("sha256_short", 422, "invalid_field"),
        ("md5", 422, "invalid_field"),
    ]:
        response = await bed.http.put(
            "/chunks/raw", content=data, headers={**headers, "X-Chunk-Hash": announced}
        )
        refused(response, status, word)
    await nothing_is_kept(bed, data)
    response = await bed.http.put(
        "/chunks/raw", content=data, headers={**headers, "X-Chunk-Hash": hash_of(data)}
    )
    (stored,) = ok(response)["chunks"]
    assert stored == {"chunk_id": "raw", "hash": hash_of(data), "size": 9, "status": "stored"}


@pytest.mark.parametrize("raw", [True, False])
async def test_an_empty_chunk_needs_no_object(bed, raw):
    upload = await bed.begin()
    if raw:
        ok(await bed.http.put("/chunks/nothing", content=b"", headers=bed.uploading(upload)))
    else:
        ok(
            await bed.http.post(
                "/store_chunk", json=[chunk_form(b"", "nothing")], headers=bed.uploading(upload)
            )
        )
    assert await bed.objects.names() == {}
    assert await bed.l1.commit(upload, "f", 1) == 1
    for path in ("/chunks/nothing", f"/chunks/{hash_of(b'')}", "/files/f/content"):
        response = await bed.http.get(path, headers=bed.access())
        assert (response.status_code, response.content) == (200, b"")
    assert ok(await bed.http.get("/download_chunk/nothing", headers=bed.access())) == {
        "metadata": {"size": 0, "hash": hash_of(b"")},
        "data": "",
    }


async def test_an_upload_that_has_ended_takes_nothing(bed):
    upload = await bed.begin()
    headers = bed.uploading(upload)
    ok(await bed.http.put("/chunks/a", content=b"one", headers=headers))
    await bed.l1.commit(upload, "f", 1)
    refused(await bed.http.put("/chunks/b", content=b"two", headers=headers), 410, "upload_ended")
    refused(
        await bed.http.post("/store_chunk", content=call_of(b"two"), headers=headers), 410, "upload_ended"
    )
    assert await bed.l1.chunk(b"two") is None


@pytest.mark.parametrize("error", [StoreUnavailableError("down"), OutcomeUnknownError("maybe")])
async def test_when_s3_is_away_nothing_is_acknowledged_and_the_same_request_works_later(bed, error):
    upload = await bed.begin()
    body, headers = call_of(b"small", os.urandom(300_000)), bed.uploading(upload)
    bed.objects.put_error = error
    refused(await bed.http.post("/store_chunk", content=body, headers=headers), 503, "store_unavailable")
    assert await bed.l1.stored_keys(upload) == 0
    assert await bed.l1.chunk(b"small") is None
    bed.objects.put_error = None
    ok(await bed.http.post("/store_chunk", content=body, headers=headers))
    assert await bed.l1.stored_keys(upload) == 1


async def test_a_break_between_the_bytes_and_their_record_leaves_garbage_and_a_retry_works(bed, monkeypatch):
    upload = await bed.begin()
    headers = bed.uploading(upload)
    registered = bed.l1.store.transact
    failures = []

    async def break_once(txn):
        if not failures:
            failures.append(txn)
            raise StoreUnavailableError("etcd went away")
        return await registered(txn)

    monkeypatch.setattr(bed.l1.store, "transact", break_once)
    refused(await bed.http.put("/chunks/a", content=b"bytes", headers=headers), 503, "store_unavailable")
    assert len(await bed.objects.names()) == 1
    assert await bed.l1.chunk(b"bytes") is None
    ok(await bed.http.put("/chunks/a", content=b"bytes", headers=headers))
    record = await bed.l1.chunk(b"bytes")
    assert f"{upload_bed.NAMESPACE}/{record.object}" == bed.objects.puts[1]
    await bed.l1.commit(upload, "f", 1)
    assert (await bed.http.get("/files/f/content", headers=bed.access())).content == b"bytes"


async def test_with_the_access_token_the_only_open_upload_is_meant(bed):
    refused(await bed.http.put("/chunks/a", content=b"a", headers=bed.access()), 409, "upload_token_required")
    first = await bed.begin("f")
    ok(await bed.http.put("/chunks/a", content=b"a", headers=bed.access()))
    second = await bed.begin("g")
    refused(await bed.http.put("/chunks/b", content=b"b", headers=bed.access()), 409, "upload_token_required")
    named = {**bed.access(), "X-Upload-Token": bed.upload_token(second)}
    ok(await bed.http.put("/chunks/b", content=b"b", headers=named))
    assert [await bed.l1.stored_keys(upload) for upload in (first, second)] == [1, 1]


async def test_an_upload_token_of_somebody_else_is_refused(bed):
    upload = await bed.begin()
    stranger = {**bed.access("stranger"), "X-Upload-Token": bed.upload_token(upload)}
    refused(await bed.http.put("/chunks/a", content=b"a", headers=stranger), 403, "forbidden")
    no_upload_token = {**bed.access(), "X-Upload-Token": bed.access()["Authorization"][7:]}
    refused(await bed.http.put("/chunks/a", content=b"a", headers=no_upload_token), 401, "unauthenticated")
    await nothing_is_kept(bed, b"a")


@pytest.mark.parametrize(("server_key", "servers"), [("c2", ["p2"]), ("c3", ["p2"]), ("unknown", [])])
async def test_a_pool_that_takes_no_bytes_of_a_cluster_names_those_that_do(bed, server_key, servers):
    for headers in (
        bed.uploading("up", server_key=server_key),
        bed.access(server_key=server_key),
    ):
        answer = refused(await bed.http.put("/chunks/a", content=b"a", headers=headers), 421, "wrong_cluster")
        assert answer["block_servers"] == [f"{HOST}/block/{pool}" for pool in servers]
    await nothing_is_kept(bed, b"a")


async def test_nobody_stores_without_a_token_for_it(bed):
    await bed.write("f", [b"bytes"])
    for headers in ({}, await bed.download_token("f"), {"Authorization": "Bearer x.y.z"}):
        refused(await bed.http.put("/chunks/a", content=b"a", headers=headers), 401, "unauthenticated")
        refused(
            await bed.http.post("/store_chunk", content=call_of(b"a"), headers=headers),
            401,
            "unauthenticated",
        )


async def test_many_uploads_at_once_hold_no_more_than_the_budget(bed):
    upload = await bed.begin()
    headers = bed.uploading(upload)
    parts = [os.urandom(16) * (LARGEST // 16) for _ in range(3)]
    peak = 0

    async def watch():
        nonlocal peak
        while True:
            peak = max(peak, bed.block.budget.used)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    answers = await asyncio.gather(
        *(bed.http.put(f"/chunks/{n}", content=parts[n % 3], headers=headers) for n in range(12))
    )
    watching.cancel()
    assert [answer.status_code for answer in answers] == [200] * 12
    assert LARGEST < peak <= 64 * 1024 * 1024 + LARGEST
    assert bed.block.budget.used == 0


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 1000, 100_000])
def test_base64_is_decoded_to_the_bytes_it_stands_for(size):
    data = hashlib.shake_128(b"seed").digest(size)
    raw = json.dumps(base64.b64encode(data).decode()).encode()
    assert decode_base64(raw, "data") == data


def operator_headers(bed):
    token = bed.realm.signer("operator").sign(Audience.OPERATOR, "operator", 60)
    return {"Authorization": f"Bearer {token}"}


async def storing_of(bed):
    """As the operator reads it."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{bed.serving.internal}/status", headers=operator_headers(bed))
    return parse_storing(answer.content)


async def test_the_operator_hears_of_which_clusters_new_bytes_are_taken_and_of_what_is_under_way(
    bed, monkeypatch
):
    # c3 has this pool to read from, c2 not at all.
    assert await storing_of(bed) == StoringReport(frozenset({"c1"}), 1)
    upload, go_on = await bed.begin(), asyncio.Event()
    table = bed.block.access._routing.value

    async def body():
        yield b"first "
        await go_on.wait()
        yield b"second"

    under_way = asyncio.create_task(bed.http.put("/chunks/a", content=body(), headers=bed.uploading(upload)))
    while not bed.block.access._storing:
        await asyncio.sleep(0.01)
    shut = [msgspec.structs.replace(one, write_pools=()) for one in table.clusters]
    changed = msgspec.structs.replace(table, clusters=tuple(shut))
    monkeypatch.setattr(bed.block.access._routing, "value", changed)
    # Nothing new, but what was let in goes on, and is told of until it has ended.
    refused(
        await bed.http.put("/chunks/b", content=b"b", headers=bed.uploading(upload)), 421, "wrong_cluster"
    )
    assert await storing_of(bed) == StoringReport(frozenset({"c1"}), 1)
    go_on.set()
    ok(await under_way)
    assert await storing_of(bed) == StoringReport(frozenset(), 1)
    async with httpx.AsyncClient() as client:
        refused(await client.get(f"{bed.serving.internal}/status"), 401, "unauthenticated")
        answer = await client.get(f"{bed.l3_serving.internal}/status", headers=operator_headers(bed))
    told = parse_registry(answer.content)
    assert (told.began, told.left) == (0, None)
    assert told.revision > 0
