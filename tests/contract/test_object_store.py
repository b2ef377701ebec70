"""What every object store does (stores/contracts.py), on the one in memory and on real SeaweedFS and MinIO."""

import asyncio
import hashlib
import itertools
import os

import pytest

from moorage.core.errors import ObjectExistsError, ObjectNotFoundError, OutcomeUnknownError, RangeError

MIB = 1024 * 1024


async def in_chunks(data: bytes, size: int):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def names_of(pages) -> list[str]:
    return [info.name async for page in pages for info in page]


@pytest.mark.parametrize("size", [0, 1, 4096, MIB + 1, 8 * MIB])
async def test_an_object_comes_back_as_it_was_put(objects, size):
    data = os.urandom(size)
    await objects.put("a/b/1", data)
    assert await objects.get("a/b/1") == data
    info = await objects.head("a/b/1")
    assert (info.name, info.size) == ("a/b/1", size)
    stream = await objects.get_stream("a/b/1")
    assert stream.size == size
    assert b"".join([chunk async for chunk in stream.chunks]) == data


async def test_parts_become_one_object(objects):
    parts = [os.urandom(size) for size in (1, 70_000, 0, 4096, MIB)]
    await objects.put("parts", parts)
    assert await objects.get("parts") == b"".join(parts)
    await objects.put("none", [])
    assert await objects.get("none") == b""


async def test_a_view_of_memory_can_be_put(objects):
    data = os.urandom(100_000)
    await objects.put("view", memoryview(data)[1000:90_000])
    assert await objects.get("view") == data[1000:90_000]


async def test_a_name_is_taken_once(objects):
    await objects.put("k", b"first")
    with pytest.raises(ObjectExistsError):
        await objects.put("k", b"second")
    assert await objects.get("k") == b"first"
    await objects.delete(["k"])
    await objects.put("k", b"third")
    assert await objects.get("k") == b"third"


async def test_one_of_many_that_race_for_a_name_wins(objects):
    """SeaweedFS makes the losers of a race wait for whole seconds, some past our deadline."""
    for round_ in range(3):
        attempts = [objects.put(f"race/{round_}", b"%d" % n) for n in range(6)]
        results = await asyncio.gather(*attempts, return_exceptions=True)
        winners = [n for n, result in enumerate(results) if result is None]
        assert len(winners) == 1
        losers = [result for result in results if result is not None]
        assert all(isinstance(error, ObjectExistsError | OutcomeUnknownError) for error in losers)
        assert await objects.get(f"race/{round_}") == b"%d" % winners[0]


async def test_what_is_not_there_is_not_found(objects):
    for call in (
        objects.get("no"),
        objects.get_stream("no"),
        objects.head("no"),
        objects.get("no", length=0),
    ):
        with pytest.raises(ObjectNotFoundError):
            await call


async def test_a_folder_is_not_an_object(objects):
    await objects.put("a/b", b"x")
    for call in (objects.get("a"), objects.head("a")):
        with pytest.raises(ObjectNotFoundError):
            await call


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 10), (10, 20), (999, 1), (0, 1000), (500, None), (999, None), (0, 0), (500, 0), (1000, 0)],
)
async def test_a_range_is_read_from_an_object(objects, offset, length):
    data = os.urandom(1000)
    await objects.put("k", data)
    expected = data[offset:] if length is None else data[offset : offset + length]
    assert await objects.get("k", offset=offset, length=length) == expected
    stream = await objects.get_stream("k", offset=offset, length=length)
    assert stream.size == 1000
    assert b"".join([chunk async for chunk in stream.chunks]) == expected


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 1001), (999, 2), (1000, 1), (1000, None), (5000, None), (5000, 10), (1001, 0)]
)
async def test_a_range_behind_the_end_is_an_error_and_never_less_than_asked(objects, offset, length):
    await objects.put("k", bytes(1000))
    with pytest.raises(RangeError):
        await objects.get("k", offset=offset, length=length)
    with pytest.raises(RangeError):
        await objects.get_stream("k", offset=offset, length=length)


async def test_a_range_of_an_empty_object_is_an_error_unless_it_is_all_of_it(objects):
    await objects.put("k", b"")
    assert await objects.get("k") == b""
    assert await objects.get("k", length=0) == b""
    for offset, length in ((0, 1), (1, None), (1, 0)):
        with pytest.raises(RangeError):
            await objects.get("k", offset=offset, length=length)


@pytest.mark.parametrize("size", [0, 5, 3 * MIB, 20 * MIB + 7])
async def test_a_stream_of_any_length_becomes_an_object(objects, size):
    data = os.urandom(size)
    assert await objects.put_stream("s", in_chunks(data, 100_000)) == size
    assert (await objects.head("s")).size == size
    digest = hashlib.sha256()
    async for chunk in (await objects.get_stream("s")).chunks:
        digest.update(chunk)
    assert digest.digest() == hashlib.sha256(data).digest()


async def test_a_stream_replaces_what_was_there(objects):
    await objects.put("s", b"old")
    await objects.put_stream("s", in_chunks(b"new one", 3))
    assert await objects.get("s") == b"new one"


@pytest.mark.parametrize("size", [1000, 20 * MIB])
async def test_nothing_is_kept_of_a_stream_that_breaks(objects, size):
    async def breaks():
        async for chunk in in_chunks(bytes(size), 100_000):
            yield chunk
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await objects.put_stream("s", breaks())
    with pytest.raises(ObjectNotFoundError):
        await objects.head("s")


async def test_a_reader_may_leave_a_stream(objects):
    await objects.put("k", bytes(4 * MIB))
    stream = await objects.get_stream("k")
    assert await anext(stream.chunks)
    del stream
    assert len(await objects.get("k", length=10)) == 10


async def test_a_listing_has_every_object_below_the_prefix_once_in_order(objects):
    names = [f"{user}/{upload:08x}/{n}" for user, upload, n in itertools.product("abc", range(3), range(4))]
    for name in reversed(names):
        await objects.put(name, name.encode())
    assert await names_of(objects.list("")) == names
    assert await names_of(objects.list("b/")) == names[12:24]
    assert await names_of(objects.list("b/00000001/")) == names[16:20]
    assert await names_of(objects.list("b/0000000/")) == []
    assert await names_of(objects.list("d/")) == []
    assert await names_of(objects.list("b/", start_after=names[17])) == names[18:24]
    assert await names_of(objects.list("", start_after=names[-1])) == []
    [page] = [page async for page in objects.list("a/00000000/")]
    assert [(info.name, info.size) for info in page] == [(name, len(name)) for name in names[:4]]


async def test_a_prefix_that_is_not_a_folder_is_a_mistake(objects):
    with pytest.raises(ValueError, match="slash"):
        await names_of(objects.list("a"))


async def test_a_long_listing_comes_in_pages(objects):
    names = [f"many/{n:05d}" for n in range(2100)]
    for start in range(0, len(names), 100):
        await asyncio.gather(*(objects.put(name, b"") for name in names[start : start + 100]))
    pages = [[info.name for info in page] async for page in objects.list("many/")]
    assert [name for page in pages for name in page] == names
    assert len(pages) > 1
    await objects.delete(names)
    assert await names_of(objects.list("many/")) == []


async def test_deletion_is_idempotent(objects):
    await objects.put("a/1", b"")
    await objects.put("a/2", b"")
    await objects.delete(["a/1", "a/never", "b/never"])
    await objects.delete(["a/1"])
    await objects.delete([])
    assert await names_of(objects.list("")) == ["a/2"]


async def test_names_use_the_whole_alphabet(objects):
    name = "AZaz09_.:-/x..y/.hidden/~".removesuffix("/~")
    await objects.put(name, b"x")
    assert await objects.get(name) == b"x"
    assert await names_of(objects.list("")) == [name]


async def test_a_store_that_answers_passes_its_check(objects):
    await objects.check()
