"""What every metadata store does (stores/contracts.py), on the one in memory and on a real etcd."""

import asyncio
import contextlib
import time

import pytest

from moorage.core.errors import CompactedError, RequestRefusedError
from moorage_nodes.stores.contracts import (
    MAX_REQUEST_BYTES,
    Compare,
    Delete,
    DeleteResult,
    MetadataStore,
    Put,
    Range,
    RangeResult,
    Target,
    Txn,
    absent,
    prefix_end,
    unchanged,
)

END = b"\xff"


async def put(store: MetadataStore, key: bytes, value: bytes = b"", lease: int = 0) -> int:
    result = await store.transact(Txn(then=(Put(key, value, lease),)))
    return result.revision


async def keys_of(store: MetadataStore, revision: int = 0) -> list[bytes]:
    found, _ = await store.range(b"", END, revision=revision)
    return [kv.key for kv in found.kvs]


# --- reading and writing ----------------------------------------------------------------------------------


async def test_a_key_never_written_is_absent(store):
    assert await store.get(b"nothing") is None


async def test_a_key_counts_its_versions_and_knows_its_revisions(store):
    first = await put(store, b"k", b"1")
    second = await put(store, b"k", b"2")
    assert second == first + 1
    kv = await store.get(b"k")
    assert (kv.key, kv.value, kv.version, kv.lease) == (b"k", b"2", 2, 0)
    assert (kv.create_revision, kv.mod_revision) == (first, second)


async def test_a_key_deleted_and_written_again_is_a_new_key(store):
    await put(store, b"k", b"1")
    await store.transact(Txn(then=(Delete(b"k"),)))
    assert await store.get(b"k") is None
    again = await put(store, b"k", b"2")
    kv = await store.get(b"k")
    assert (kv.version, kv.create_revision, kv.mod_revision) == (1, again, again)


async def test_bytes_of_every_kind_come_back_as_they_were(store):
    value = bytes(range(256)) * 3
    for key in (b"\x00", b"\x00\x00", b"\xfe\xff", b"", b"a\x00b"):
        await put(store, key, value)
        assert (await store.get(key)).value == value
    assert await keys_of(store) == [b"", b"\x00", b"\x00\x00", b"a\x00b", b"\xfe\xff"]


async def test_an_empty_value_is_a_value(store):
    await put(store, b"k", b"")
    assert (await store.get(b"k")).value == b""


async def test_old_revisions_stay_readable(store):
    first = await put(store, b"k", b"1")
    second = await put(store, b"k", b"2")
    third = (await store.transact(Txn(then=(Delete(b"k"),)))).revision
    assert (await store.get(b"k", revision=first)).value == b"1"
    assert (await store.get(b"k", revision=second)).value == b"2"
    assert await store.get(b"k", revision=third) is None
    snapshot = await store.get_many([b"k", b"j"], revision=first)
    assert snapshot.revision == first
    assert snapshot.found[b"k"].value == b"1"
    assert await keys_of(store, revision=second) == [b"k"]
    assert await keys_of(store, revision=third) == []


async def test_a_revision_yet_to_come_is_refused(store):
    now = await put(store, b"k")
    for read in (
        store.get(b"k", revision=now + 1000),
        store.get_many([b"k", b"j"], revision=now + 1000),
        store.range(b"a", b"z", revision=now + 1000),
    ):
        with pytest.raises(RequestRefusedError):
            await read
    with pytest.raises(RequestRefusedError):
        async for _ in store.scan(b"a", b"z", revision=now + 1000):
            pass


async def test_many_keys_are_read_at_one_revision(store):
    names = [b"%04d" % n for n in range(300)]
    for start in range(0, 300, 100):
        await store.transact(Txn(then=tuple(Put(name, name) for name in names[start : start + 100])))
    wanted = [*names, b"absent", names[0]]
    snapshot = await store.get_many(wanted)
    assert {key: kv.value for key, kv in snapshot.found.items()} == {name: name for name in names}
    await store.transact(Txn(then=(Delete(names[299]),)))
    assert len((await store.get_many(wanted, revision=snapshot.revision)).found) == 300
    assert len((await store.get_many(wanted)).found) == 299


async def test_keys_and_ranges_are_read_at_one_revision_also_among_others(store):
    names = [b"r%02d" % n for n in range(10)]
    await store.transact(Txn(then=tuple(Put(name, name) for name in names)))
    few, all_of_them, none = Range(b"r", b"s", 3), Range(b"r", b"s"), Range(b"x", b"y")
    snapshots = await asyncio.gather(
        *(store.get_many([b"r05", few, none] if n % 2 else [all_of_them, b"absent"]) for n in range(20))
    )
    for n, snapshot in enumerate(snapshots):
        if n % 2:
            assert [kv.key for kv in snapshot.ranges[few].kvs] == names[:3]
            assert snapshot.ranges[few].more
            assert snapshot.ranges[none].kvs == ()
            assert set(snapshot.ranges) == {few, none}
            assert set(snapshot.found) == {b"r05"}
        else:
            assert [kv.value for kv in snapshot.ranges[all_of_them].kvs] == names
            assert snapshot.found == {}


async def test_no_keys_are_read_at_the_current_revision(store):
    now = await put(store, b"k")
    snapshot = await store.get_many([])
    assert snapshot.found == {}
    assert snapshot.revision >= now


async def test_a_snapshot_holds_only_the_keys_asked_for_while_others_read_too(store):
    for name in (b"a", b"b", b"c", b"d"):
        await put(store, name, name)
    asked = [[b"a"], [b"b", b"c"], [b"d", b"absent"], [b"a", b"d"]] * 10
    snapshots = await asyncio.gather(*(store.get_many(keys) for keys in asked))
    for keys, snapshot in zip(asked, snapshots, strict=True):
        assert set(snapshot.found) == set(keys) - {b"absent"}


async def test_many_readers_at_once_each_get_their_own(store):
    await store.transact(Txn(then=tuple(Put(b"%03d" % n, b"%d" % n) for n in range(100))))
    found = await asyncio.gather(*(store.get(b"%03d" % (n % 110)) for n in range(500)))
    for n, kv in enumerate(found):
        if n % 110 < 100:
            assert kv.value == b"%d" % (n % 110)
        else:
            assert kv is None


async def test_a_read_sees_every_write_acknowledged_before_it_began(store):
    async def write_then_read(name: bytes) -> None:
        for n in range(20):
            await put(store, name, b"%d" % n)
            assert (await store.get(name)).value == b"%d" % n

    await asyncio.gather(*(write_then_read(b"k%d" % n) for n in range(10)))


async def test_a_reader_that_gives_up_takes_no_other_with_it(store):
    await put(store, b"k", b"v")
    readers = [asyncio.create_task(store.get(b"k")) for _ in range(50)]
    await asyncio.sleep(0)
    for reader in readers[::2]:
        reader.cancel()
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert [kv.value for kv in results[1::2]] == [b"v"] * 25
    assert (await store.get(b"k")).value == b"v"


# --- ranges -----------------------------------------------------------------------------------------------


@pytest.fixture
async def letters(store):
    """c, a, d, b: written in this order, each at its own revision."""
    for name in (b"c", b"a", b"d", b"b"):
        await put(store, name, name * 3)
    return store


async def test_a_range_is_half_open_and_ordered_by_key(letters):
    found, revision = await letters.range(b"a", b"d")
    assert [kv.key for kv in found.kvs] == [b"a", b"b", b"c"]
    assert not found.more
    assert revision >= found.kvs[2].mod_revision
    assert [kv.value for kv in found.kvs] == [b"aaa", b"bbb", b"ccc"]


@pytest.mark.parametrize(
    ("options", "expected", "more"),
    [
        ({"limit": 2}, [b"a", b"b"], True),
        ({"limit": 4}, [b"a", b"b", b"c", b"d"], False),
        ({"limit": 9}, [b"a", b"b", b"c", b"d"], False),
        ({"descending": True}, [b"d", b"c", b"b", b"a"], False),
        ({"descending": True, "limit": 3}, [b"d", b"c", b"b"], True),
        ({"by_create_revision": True}, [b"c", b"a", b"d", b"b"], False),
        ({"by_create_revision": True, "limit": 1}, [b"c"], True),
        ({"by_create_revision": True, "descending": True, "limit": 2}, [b"b", b"d"], True),
    ],
)
async def test_a_range_can_be_cut_and_turned(letters, options, expected, more):
    found, _ = await letters.range(b"a", b"z", **options)
    assert [kv.key for kv in found.kvs] == expected
    assert found.more is more


async def test_a_range_of_keys_only_has_no_values(letters):
    found, _ = await letters.range(b"a", b"z", keys_only=True)
    assert [(kv.key, kv.value, kv.version) for kv in found.kvs] == [
        (name, b"", 1) for name in (b"a", b"b", b"c", b"d")
    ]


@pytest.mark.parametrize(("start", "end"), [(b"b", b"b"), (b"c", b"a"), (b"x", b"z"), (b"a", b"")])
async def test_a_range_that_ends_before_it_begins_is_empty(letters, start, end):
    assert (await letters.range(start, end))[0] == RangeResult((), more=False)
    assert [page async for page in letters.scan(start, end)] == []


async def test_a_prefix_finds_all_below_it_and_nothing_else(store):
    for name in (b"a/", b"a/\xff", b"a/\xff\xff", b"a/b", b"a", b"a0", b"a.", b"b"):
        await put(store, name)
    found, _ = await store.range(b"a/", prefix_end(b"a/"))
    assert [kv.key for kv in found.kvs] == [b"a/", b"a/b", b"a/\xff", b"a/\xff\xff"]


# --- scans ------------------------------------------------------------------------------------------------


@pytest.fixture
async def thousands(store):
    """3,000 keys of 1 KiB."""
    for start in range(0, 3000, 100):
        puts = tuple(Put(b"k%05d" % n, b"%d" % n + bytes(1000)) for n in range(start, start + 100))
        await store.transact(Txn(then=puts))
    return store


async def test_a_scan_finds_every_key_once_in_order(thousands):
    pages = [page async for page in thousands.scan(b"k", b"l")]
    assert [kv.key for page in pages for kv in page] == [b"k%05d" % n for n in range(3000)]
    assert len(pages) > 1
    assert all(kv.value.startswith(b"%d" % int(kv.key[1:])) for page in pages for kv in page)


async def test_a_scan_of_keys_only_has_no_values(thousands):
    kvs = [kv async for page in thousands.scan(b"k", b"k00100", keys_only=True) for kv in page]
    assert len(kvs) == 100
    assert {kv.value for kv in kvs} == {b""}


async def test_a_scan_sees_one_revision_whatever_is_written_meanwhile(thousands):
    seen = []
    async for page in thousands.scan(b"k", b"l"):
        seen += [kv.key for kv in page]
        await thousands.transact(Txn(then=(Delete(b"k02999"), Put(b"k%05d!" % len(seen), b""))))
    assert seen == [b"k%05d" % n for n in range(3000)]


async def test_a_scan_at_an_old_revision_sees_that_one(thousands):
    before = await put(thousands, b"k", b"")
    await thousands.transact(Txn(then=(Delete(b"k", b"l"),)))
    assert sum([len(page) async for page in thousands.scan(b"k", b"l", revision=before)]) == 3001
    assert [page async for page in thousands.scan(b"k", b"l")] == []


async def test_a_scan_left_early_harms_nothing(thousands):
    async with contextlib.aclosing(thousands.scan(b"k", b"l")) as pages:
        async for page in pages:
            assert page
            break
    assert (await thousands.get(b"k00000")).version == 1


# --- transactions -----------------------------------------------------------------------------------------


async def test_a_transaction_takes_one_branch(store):
    txn = Txn((absent(b"k"),), (Put(b"k", b"made"),), (Put(b"k", b"kept"), Range(b"k")))
    first = await store.transact(txn)
    assert first.succeeded
    assert first.results == (None,)
    second = await store.transact(txn)
    assert not second.succeeded
    assert second.results[1].kvs[0].value == b"kept"
    assert (await store.get(b"k")).value == b"kept"


@pytest.mark.parametrize(
    ("target", "right", "wrong"),
    [
        (Target.VERSION, lambda kv: kv.version, lambda kv: kv.version + 1),
        (Target.MOD, lambda kv: kv.mod_revision, lambda kv: kv.mod_revision - 1),
        (Target.CREATE, lambda kv: kv.create_revision, lambda kv: kv.mod_revision),
        (Target.VALUE, lambda kv: kv.value, lambda kv: kv.value + b"!"),
    ],
)
async def test_a_compare_holds_when_equal_and_only_then(store, target, right, wrong):
    await put(store, b"k", b"1")
    await put(store, b"k", b"2")
    kv = await store.get(b"k")
    assert (await store.transact(Txn((Compare(b"k", target, right(kv)),)))).succeeded
    assert not (await store.transact(Txn((Compare(b"k", target, wrong(kv)),)))).succeeded


async def test_an_absent_key_compares_as_zero_and_has_no_value(store):
    for target in (Target.VERSION, Target.MOD, Target.CREATE):
        assert (await store.transact(Txn((Compare(b"k", target, 0),)))).succeeded
        assert not (await store.transact(Txn((Compare(b"k", target, 1),)))).succeeded
    assert not (await store.transact(Txn((Compare(b"k", Target.VALUE, b""),)))).succeeded
    await put(store, b"k", b"")
    assert (await store.transact(Txn((Compare(b"k", Target.VALUE, b""),)))).succeeded


async def test_all_compares_must_hold(store):
    revision = await put(store, b"a")
    assert (await store.transact(Txn((unchanged(b"a", revision), absent(b"b"))))).succeeded
    assert not (await store.transact(Txn((unchanged(b"a", revision), unchanged(b"b", 7))))).succeeded


async def test_a_transaction_that_writes_makes_one_revision_and_others_none(store):
    before = await put(store, b"a")
    several = await store.transact(Txn(then=(Put(b"b", b""), Put(b"c", b""), Delete(b"a"))))
    assert several.revision == before + 1
    for idle in (
        Txn(),
        Txn(then=(Range(b"a", END),)),
        Txn(then=(Delete(b"nothing"),)),
        Txn((unchanged(b"b", 1),)),
    ):
        assert (await store.transact(idle)).revision == before + 1
    assert await put(store, b"b", b"") == before + 2


async def test_a_delete_says_how_many_it_deleted(store):
    for name in (b"a", b"b", b"c"):
        await put(store, name)
    result = await store.transact(Txn(then=(Delete(b"a", b"c"), Delete(b"c"), Delete(b"d"))))
    assert result.results == (DeleteResult(2), DeleteResult(1), DeleteResult(0))
    assert await keys_of(store) == []


async def test_a_range_in_a_transaction_sees_the_writes_before_it_and_not_those_behind(store):
    await put(store, b"old", b"0")
    txn = Txn(
        then=(Put(b"new", b"1"), Range(b"a", b"z"), Delete(b"old"), Range(b"a", b"z"), Put(b"late", b"2"))
    )
    result = await store.transact(txn)
    first, second = result.results[1], result.results[3]
    assert [(kv.key, kv.value) for kv in first.kvs] == [(b"new", b"1"), (b"old", b"0")]
    assert first.kvs[0].mod_revision == result.revision
    assert [kv.key for kv in second.kvs] == [b"new"]


async def test_ranges_in_a_transaction_can_be_cut_and_turned(letters):
    txn = Txn(
        then=(Range(b"a", b"z", limit=2, descending=True), Range(b"a", b"z", keys_only=True), Range(b"q"))
    )
    cut, names, nothing = (await letters.transact(txn)).results
    assert [kv.key for kv in cut.kvs] == [b"d", b"c"]
    assert cut.more
    assert {kv.value for kv in names.kvs} == {b""}
    assert len(names.kvs) == 4
    assert nothing == RangeResult((), more=False)


async def test_one_of_many_that_race_on_a_key_wins(store):
    txns = [Txn((absent(b"k"),), (Put(b"k", b"%d" % n),)) for n in range(40)]
    results = await asyncio.gather(*map(store.transact, txns))
    winners = [n for n, result in enumerate(results) if result.succeeded]
    assert len(winners) == 1
    assert (await store.get(b"k")).value == b"%d" % winners[0]


# --- nested transactions ----------------------------------------------------------------------------------


async def test_a_nested_transaction_has_its_own_compares_and_its_own_result(store):
    await put(store, b"a")
    members = (
        Txn((absent(b"a"),), (Put(b"a", b"x"),), (Range(b"a"),)),
        Txn((absent(b"b"),), (Put(b"b", b"y"), Range(b"b"))),
    )
    outer = await store.transact(Txn(then=members))
    lost, won = outer.results
    assert outer.succeeded
    assert not lost.succeeded
    assert lost.results[0].kvs[0].value == b""
    assert won.succeeded
    assert won.results[1].kvs[0].value == b"y"
    assert outer.revision == lost.revision == won.revision


async def test_all_compares_of_the_tree_are_evaluated_before_any_write(store):
    """The write skew that makes it unsafe to nest transactions that touch one another's keys."""
    members = (
        Txn((absent(b"b"),), (Put(b"a", b"1"),)),
        Txn((absent(b"a"),), (Put(b"b", b"2"),)),
    )
    outer = await store.transact(Txn(then=(Put(b"c", b""), *members)))
    assert [member.succeeded for member in outer.results[1:]] == [True, True]
    assert await keys_of(store) == [b"a", b"b", b"c"]


async def test_a_nested_range_sees_the_writes_of_members_before_it(store):
    outer = await store.transact(Txn(then=(Txn(then=(Put(b"a", b"1"),)), Txn(then=(Range(b"a"),)))))
    assert outer.results[1].results[0].kvs[0].value == b"1"


async def test_only_the_branch_taken_of_a_nested_transaction_is_carried_out(store):
    inner = Txn((absent(b"x"),), (Txn((unchanged(b"y", 5),), (Put(b"no", b""),), (Put(b"yes", b""),)),))
    outer = await store.transact(Txn((unchanged(b"z", 9),), (Put(b"never", b""),), (inner,)))
    assert not outer.succeeded
    assert outer.results[0].succeeded
    assert not outer.results[0].results[0].succeeded
    assert await keys_of(store) == [b"yes"]


# --- what is refused --------------------------------------------------------------------------------------

PUT, DELETE = Put(b"k", b""), Delete(b"k")


@pytest.mark.parametrize(
    "ops",
    [
        (PUT, PUT),
        (PUT, DELETE),
        (DELETE, PUT),
        (PUT, Delete(b"a", b"z")),
        (Txn(then=(PUT,)), PUT),
        (Txn(then=(PUT,)), Txn(then=(PUT,))),
        (Txn(then=(PUT,)), Txn(orelse=(PUT,))),
        (DELETE, Txn(then=(PUT,))),
        (Txn(then=(PUT,)), Delete(b"a", b"z")),
        (Txn(then=(DELETE,)), Txn(then=(PUT,))),
        (Txn(then=(Txn(then=(PUT,)),)), Txn(then=(Txn(orelse=(PUT,)),))),
    ],
)
async def test_a_key_put_twice_or_put_and_deleted_is_refused(store, ops):
    before = await put(store, b"before")
    for txn in (Txn(then=ops), Txn(orelse=ops)):
        with pytest.raises(RequestRefusedError):
            await store.transact(txn)
    assert await put(store, b"after") == before + 1


@pytest.mark.parametrize(
    "ops",
    [
        (DELETE, DELETE, Delete(b"a", b"z")),
        (Txn(then=(PUT,), orelse=(PUT,)),),
        (Txn(then=(PUT,), orelse=(DELETE,)),),
        (PUT, Delete(b"a", b"k")),
        (PUT, Delete(b"k\x00", b"z")),
        (PUT, Range(b"k")),
    ],
)
async def test_what_excludes_or_misses_each_other_is_not_refused(store, ops):
    assert (await store.transact(Txn(then=ops))).succeeded


async def test_the_same_key_in_both_branches_is_not_refused(store):
    assert (await store.transact(Txn(then=(PUT,), orelse=(PUT,)))).succeeded


def puts(count: int, tag: int = 0) -> tuple[Put, ...]:
    return tuple(Put(b"%d-%d" % (tag, n), b"") for n in range(count))


async def test_128_operations_pass_and_129_are_refused(store):
    assert (await store.transact(Txn(then=puts(128)))).succeeded
    for txn in (
        Txn(then=puts(129)),
        Txn(orelse=puts(129)),
        Txn(tuple(absent(b"%d" % n) for n in range(129))),
    ):
        with pytest.raises(RequestRefusedError):
            await store.transact(txn)


async def test_operations_are_counted_along_a_path_of_nesting(store):
    fits = Txn(then=tuple(Txn(then=puts(68, tag)) for tag in range(60)))
    assert (await store.transact(fits)).succeeded
    for too_many in (
        Txn(then=tuple(Txn(then=puts(69, tag)) for tag in range(60))),
        Txn(then=(*puts(127), Txn(then=(Txn(then=puts(1, 1)),)))),
        Txn(tuple(absent(b"%d" % n) for n in range(100)), then=(Txn(then=puts(29)),)),
    ):
        with pytest.raises(RequestRefusedError):
            await store.transact(too_many)


async def test_a_request_above_the_size_limit_is_refused(store):
    assert (await store.transact(Txn(then=(Put(b"k", bytes(MAX_REQUEST_BYTES - 4096)),)))).succeeded
    before = await put(store, b"before")
    for value in (bytes(MAX_REQUEST_BYTES), bytes(4 * MAX_REQUEST_BYTES)):
        with pytest.raises(RequestRefusedError):
            await store.transact(Txn(then=(Put(b"k", value),)))
    assert await put(store, b"after") == before + 1


# --- compaction -------------------------------------------------------------------------------------------


async def test_what_is_before_a_compaction_is_gone_and_the_rest_is_not(subject):
    store = subject.store
    first = await put(store, b"k", b"1")
    second = await put(store, b"k", b"2")
    third = await put(store, b"j", b"3")
    await subject.compact(second)
    for read in (
        store.get(b"k", revision=first),
        store.get_many([b"k", b"j"], revision=first),
        store.range(b"a", b"z", revision=first),
    ):
        with pytest.raises(CompactedError):
            await read
    with pytest.raises(CompactedError):
        async for _ in store.scan(b"a", b"z", revision=first):
            pass
    assert (await store.get(b"k", revision=second)).value == b"2"
    assert await keys_of(store, revision=second) == [b"k"]
    assert await keys_of(store, revision=third) == [b"j", b"k"]


async def test_a_key_deleted_before_a_compaction_stays_deleted(subject):
    store = subject.store
    await put(store, b"k", b"1")
    await store.transact(Txn(then=(Delete(b"k"),)))
    now = await put(store, b"j")
    await subject.compact(now)
    assert await store.get(b"k") is None
    assert (await store.transact(Txn((absent(b"k"),), (Put(b"k", b"2"),)))).succeeded
    assert (await store.get(b"k")).version == 1


# --- watches ----------------------------------------------------------------------------------------------


async def collect(batches, count: int, seconds: float = 10.0):
    """The next `count` events as (key, value or None when deleted, revision)."""
    events = []
    async with asyncio.timeout(seconds):
        async for batch in batches:
            assert not batch.resync
            assert all(event.kv.mod_revision <= batch.revision for event in batch.events)
            events += [
                (event.kv.key, None if event.deleted else event.kv.value, event.kv.mod_revision)
                for event in batch.events
            ]
            if len(events) >= count:
                return events
    raise AssertionError("the watch ended")


async def test_a_watch_tells_what_was_and_what_will_be(store):
    first = await put(store, b"a", b"1")
    async with store.watch(b"a", b"c", from_revision=first) as batches:
        second = await put(store, b"b", b"2")
        await put(store, b"c", b"outside")
        third = (await store.transact(Txn(then=(Delete(b"a"), Put(b"b", b"3"))))).revision
        events = await collect(batches, 4)
    assert events == [(b"a", b"1", first), (b"b", b"2", second), (b"a", None, third), (b"b", b"3", third)]


async def test_a_watch_from_the_future_waits_for_it(store):
    now = await put(store, b"a", b"1")
    async with store.watch(b"a", b"z", from_revision=now + 3) as batches:
        await put(store, b"a", b"2")
        await put(store, b"a", b"3")
        fourth = await put(store, b"a", b"4")
        assert await collect(batches, 1) == [(b"a", b"4", fourth)]


async def test_a_watch_that_starts_at_nothing_is_a_mistake(store):
    with pytest.raises(ValueError, match="from_revision"):
        async with store.watch(b"a", b"z", from_revision=0):
            pass


async def test_a_watch_of_a_long_history_tells_all_of_it(store):
    first = await put(store, b"a", b"0")
    for start in range(1, 2001, 100):
        await asyncio.gather(*(put(store, b"a", b"%d" % n) for n in range(start, start + 100)))
    async with store.watch(b"a", b"b", from_revision=first) as batches:
        events = await collect(batches, 2001)
    revisions = [revision for _, _, revision in events]
    assert len(events) == 2001
    assert revisions == sorted(set(revisions))
    assert {int(value) for _, value, _ in events} == set(range(2001))


async def test_a_watch_into_compacted_history_says_resync_and_goes_on_behind_it(subject):
    store = subject.store
    first = await put(store, b"a", b"1")
    await put(store, b"a", b"2")
    third = await put(store, b"a", b"3")
    await subject.compact(third)
    async with store.watch(b"a", b"z", from_revision=first) as batches:
        async with asyncio.timeout(10):
            batch = await anext(batches)
        assert batch.resync
        assert batch.revision >= third
        assert batch.events == ()
        assert (await store.get(b"a", revision=batch.revision)).value == b"3"
        fourth = await put(store, b"a", b"4")
        assert await collect(batches, 1) == [(b"a", b"4", fourth)]


async def test_a_silent_watch_still_tells_how_far_it_is(store, monkeypatch):
    monkeypatch.setattr("moorage_nodes.stores.etcd_watch.PROGRESS_SECONDS", 0.2)
    now = await put(store, b"a")
    async with store.watch(b"x", b"z", from_revision=now + 1) as batches, asyncio.timeout(10):
        async for batch in batches:
            assert batch.events == ()
            if batch.revision >= now:
                break


async def test_several_watches_each_tell_everything(store):
    now = await put(store, b"start")

    async def follow(start: bytes, end: bytes, count: int) -> list[bytes]:
        async with store.watch(start, end, from_revision=now + 1) as batches:
            return [key for key, _, _ in await collect(batches, count)]

    watching = [asyncio.create_task(follow(b"a", b"m", 10)), asyncio.create_task(follow(b"a", b"z", 20))]
    for n in range(10):
        await store.transact(Txn(then=(Put(b"b%d" % n, b""), Put(b"n%d" % n, b""))))
    few, all_ = await asyncio.gather(*watching)
    assert few == [b"b%d" % n for n in range(10)]
    assert all_ == [key for n in range(10) for key in (b"b%d" % n, b"n%d" % n)]


# --- leases -----------------------------------------------------------------------------------------------


async def test_keys_of_a_revoked_lease_vanish_at_once_and_watches_tell_it(store):
    lease = await store.grant_lease(60)
    await put(store, b"a", b"1", lease)
    now = await put(store, b"b", b"2", lease)
    assert (await store.get(b"a")).lease == lease
    await put(store, b"b", b"3")
    await store.revoke_lease(lease)
    assert await keys_of(store) == [b"b"]
    async with store.watch(b"a", b"z", from_revision=now + 2) as batches:
        assert await collect(batches, 1) == [(b"a", None, now + 2)]
    await store.revoke_lease(lease)


async def test_a_put_under_an_ended_lease_is_refused(store):
    lease = await store.grant_lease(60)
    await store.revoke_lease(lease)
    with pytest.raises(RequestRefusedError):
        await put(store, b"a", b"1", lease)
    assert await store.get(b"a") is None
    assert not await store.keep_alive(lease)


async def test_a_lease_lives_while_it_is_kept_alive_and_ends_when_it_is_not(subject):
    store = subject.store
    lease = await store.grant_lease(2)
    await put(store, b"a", b"1", lease)
    started = time.monotonic()
    while time.monotonic() < started + 2.5 * subject.second:
        assert await store.keep_alive(lease)
        await asyncio.sleep(0.3 * subject.second)
    assert await store.get(b"a") is not None
    async with asyncio.timeout(10):
        while await store.get(b"a") is not None:
            await asyncio.sleep(0.1)
    assert not await store.keep_alive(lease)


async def test_a_store_that_answers_passes_its_check(store):
    await store.check()


def test_the_end_of_a_prefix_is_the_first_key_behind_it():
    assert prefix_end(b"a/") == b"a0"
    assert prefix_end(b"a\xff\xff") == b"b"
    with pytest.raises(ValueError, match="0xFF"):
        prefix_end(b"\xff")
