import asyncio

from upload_bed import NAMESPACE, Bed, commit_of, entry, hash_of

from moorage.core.errors import (
    ConflictError,
    InvalidFieldError,
    InvalidVersionError,
    MissingChunksError,
    NameTakenError,
    UploadEndedError,
)
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.uploads import FileUpdate
from moorage_nodes.metadata.records import INLINE_ENTRIES


async def begin(bed: Bed, count: int, **more) -> str:
    """An upload of `count` new files of one chunk each, stored."""
    texts = [f"text {number}".encode() for number in range(count)]
    begun = await bed.begin_batch(
        *(FileUpdate(f"f{n}", 0, [entry(text)], **more) for n, text in enumerate(texts))
    )
    await bed.store_chunks(begun.upload_id, [(None, text) for text in texts])
    return begun.upload_id


def commits_of(count: int):
    return [commit_of(f"f{n}", 1, [hash_of(f"text {n}".encode())]) for n in range(count)]


async def test_a_thousand_new_files_are_a_few_transactions(bed: Bed):
    upload = await begin(bed, 1000)
    inner, sent = bed.store.transact, []

    async def counting(txn):
        sent.append(txn)
        return await inner(txn)

    bed.store.transact = counting
    assert await bed.commit_batch(upload, *commits_of(1000)) == [1] * 1000
    assert len(sent) == 4
    assert await bed.open_uploads() == {}
    assert await bed.stored_keys(upload) == 0
    assert len(await bed.journal()) == 1000
    assert await bed.read("f777") == b"text 777"


async def test_files_that_fail_fail_alone(bed: Bed):
    await bed.write("stale", 0, {"a": b"base"})
    begun = await bed.begin_batch(
        FileUpdate("good", 0, [entry(b"good")]),
        FileUpdate("stale", 1, [entry(b"mine")]),
        FileUpdate("unstored", 0, [entry(b"nowhere")]),
        FileUpdate("crowded", 0, [entry(b"good")], name="name"),
        FileUpdate("wrong", 0, []),
        FileUpdate("vague", 0),
        FileUpdate("last", 0, [entry(b"last", "n")]),
    )
    await bed.store_chunks(begun.upload_id, {None: b"good", "m": b"mine", "n": b"last"})
    await bed.write("stale", 1, {"a": b"theirs"})
    other = await bed.begin("squatter", name="name", planned=[])
    await bed.commit(other.id, "squatter", 1)
    good, stale, unstored, crowded, wrong, vague, last, stranger = await bed.commit_batch(
        begun.upload_id,
        commit_of("good", 1),
        commit_of("stale", 2),
        commit_of("unstored", 1),
        commit_of("crowded", 1),
        commit_of("wrong", 5),
        commit_of("vague", 1),
        commit_of("last", 1),
        commit_of("stranger", 1),
    )
    assert good == last == 1
    assert isinstance(stale, ConflictError)
    assert stale.server_version == 2
    assert isinstance(unstored, MissingChunksError)
    assert isinstance(crowded, NameTakenError)
    assert isinstance(wrong, InvalidVersionError)
    assert isinstance(vague, InvalidFieldError)
    assert isinstance(stranger, UploadEndedError)
    left = (await bed.open_uploads())[begun.upload_id]
    assert [file.file_id for file in left.files] == ["stale", "unstored", "crowded", "wrong", "vague"]


async def test_what_failed_may_be_committed_later_under_the_same_upload(bed: Bed):
    begun = await bed.begin_batch(FileUpdate("a", 0, [entry(b"1")]), FileUpdate("b", 0, [entry(b"2")]))
    await bed.store_chunks(begun.upload_id, {None: b"1"})
    first, second = await bed.commit_batch(begun.upload_id, commit_of("a", 1), commit_of("b", 1))
    assert (first, type(second)) == (1, MissingChunksError)
    await bed.store_chunks(begun.upload_id, {None: b"2"})
    assert await bed.commit_batch(begun.upload_id, commit_of("a", 1), commit_of("b", 1)) == [1, 1]
    assert await bed.open_uploads() == {}


async def test_the_same_batch_again_answers_the_same(bed: Bed, other_bed: Bed):
    upload = await begin(bed, 30)
    for each in (bed, other_bed, bed):
        assert await each.commit_batch(upload, *commits_of(30)) == [1] * 30
    assert len(await bed.journal()) == 30


async def test_one_batch_asked_for_twice_at_once_happens_once(bed: Bed, other_bed: Bed):
    upload = await begin(bed, 600)
    results = await asyncio.gather(
        *(each.commit_batch(upload, *commits_of(600)) for each in (bed, other_bed, bed))
    )
    assert results == [[1] * 600] * 3
    assert sorted(each.id for each in await bed.journal()) == sorted(f"f{n}" for n in range(600))


async def test_a_batch_is_committed_in_parts_or_file_by_file(bed: Bed):
    upload = await begin(bed, 10)
    assert await bed.commit_batch(upload, *commits_of(10)[:4]) == [1] * 4
    for number in range(4, 9):
        assert await bed.commit(upload, f"f{number}", 1) == 1
    assert await bed.stored_keys(upload) > 0
    assert await bed.commit_batch(upload, *commits_of(10)) == [1] * 10
    assert await bed.open_uploads() == {}


async def test_of_two_files_that_want_one_name_the_first_gets_it(bed: Bed):
    begun = await bed.begin_batch(
        FileUpdate("a", 0, [], "root:ns", "prize"), FileUpdate("b", 0, [], "root:ns", "prize")
    )
    first, second = await bed.commit_batch(begun.upload_id, commit_of("a", 1), commit_of("b", 1))
    assert (first, type(second)) == (1, NameTakenError)
    assert await bed.node("b") is None


async def test_files_of_one_batch_may_use_the_same_names_for_their_own_chunks(bed: Bed):
    begun = await bed.begin_batch(
        *(
            FileUpdate(f"f{n}", 0, [entry(f"{n}".encode(), "chunk_1"), entry(b"x", "chunk_2")])
            for n in range(5)
        )
    )
    await bed.store_chunks(
        begun.upload_id, [("chunk_1", f"{n}".encode()) for n in range(5)] + [("chunk_2", b"x")]
    )
    ids = ["chunk_1", "chunk_2"]
    commits = [commit_of(f"f{n}", 1, ids if n % 2 else None) for n in range(5)]
    assert await bed.commit_batch(begun.upload_id, *commits) == [1] * 5
    for number in range(5):
        assert await bed.read(f"f{number}") == f"{number}x".encode()
    assert await bed.listing("f4") == ["chunk_1", "chunk_2"]
    assert await bed.listing("f1") == [hash_of(b"1"), "chunk_2"]


async def test_names_that_could_be_anybodys_are_refused(bed: Bed):
    begun = await bed.begin_batch(FileUpdate("a", 0), FileUpdate("b", 0))
    await bed.store_chunks(begun.upload_id, [("n", b"1"), ("m", b"2"), ("n", b"3")])
    unclear, clear = await bed.commit_batch(
        begun.upload_id, commit_of("a", 1, ["n"]), commit_of("b", 1, ["m"])
    )
    assert isinstance(unclear, InvalidFieldError)
    assert clear == 1
    # Now one file is left, but what was stored may still be the other's.
    assert isinstance((await bed.commit_batch(begun.upload_id, commit_of("a", 1)))[0], InvalidFieldError)


async def test_long_files_within_a_batch(bed: Bed):
    parts = [f"part {n};".encode() for n in range(INLINE_ENTRIES + 1)]
    begun = await bed.begin_batch(
        FileUpdate("short", 0, [entry(b"s")]),
        FileUpdate("long", 0, [entry(part) for part in parts]),
        FileUpdate("broken", 0, [entry(part) for part in [*parts, b"missing"]]),
        FileUpdate("end", 0, []),
    )
    await bed.store_chunks(begun.upload_id, [(None, part) for part in [b"s", *parts]])
    short, long, broken, end = await bed.commit_batch(
        begun.upload_id, *(commit_of(each, 1) for each in ("short", "long", "broken", "end"))
    )
    assert short == long == end == 1
    assert isinstance(broken, MissingChunksError)
    assert await bed.read("long") == b"".join(parts)


async def test_plans_that_lie_in_segments_are_committed_from_there(bed: Bed):
    lists = [[entry(f"{file}.{n}".encode(), f"{n:0100}-{file}") for n in range(100)] for file in range(40)]
    begun = await bed.begin_batch(*(FileUpdate(f"f{place}", 0, each) for place, each in enumerate(lists)))
    assert any(file.segments for file in (await bed.open_uploads())[begun.upload_id].files)
    pairs = [
        (name, f"{file}.{n}".encode())
        for file, each in enumerate(lists)
        for n, (name, _, _) in enumerate(each)
    ]
    await bed.store_chunks(begun.upload_id, pairs)
    assert await bed.commit_batch(begun.upload_id, *(commit_of(f"f{n}", 1) for n in range(40))) == [1] * 40
    for place, planned in enumerate(lists):
        assert await bed.entries(f"f{place}") == planned


async def test_existing_files_get_their_next_versions(bed: Bed):
    for number in range(20):
        await bed.write(f"f{number}", 0, {"a": b"before", "b": b"kept"})
    begun = await bed.begin_batch(*(FileUpdate(f"f{n}", 1, [entry(b"after")]) for n in range(20)))
    assert begun.required == [[hash_of(b"after")]] * 20
    await bed.store_chunks(begun.upload_id, {None: b"after"})
    assert await bed.commit_batch(begun.upload_id, *(commit_of(f"f{n}", 2) for n in range(20))) == [2] * 20
    assert await bed.read("f19") == b"after"


async def test_a_batch_and_single_commits_at_once_leave_one_gapless_journal(bed: Bed, other_bed: Bed):
    upload = await begin(bed, 500)

    async def write(number: int) -> None:
        await other_bed.write(f"g{number}", 0, {"a": b"x"})

    results, *_ = await asyncio.gather(
        bed.commit_batch(upload, *commits_of(500)), *(write(number) for number in range(20))
    )
    assert results == [1] * 500
    found, _ = await bed.store.range(*keys.journal_range(NAMESPACE, 0))
    assert [kv.key for kv in found.kvs] == [keys.journal(NAMESPACE, n) for n in range(1, 521)]


async def test_an_empty_file_of_a_batch(bed: Bed):
    begun = await bed.begin_batch(FileUpdate("f", 0, []))
    assert await bed.commit_batch(begun.upload_id, commit_of("f", 1)) == [1]
    assert await bed.read("f") == b""


async def test_a_folder_that_was_deleted_is_stored_again_from_chunks_that_are_let_go(bed: Bed) -> None:
    """Each of them is revived, and each revival is a compare: more than one transaction of etcd holds."""
    texts = [f"text {number}".encode() for number in range(150)]
    begun = await bed.begin_batch(
        *(FileUpdate(f"f{number}", 0, [entry(text)]) for number, text in enumerate(texts))
    )
    await bed.store_chunks(begun.upload_id, [(None, text) for text in texts])
    first = [commit_of(f"f{number}", 1, [hash_of(text)]) for number, text in enumerate(texts)]
    assert await bed.commit_batch(begun.upload_id, *first) == [1] * len(texts)
    for number in range(len(texts)):
        await bed.delete(f"f{number}", 1, end=True)
    anew = Bed(bed.store, seed=2, blobs=bed.blobs)  # a server that has not seen them live
    begun = await anew.begin_batch(
        *(FileUpdate(f"g{number}", 0, [entry(text)], name=f"g{number}") for number, text in enumerate(texts))
    )
    assert begun.required == [[] for _ in texts]
    again = [commit_of(f"g{number}", 1, [hash_of(text)]) for number, text in enumerate(texts)]
    assert await anew.commit_batch(begun.upload_id, *again) == [1] * len(texts)
