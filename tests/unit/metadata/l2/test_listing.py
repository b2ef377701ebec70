"""What L2 answers, over the store in memory: short lists, long ones in segments, pages, names that move on."""

import hashlib
import random

import msgspec
import pytest

from moorage.core.errors import GoneError, InvalidFieldError, NotFoundError
from moorage.core.ids import format_hash
from moorage.core.routing import ClusterRoute
from moorage.core.wire import ChunksAnswer
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.l2.contents import Contents
from moorage_nodes.metadata.l2.listing import Cursor, Listing, ServerNames, format_cursor, parse_cursor
from moorage_nodes.metadata.namespace import Namespaces
from moorage_nodes.metadata.records import (
    DIRECTORY,
    FILE,
    LIVE,
    PENDING_DELETION,
    SEGMENT_ENTRIES,
    Chunk,
    ChunkName,
    Manifest,
    Node,
    Segment,
)
from moorage_nodes.peer_api import MANIFEST_PAGE_CHUNKS, ManifestRequest
from moorage_nodes.stores.contracts import Delete, Put, Txn
from moorage_nodes.stores.memory import MemoryStore

ONE_POOL = ClusterRoute(server_key="k", pools=("p",), write_pools=("p",))
TWO_POOLS = ClusterRoute(server_key="k", pools=("p", "q"), write_pools=("p",))


@pytest.fixture
async def store():
    store = MemoryStore()
    await store.transact(Txn(then=(Put(keys.INCARNATION, b"first"),)))
    return store


@pytest.fixture
def contents(store):
    return Contents(
        store,
        Namespaces(store, None, incarnation=b"first", clock=lambda: 1000.0, rng=random.Random(1)),
    )


@pytest.fixture
def listing(store, contents):
    return Listing(store, contents)


def digest_of(number):
    return hashlib.sha256(str(number).encode()).digest()


async def write(store, pairs):
    for start in range(0, len(pairs), 100):
        part = pairs[start : start + 100]
        await store.transact(
            Txn(
                then=tuple(
                    Put(key, value if isinstance(value, bytes) else records.encode(value))
                    for key, value in part
                )
            )
        )


async def make_file(store, entries, *, version=1, state=LIVE, pool="p", parent="root:u1", kept=True):
    size = sum(size for _, _, size in entries)
    digest = hashlib.sha256(b"".join(digest for _, digest, _ in entries)).digest()
    pairs = [(keys.node("u1", "f"), Node(1, FILE, parent, "f.txt", state, 0, 5, version, size, digest))]
    if kept:
        if len(entries) <= 1024:
            manifest = Manifest(1, size, digest, 5, "up", {}, len(entries), "", list(entries))
        else:
            manifest = Manifest(1, size, digest, 5, "up", {}, len(entries), "up.base")
            pairs += [
                (
                    keys.segment("u1", "up.base", index),
                    Segment(1, list(entries[index * SEGMENT_ENTRIES : (index + 1) * SEGMENT_ENTRIES])),
                )
                for index in range(-(-len(entries) // SEGMENT_ENTRIES))
            ]
        pairs.append((keys.manifest("u1", "f", version), manifest))
    chunks = {digest: size for _, digest, size in entries}
    pairs += [
        (keys.chunk("u1", digest), Chunk(1, size, pool, f"up/c.{place}", 0, size))
        for place, (digest, size) in enumerate(chunks.items())
    ]
    pairs += [
        (keys.chunk_name("u1", name), ChunkName(1, digest)) for name, digest, _ in entries if name is not None
    ]
    pairs.append((keys.head("u1"), records.Head(sequence=version)))
    await write(store, pairs)


def names(cluster=ONE_POOL):
    return ServerNames("h:1", "h:1/meta/k/l3", cluster)


async def answer_of(listing, contents, first=0, limit=None, cluster=ONE_POOL, number=None):
    version = await contents.find("u1", "f", number)
    data = await listing.chunks_answer(version, first, limit, names(cluster), "token")
    return msgspec.json.decode(data, type=ChunksAnswer)


async def test_chunks_come_in_file_order_with_their_place_in_the_file(store, contents, listing):
    await make_file(
        store, [("chunk_2", digest_of(2), 10), (None, digest_of(1), 0), ("chunk_1", digest_of(3), 7)]
    )
    answer = await answer_of(listing, contents)
    assert [(c.chunk_id, c.offset, c.size, c.hash) for c in answer.chunks] == [
        ("chunk_2", 0, 10, format_hash(digest_of(2))),
        (format_hash(digest_of(1)), 10, 0, format_hash(digest_of(1))),
        ("chunk_1", 10, 7, format_hash(digest_of(3))),
    ]
    assert {(c.l3_server, c.block_server) for c in answer.chunks} == {("h:1/meta/k/l3", "h:1/block/p")}
    assert (answer.version, answer.download_token, answer.next_cursor) == (1, "token", msgspec.UNSET)


async def test_a_chunk_whose_name_has_moved_on_is_named_by_its_hash(store, contents, listing):
    await make_file(store, [("chunk_1", digest_of(1), 1), ("chunk_2", digest_of(2), 1)])
    await write(store, [(keys.chunk_name("u1", "chunk_1"), ChunkName(1, digest_of(9)))])
    answer = await answer_of(listing, contents)
    assert [c.chunk_id for c in answer.chunks] == [format_hash(digest_of(1)), "chunk_2"]


async def test_a_file_without_content_yet_and_an_empty_one_have_no_chunks(store, contents, listing):
    await make_file(store, [], version=0, kept=False)
    answer = await answer_of(listing, contents)
    assert (answer.chunks, answer.version) == ([], 0)
    await make_file(store, [], version=1)
    answer = await answer_of(listing, contents)
    assert (answer.chunks, answer.version) == ([], 1)


async def test_each_chunk_is_sent_to_the_pool_that_holds_it(store, contents, listing):
    await make_file(store, [(None, digest_of(1), 1), (None, digest_of(2), 1)])
    await write(store, [(keys.chunk("u1", digest_of(2)), Chunk(1, 1, "q", "up/c.1", 0, 1))])
    answer = await answer_of(listing, contents, cluster=TWO_POOLS)
    assert [c.block_server for c in answer.chunks] == ["h:1/block/p", "h:1/block/q"]


async def test_a_long_list_is_answered_whole_and_in_pages_alike(store, contents, listing):
    entries = [(f"n{i}" if i % 3 else None, digest_of(i), i % 11) for i in range(2 * SEGMENT_ENTRIES + 10)]
    await make_file(store, entries)
    whole = await answer_of(listing, contents)
    assert [c.hash for c in whole.chunks] == [format_hash(digest) for _, digest, _ in entries]
    assert [c.chunk_id for c in whole.chunks[:3]] == [format_hash(digest_of(0)), "n1", "n2"]
    assert whole.chunks[-1].offset + whole.chunks[-1].size == sum(size for _, _, size in entries)
    paged, first = [], 0
    while True:
        page = await answer_of(listing, contents, first, 3000)
        paged += page.chunks
        if page.next_cursor is None:
            break
        cursor = parse_cursor(page.next_cursor)
        assert cursor.version == 1
        first = cursor.index
    assert paged == whole.chunks


@pytest.mark.parametrize("count", [40, 2 * SEGMENT_ENTRIES + 10])
async def test_pages_for_block_servers_begin_where_they_are_asked_to(store, contents, listing, count):
    entries = [(None, digest_of(i), 3) for i in range(count)]
    await make_file(store, entries)
    version = await contents.find("u1", "f")
    for offset in (0, 1, 3, 100, 3 * SEGMENT_ENTRIES - 1, 3 * SEGMENT_ENTRIES, 3 * count - 1):
        if offset >= 3 * count:
            continue
        page = await listing.manifest_answer(
            version, ManifestRequest(namespace="u1", file_id="f", offset=offset)
        )
        assert (page.index, page.start) == (offset // 3, offset // 3 * 3)
        assert page.chunks[0].hash == format_hash(digest_of(offset // 3))
        assert page.chunks[0].object == f"up/c.{offset // 3}"
    seen, index = 0, 0
    while index is not None:
        page = await listing.manifest_answer(
            version, ManifestRequest(namespace="u1", file_id="f", index=index)
        )
        assert len(page.chunks) <= MANIFEST_PAGE_CHUNKS
        assert (page.start, page.size, page.count) == (3 * seen, 3 * count, count)
        seen, index = seen + len(page.chunks), page.next_index
    assert seen == count


async def test_an_offset_behind_the_end_is_an_empty_page(store, contents, listing):
    for count in (2, SEGMENT_ENTRIES + 5):
        await make_file(store, [(None, digest_of(i), 3) for i in range(count)])
        version = await contents.find("u1", "f")
        page = await listing.manifest_answer(
            version, ManifestRequest(namespace="u1", file_id="f", offset=3 * count)
        )
        assert (page.chunks, page.next_index, page.start) == ([], None, 3 * count)


async def test_a_chunk_that_lost_its_record_is_told_as_damaged(store, contents, listing):
    await make_file(store, [(None, digest_of(1), 4)])
    version = await contents.find("u1", "f")
    await store.transact(Txn(then=(Delete(keys.chunk("u1", digest_of(1))),)))
    page = await listing.manifest_answer(version, ManifestRequest(namespace="u1", file_id="f"))
    assert page.chunks[0].state == "damaged"


async def test_the_newest_version_is_read_anew_each_time(store, contents):
    await make_file(store, [(None, digest_of(1), 1)])
    assert (await contents.find("u1", "f")).number == 1
    await make_file(store, [(None, digest_of(2), 1)], version=2)
    newest = await contents.find("u1", "f")
    assert (newest.number, newest.name, newest.inline) == (2, "f.txt", [(None, digest_of(2), 1)])
    assert (await contents.find("u1", "f", 1)).inline == [(None, digest_of(1), 1)]


async def test_what_may_not_be_read_says_why(store, contents):
    with pytest.raises(NotFoundError):
        await contents.find("u1", "f")
    await make_file(store, [(None, digest_of(1), 1)], version=3)
    with pytest.raises(NotFoundError):
        await contents.find("u1", "f", 4)
    with pytest.raises(GoneError):
        await contents.find("u1", "f", 2)
    with pytest.raises(NotFoundError):
        await contents.find("u2", "f")
    await make_file(store, [(None, digest_of(1), 1)], version=4, state=PENDING_DELETION)
    with pytest.raises(GoneError):
        await contents.find("u1", "f")


async def test_a_file_below_a_deleted_directory_is_unreadable(store, contents):
    await write(
        store,
        [(keys.node("u1", "d"), Node(1, DIRECTORY, "root:u1", "d", LIVE, 0, 1))],
    )
    await make_file(store, [(None, digest_of(1), 1)], parent="d")
    assert (await contents.find("u1", "f")).number == 1
    await write(
        store,
        [
            (keys.node("u1", "d"), Node(1, DIRECTORY, "root:u1", "d", PENDING_DELETION, 0, 1)),
            (keys.head("u1"), records.Head(sequence=9)),
        ],
    )
    with pytest.raises(GoneError):
        await contents.find("u1", "f")


def test_a_cursor_reads_back_and_anything_else_is_refused():
    assert parse_cursor(format_cursor(Cursor(5, 4096))) == Cursor(5, 4096)
    for text in ("5", "5.", ".5", "a.b", "5.-1", "5.1.2", "9" * 40 + ".1", "\u0661.1"):
        with pytest.raises(InvalidFieldError):
            parse_cursor(text)
