"""Hints, polls, starting over, and what clients send: two notification servers and L1 on real sockets."""

import asyncio

import pytest
from notify_bed import Bed, next_message, until
from websockets.exceptions import ConnectionClosed

from moorage_nodes.notify import keys
from moorage_nodes.stores.contracts import Put, Txn, WatchBatch

# --- hints ---------------------------------------------------------------------------------------------------------


async def test_a_change_is_hinted_to_whoever_waits_with_a_cursor_that_feed_knows(bed, user):
    start = await bed.ask_l1(user, "GET", "/changes")
    async with bed.listen(user, "a", at=0) as one, bed.listen(user, "b", at=1) as other:
        poll = asyncio.create_task(bed.poll(user, "c", timeout=20, at=1))
        await asyncio.sleep(0.3)
        await bed.make_file(user, "f")
        hints = [await next_message(one), await next_message(other), await poll]
        assert {hint["type"] for hint in hints} == {"change"}
    changes = await bed.ask_l1(user, "GET", f"/changes?cursor={start['cursor']}")
    assert hints[0]["cursor"] == changes["cursor"]
    assert [change["id"] for change in changes["changes"]] == ["f"]


async def test_many_changes_are_few_hints_and_the_last_is_the_newest(bed, user):
    async with bed.listen(user, "a") as socket:
        # At once: made one by one on a busy machine, each would be a while behind the one before.
        await asyncio.gather(*(bed.make_file(user, f"f{number}") for number in range(40)))
        newest = (await bed.ask_l1(user, "GET", "/changes"))["cursor"]
        count = 1
        while (await next_message(socket))["cursor"] != newest:
            count += 1
        assert count < 40


async def test_a_change_between_two_polls_is_told_by_the_second(bed, user):
    assert await bed.poll(user, "a", timeout=0) is None
    await bed.make_file(user, "f")
    assert (await bed.poll(user, "a", timeout=20))["type"] == "change"
    assert await bed.poll(user, "a", timeout=0) is None


async def test_a_change_between_two_polls_is_told_though_another_server_answers_the_second(bed, user):
    assert await bed.poll(user, "a", timeout=0) is None
    await bed.make_file(user, "f")
    assert (await bed.poll(user, "a", timeout=20))[
        "type"
    ] == "change"  # so all servers have heard of it, or will
    assert (await bed.poll(user, "a", timeout=20, at=1))["type"] == "change"
    assert await bed.poll(user, "a", timeout=0, at=1) is None


async def test_nobody_is_told_of_anothers_changes(bed, user):
    async with bed.listen(bed.new_user(), "a") as socket:
        await bed.make_file(user, "f")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await socket.recv()


# --- polls ---------------------------------------------------------------------------------------------------------


async def test_a_poll_answers_one_message_until_that_is_acknowledged_or_all_with_batch(bed, user):
    await bed.register(user, "a")
    ids = []
    for number in range(3):
        await bed.make_file(user, f"f{number}")
        ids.append(await bed.delete(user, f"f{number}"))
    await until(lambda: _has(bed, user, 3))
    batch = (await bed.poll(user, "a", batch=True))["messages"]
    told = [each["notification_id"] for each in batch if each["type"] == "delete"]
    assert sorted(told) == sorted(ids)
    for each in told:
        assert (await bed.poll(user, "a"))["notification_id"] == each
        assert (await bed.poll(user, "a", at=1))["notification_id"] == each
        await bed.acknowledge(user, each, "a")
    rest = await bed.poll(user, "a", at=1, timeout=0)
    assert rest is None or rest["type"] == "change"


async def _has(bed: Bed, user: str, count: int) -> bool:
    found, _ = await bed.queues.range(*keys.notifications_range(user))
    return len(found.kvs) == count


@pytest.mark.parametrize(
    "query", ["", "client_id=a&timeout=-1", "client_id=a&timeout=x", "client_id=a&batch=2"]
)
async def test_a_bad_poll_is_refused(bed, user, query):
    answer = await bed.http.get(f"{bed.notifiers[0].public}/poll?{query}", headers=bed.bearer(user))
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid_field")


# --- to start over -------------------------------------------------------------------------------------------------


async def test_a_full_queue_tells_the_client_to_start_over_then_goes_on(bed, user):
    await bed.register(user, "away")
    for number in range(6):  # one more than its queue takes
        await bed.make_file(user, f"f{number}")
        await bed.delete(user, f"f{number}")
        await until(lambda number=number: _has(bed, user, number + 1))
    async with bed.listen(user, "away") as socket:
        assert (await next_message(socket))["type"] == "resync"
        await until(lambda: _is_told(bed, user, "away"))
        await bed.make_file(user, "after")
        notification_id = await bed.delete(user, "after")
        assert (await next_message(socket, "delete"))["notification_id"] == notification_id
    async with bed.listen(user, "away", at=1) as socket:
        assert (await next_message(socket))["type"] == "delete"
    # What it was not told of it may acknowledge all the same; who is not registered may not.
    found, _ = await bed.queues.range(*keys.notifications_range(user))
    for kv in found.kvs:
        each = keys.parse_notification(kv.key)[1]
        assert (await bed.acknowledge(user, each, "nobodys")).status_code == 404
        assert (await bed.acknowledge(user, each, "away")).status_code == 200


async def _is_told(bed: Bed, user: str, client: str) -> bool:
    return not (await bed.notifiers[0].notifier.queue.waiting(user, client)).resync


async def test_a_poller_is_told_to_start_over_too(bed, user):
    await bed.poll(user, "a", timeout=0)
    await bed.notifiers[0].notifier.queue.ask_resync(user, "a")
    assert (await bed.poll(user, "a", at=1))["type"] == "resync"
    assert await bed.poll(user, "a", timeout=0) in (None, {"type": "resync"})


async def test_when_the_watch_loses_events_all_start_over_and_are_told_what_waits(bed, user):
    await bed.register(user, "a")
    await bed.make_file(user, "f")
    notification_id = await bed.delete(user, "f")
    async with bed.listen(user, "a") as socket:
        await next_message(socket, "delete")
        bed.notifiers[0].notifier.delivery.hub.handle(WatchBatch(1, resync=True))
        assert (await next_message(socket))["type"] == "resync"
        assert (await next_message(socket))["notification_id"] == notification_id


async def test_a_record_of_a_newer_server_does_not_stop_the_others(bed, user):
    async with bed.listen(user, "a") as socket:
        await bed.queues.transact(Txn(then=(Put(keys.hint(user), b"\x92\x63\xa1x"),)))
        await bed.make_file(user, "f")
        assert (await next_message(socket))["type"] == "change"


# --- what clients send ---------------------------------------------------------------------------------------------


async def test_what_a_client_says_means_nothing(bed, user):
    async with bed.listen(user, "a") as socket:
        for said in ("hello", "{}", b"\x00\xff"):
            await socket.send(said)
        await socket.ping()
        await bed.make_file(user, "f")
        assert (await next_message(socket))["type"] == "change"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\xfe\x20\x00" + b"\0" * 4 + b"x" * 8192, 1009),  # 8 KiB of text
        (b"\x81\x05hello", 1002),  # not masked
        (b"\x83\x80\0\0\0\0", 1002),  # no such opcode
        (b"\xc1\x80\0\0\0\0", 1002),  # a reserved bit
        (b"\x81\x82\0\0\0\0\xff\xfe", 1007),  # text that is not UTF-8
        (b"\x89\xfe\x01\x00" + b"\0" * 4 + b"x" * 256, 1002),  # a ping that is too long
    ],
)
async def test_a_wrong_frame_ends_its_connection_alone(bed, user, frame: bytes, code: int):
    async with bed.listen(user, "good") as good, bed.listen(user, "bad") as bad:
        bad.transport.write(frame)
        with pytest.raises(ConnectionClosed) as closed:
            await next_message(bad, "never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
        await bed.make_file(user, "f")
        assert (await next_message(good))["type"] == "change"
