"""Registering stored chunks: the plan, and the registry over the store in memory."""

import asyncio
import hashlib
import random

import pytest

from moorage.core.errors import (
    HashMismatchError,
    InvalidFieldError,
    NotFoundError,
    StoreUnavailableError,
    UploadEndedError,
)
from moorage.core.ids import format_hash
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l3.registration import TXN_CHUNKS, parse_entry
from moorage_nodes.metadata.l3.registry import Registry
from moorage_nodes.metadata.records import (
    CHUNK_CONDEMNED,
    CHUNK_DAMAGED,
    CHUNK_LIVE,
    CHUNK_SOFT_DELETED,
    Chunk,
    ChunkName,
    Stored,
    Upload,
)
from moorage_nodes.peer_api import RegisteredChunk, RegisterRequest
from moorage_nodes.stores.contracts import Delete, Put, Txn, prefix_end
from moorage_nodes.stores.memory import MemoryStore

INCARNATION = b"first"
NOW = 1_700_000_000


class Direct:
    """Sends every transaction by itself; `before` runs ahead of each."""

    def __init__(self, store):
        self.store = store
        self.before = None
        self.sent = 0

    async def submit(self, txn):
        self.sent += 1
        if self.before is not None:
            await self.before(txn)
        return await self.store.transact(txn)


@pytest.fixture
async def store():
    store = MemoryStore()
    await put(store, keys.INCARNATION, INCARNATION)
    await put(store, keys.upload("u1", "up"), records.encode(Upload(1, "u1", 0, "p", [])))
    return store


@pytest.fixture
def group(store):
    return Direct(store)


@pytest.fixture
def registry(store, group):
    return Registry(store, group, incarnation=INCARNATION, clock=lambda: NOW, rng=random.Random(1))


async def put(store, key, value):
    await store.transact(Txn(then=(Put(key, value),)))


def digest_of(text):
    return hashlib.sha256(text.encode()).digest()


def chunk(name, text, *, call="c1"):
    digest = digest_of(text)
    return RegisteredChunk(
        chunk_id=format_hash(digest) if name is None else name,
        hash=format_hash(digest),
        size=len(text),
        object=f"up/{call}.0",
        offset=0,
    )


def request(*chunks, call="c1", upload="up"):
    return RegisterRequest(namespace="u1", upload=upload, call=call, pool="p", chunks=list(chunks))


async def stored_calls(store):
    start, end = keys.stored_range("u1", "up")
    result, _ = await store.range(start, end, by_create_revision=True)
    return [records.decode(Stored, kv.value) for kv in result.kvs]


async def record_of(store, text):
    kv = await store.get(keys.chunk("u1", digest_of(text)))
    return None if kv is None else records.decode(Chunk, kv.value)


async def test_a_call_is_recorded_with_its_chunks_in_the_order_of_its_array(store, registry):
    await registry.register(request(chunk("chunk_2", "bb"), chunk("chunk_1", "a"), chunk(None, "ccc")))
    (call,) = await stored_calls(store)
    assert call == Stored(
        1,
        NOW * 1000,
        [("chunk_2", digest_of("bb"), 2), ("chunk_1", digest_of("a"), 1), (None, digest_of("ccc"), 3)],
    )
    assert await record_of(store, "ccc") == Chunk(1, 3, "p", "up/c1.0", 0, 3, CHUNK_LIVE)


async def test_one_transaction_is_enough_for_a_small_call(group, registry):
    await registry.register(request(*(chunk(f"n{i}", f"text {i}") for i in range(TXN_CHUNKS))))
    assert group.sent == 1


async def test_the_same_call_again_changes_nothing(store, registry):
    call = request(chunk("chunk_1", "a"))
    await registry.register(call)
    before = await store.get_many([keys.stored("u1", "up", "c1")])
    await registry.register(call)
    after = await store.get_many([keys.stored("u1", "up", "c1")])
    assert (after.found, after.revision) == (before.found, before.revision)


async def test_a_further_call_of_an_upload_is_registered_without_a_look_at_what_stands(
    store, registry, monkeypatch
):
    await registry.register(request(chunk("chunk_1", "a")))
    with monkeypatch.context() as patched:
        patched.setattr(store, "get_many", None)
        await registry.register(request(chunk("chunk_2", "b", call="c2"), call="c2"))
    assert len(await stored_calls(store)) == 2
    await store.transact(Txn(then=(Delete(keys.upload("u1", "up")),)))
    with pytest.raises(UploadEndedError):
        await registry.register(request(chunk("chunk_3", "c", call="c3"), call="c3"))
    assert await record_of(store, "c") is None


async def test_the_same_call_twice_at_once_is_recorded_once(store, registry):
    call = request(chunk("chunk_1", "a"))
    await asyncio.gather(*(registry.register(call) for _ in range(8)))
    assert len(await stored_calls(store)) == 1


async def test_an_upload_that_has_ended_takes_nothing(store, registry):
    await store.transact(Txn(then=(Delete(keys.upload("u1", "up")),)))
    with pytest.raises(UploadEndedError):
        await registry.register(request(chunk("chunk_1", "a")))
    assert await record_of(store, "a") is None


async def test_an_upload_that_ends_in_the_same_instant_takes_nothing(store, registry, group):
    async def end_upload(_txn):
        await store.transact(Txn(then=(Delete(keys.upload("u1", "up")),)))

    group.before = end_upload
    with pytest.raises(UploadEndedError):
        await registry.register(request(chunk("chunk_1", "a")))
    assert await stored_calls(store) == []
    assert await record_of(store, "a") is None


async def test_a_live_chunk_keeps_its_place(store, registry):
    await registry.register(request(chunk("chunk_1", "a")))
    again = RegisteredChunk(
        chunk_id="x", hash=format_hash(digest_of("a")), size=1, object="up/c2.0", offset=0
    )
    await registry.register(request(again, call="c2"))
    assert (await record_of(store, "a")).object == "up/c1.0"
    assert len(await stored_calls(store)) == 2


@pytest.mark.parametrize("state", [CHUNK_CONDEMNED, CHUNK_SOFT_DELETED, CHUNK_DAMAGED])
async def test_a_chunk_that_is_not_live_gets_the_new_place(store, registry, state):
    old = Chunk(1, 1, "p", "old/x.0", 0, 1, state)
    await put(store, keys.chunk("u1", digest_of("a")), records.encode(old))
    await registry.register(request(chunk("chunk_1", "a")))
    assert await record_of(store, "a") == Chunk(1, 1, "p", "up/c1.0", 0, 1, CHUNK_LIVE)


async def test_a_record_that_is_removed_meanwhile_is_written_again(store, registry, group):
    await registry.register(request(chunk("chunk_1", "a")))
    removed = []

    async def remove_once(_txn):
        if not removed:
            removed.append(await store.transact(Txn(then=(Delete(keys.chunk("u1", digest_of("a"))),))))

    group.before = remove_once
    await registry.register(request(chunk("chunk_1", "a", call="c2"), call="c2"))
    assert (await record_of(store, "a")).state == CHUNK_LIVE


async def test_a_call_of_many_chunks_is_one_call_in_order(store, registry):
    texts = [f"text {i}" for i in range(500)]
    await registry.register(request(*(chunk(f"n{i}", text) for i, text in enumerate(texts))))
    (call,) = await stored_calls(store)
    assert [name for name, _, _ in call.entries] == [f"n{i}" for i in range(500)]
    result, _ = await store.range(b"n/u1/k/", prefix_end(b"n/u1/k/"), keys_only=True)
    assert len(result.kvs) == 500


async def test_a_call_of_many_chunks_that_breaks_off_is_not_recorded_and_succeeds_again(
    store, registry, group
):
    chunks = [chunk(f"n{i}", f"text {i}") for i in range(300)]

    async def fail_at_third(_txn):
        if group.sent == 3:
            raise StoreUnavailableError("down")

    group.before = fail_at_third
    with pytest.raises(StoreUnavailableError):
        await registry.register(request(*chunks))
    assert await stored_calls(store) == []
    group.before = None
    await registry.register(request(*chunks))
    assert len((await stored_calls(store))[0].entries) == 300


async def test_calls_on_the_same_chunks_at_once_all_succeed(store, registry):
    calls = [
        RegisterRequest(
            namespace="u1",
            upload="up",
            call=f"call{n}",
            pool="p",
            chunks=[
                RegisteredChunk(
                    chunk_id=f"n{i}",
                    hash=format_hash(digest_of(f"text {i}")),
                    size=6,
                    object=f"up/call{n}.0",
                    offset=0,
                )
                for i in range(5)
            ],
        )
        for n in range(6)
    ]
    await asyncio.gather(*map(registry.register, calls))
    assert len(await stored_calls(store)) == 6
    objects = {(await record_of(store, f"text {i}")).object for i in range(5)}
    assert len(objects) == 1


async def test_a_restored_cluster_takes_no_registration_of_a_server_that_knew_it_before(store, registry):
    await put(store, keys.INCARNATION, b"second")
    with pytest.raises(StoreUnavailableError):
        await registry.register(request(chunk("chunk_1", "a")))
    assert await record_of(store, "a") is None


def test_an_id_that_looks_like_a_hash_must_be_the_hash():
    digest = digest_of("a")
    assert parse_entry(format_hash(digest), digest, 1, "chunk_id") == (None, digest, 1)
    assert parse_entry("chunk_1", digest, 1, "chunk_id") == ("chunk_1", digest, 1)
    with pytest.raises(HashMismatchError):
        parse_entry(format_hash(digest_of("b")), digest, 1, "chunk_id")
    with pytest.raises(InvalidFieldError):
        parse_entry("a/b", digest, 1, "chunk_id")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"object": "other/c1.0"}, "chunks[0].object"),
        ({"object": ""}, "chunks[0].object"),
        ({"hash": "sha256_xyz"}, "chunks[0].hash"),
        ({"chunk_id": ".."}, "chunks[0].chunk_id"),
    ],
)
async def test_a_registration_that_cannot_be_is_refused_with_its_field(registry, changed, field):
    fields = {
        "chunk_id": "n",
        "hash": format_hash(digest_of("a")),
        "size": 1,
        "object": "up/c1.0",
        "offset": 0,
    }
    with pytest.raises(InvalidFieldError) as refused:
        await registry.register(request(RegisteredChunk(**{**fields, **changed})))
    assert refused.value.extra["field"] == field


async def test_one_hash_of_two_sizes_is_refused(registry):
    one = chunk("n", "a")
    other = RegisteredChunk(chunk_id="m", hash=one.hash, size=2, object="up/c1.1", offset=0)
    with pytest.raises(InvalidFieldError):
        await registry.register(request(one, other))


async def test_an_empty_chunk_needs_no_object(store, registry):
    empty = RegisteredChunk(
        chunk_id="n", hash=format_hash(hashlib.sha256().digest()), size=0, object="", offset=0
    )
    await registry.register(request(empty))
    assert await record_of(store, "") == Chunk(1, 0, "p", "", 0, 0, CHUNK_LIVE)


async def test_chunks_are_found_by_hash_and_by_the_name_that_means_them_now(store, registry):
    await registry.register(request(chunk("chunk_1", "a"), chunk("chunk_2", "bb")))
    await put(store, keys.chunk_name("u1", "chunk_1"), records.encode(ChunkName(1, digest_of("bb"))))
    located = await registry.locate(
        "u1", ["chunk_1", format_hash(digest_of("a")), "chunk_2", "sha256_" + "0" * 64]
    )
    assert [None if chunk is None else chunk.hash for chunk in located] == [
        format_hash(digest_of("bb")),
        format_hash(digest_of("a")),
        None,  # stored, but no commit has given it the name
        None,
    ]
    assert (located[0].pool, located[0].object, located[0].size, located[0].state) == (
        "p",
        "up/c1.0",
        2,
        "live",
    )
    with pytest.raises(NotFoundError):
        await registry.find("u2", format_hash(digest_of("a")))


async def test_no_more_than_two_open_uploads_are_told(store, registry):
    assert await registry.open_uploads("u1") == ["up"]
    for name in ("up2", "up3"):
        await put(store, keys.upload("u1", name), records.encode(Upload(1, "u1", 0, "p", [])))
    assert await registry.open_uploads("u1") == ["up", "up2"]
    assert await registry.open_uploads("u2") == []


async def test_no_record_of_a_long_call_names_an_object_of_an_upload_that_has_ended(store, registry, group):
    """Such objects are deleted as soon as no record names them."""

    async def end_upload(_txn):
        await store.transact(Txn(then=(Delete(keys.upload("u1", "up")),)))

    group.before = end_upload
    with pytest.raises(UploadEndedError):
        await registry.register(request(*(chunk(f"n{i}", f"text {i}") for i in range(3 * TXN_CHUNKS))))
    found, _ = await store.range(*keys.kind_range("u1", "k"))
    assert found.kvs == ()


async def test_the_collectors_uploads_are_none_of_the_users(store, registry):
    for name in ("b1", "c1", "c2", "cc", "f1"):
        await put(store, keys.upload("u2", name), records.encode(Upload(1, "", 0, "", [])))
    assert await registry.open_uploads("u2") == ["b1", "f1"]
    assert await registry.open_uploads("u1") == ["up"]
    assert await registry.open_uploads("nobody") == []
