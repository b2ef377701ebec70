"""Deletions and hints over two notification servers and L1 on real sockets, stores in memory."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from notify_bed import PATIENCE, Bed, next_message, running_bed
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from moorage_nodes.metadata import keys as l1_keys
from moorage_nodes.notify import delivery as delivery_module
from moorage_nodes.notify import keys
from moorage_nodes.stores.contracts import Delete, Put, Txn, WatchBatch
from moorage_nodes.tokens import Audience


@pytest.fixture(scope="module")
async def bed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bed]:
    async with running_bed(tmp_path_factory.mktemp("realm")) as running:
        yield running


@pytest.fixture
def user(bed: Bed) -> str:
    return bed.new_user()


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


# --- the flow ----------------------------------------------------------------------------------------------------


async def test_told_by_one_replica_and_acknowledged_at_the_other(bed, user):
    await bed.make_file(user, "f")
    async with bed.listen(user, "laptop", at=0) as socket:
        notification_id = await bed.delete(user, "f", client_id="phone")
        message = await next_message(socket, "delete")
        assert message.keys() == {"type", "file_id", "notification_id", "deadline", "node"}
        assert (message["file_id"], message["notification_id"]) == ("f", notification_id)
        assert await bed.state_of(user, "f") == "pending_deletion"
        for at in (1, 0, 1):
            answer = await bed.acknowledge(user, notification_id, "laptop", at=at)
            assert (answer.status_code, answer.json()) == (200, {"status": "acknowledged"})
        await bed.until_deleted(user, "f")
        late = await bed.acknowledge(user, notification_id, "laptop")
        assert late.json() == {"status": "acknowledged"}


async def test_all_but_the_deleting_client_are_waited_for(bed, user):
    await bed.make_file(user, "f")
    await bed.register(user, "a", "b", "c")
    notification_id = await bed.delete(user, "f", client_id="b")
    for client in ("a", "c"):
        assert (await bed.poll(user, client))["notification_id"] == notification_id
    assert (await bed.acknowledge(user, notification_id, "b")).status_code == 404
    await bed.acknowledge(user, notification_id, "a")
    assert await bed.state_of(user, "f") == "pending_deletion"
    await bed.acknowledge(user, notification_id, "c", at=1)
    await bed.until_deleted(user, "f")


async def test_without_other_clients_nobody_is_waited_for(bed, user):
    await bed.make_file(user, "f")
    await bed.register(user, "mine")
    await bed.delete(user, "f", client_id="mine")
    await bed.until_deleted(user, "f")


async def test_a_directory_is_one_message(bed, user):
    await bed.ask_l1(user, "PUT", "/create_directory/d", {"path": "/d", "parent_dir_id": "root"})
    for number in range(5):
        body = {"parent_dir_id": "d", "name": f"f{number}"}
        await bed.ask_l1(user, "PUT", f"/create_file/f{number}", body)
    async with bed.listen(user, "laptop") as socket:
        answer = await bed.ask_l1(user, "DELETE", "/delete_directory/d", {"recursive": True})
        message = await next_message(socket, "delete")
        assert (message["file_id"], message["node"]) == ("d", "directory")
        assert (await bed.poll(user, "laptop", batch=True))["messages"] == [message]
        await bed.acknowledge(user, answer["notification_id"], "laptop")
        await bed.until_deleted(user, "d")


async def test_it_is_told_again_on_every_connection_until_acknowledged(bed, user):
    await bed.make_file(user, "f")
    await bed.register(user, "laptop")
    notification_id = await bed.delete(user, "f")
    for at in (0, 1, 0):
        async with bed.listen(user, "laptop", at=at) as socket:
            assert (await next_message(socket, "delete"))["notification_id"] == notification_id
    await bed.acknowledge(user, notification_id, "laptop")
    async with bed.listen(user, "laptop", at=1) as socket:
        await bed.make_file(user, "g")
        assert (await next_message(socket))["type"] == "change"


async def test_undelete_while_pending_cancels_and_what_is_late_changes_nothing(bed, user):
    await bed.make_file(user, "f")
    await bed.register(user, "laptop")
    notification_id = await bed.delete(user, "f")
    assert (await bed.poll(user, "laptop"))["notification_id"] == notification_id
    await bed.ask_l1(user, "POST", "/undelete/f")
    assert (await bed.acknowledge(user, notification_id, "laptop")).json() == {"status": "acknowledged"}
    body = {
        "namespace": user,
        "notification_id": notification_id,
        "acknowledged_clients": ["laptop"],
        "unresponsive_clients": [],
    }
    status = await bed.http.post(
        f"{bed.l1.internal}/deletion_status",
        headers=bed.service("notify", Audience.SERVICE_L1),
        json=body,
    )
    assert status.json() == {"status": "proceed_with_deletion"}
    assert await bed.state_of(user, "f") == "live"

    async def withdrawn() -> bool:
        notification = await bed.notifiers[1].notifier.queue.get(user, notification_id)
        return notification.settled

    await until(withdrawn)


async def test_an_outcome_may_be_told_often_early_and_of_what_nobody_knows(bed, user):
    await bed.make_file(user, "f")
    await bed.register(user, "laptop")
    notification_id = await bed.delete(user, "f")
    headers = bed.service("notify", Audience.SERVICE_L1)
    for each in (notification_id, notification_id, "n-unknown"):
        body = {
            "namespace": user,
            "notification_id": each,
            "acknowledged_clients": [],
            "unresponsive_clients": ["laptop"],
        }
        answer = await bed.http.post(f"{bed.l1.internal}/deletion_status", headers=headers, json=body)
        assert answer.json() == {"status": "proceed_with_deletion"}
    await bed.until_deleted(user, "f")
    found, _ = await bed.tree.range(*l1_keys.parked_range())
    assert f"p/{user}/{notification_id}".encode() not in {kv.key for kv in found.kvs}


async def test_the_same_notification_in_parts_and_again_is_one(bed, user):
    headers = bed.service("l1", Audience.SERVICE_NOTIFY)
    body = {
        "namespace": user,
        "server_key": "c1",
        "file_id": "f",
        "notification_id": "n-in-parts",
        "client_ids": ["laptop"],
        "chunk_ids": ["sha256_" + "0" * 64] * 1000,
    }
    await bed.register(user, "laptop")

    async def send(index: int, *, last: bool) -> None:
        part = {"index": index, "last": last}
        answer = await bed.http.post(
            f"{bed.notifiers[index % 2].internal}/notify_deletion",
            headers=headers,
            json={**body, "part": part},
        )
        assert answer.json() == {"status": "notifications_queued"}

    await send(0, last=False)
    assert await bed.poll(user, "laptop", timeout=0) is None
    await send(1, last=True)
    await send(1, last=True)
    await send(0, last=False)
    messages = (await bed.poll(user, "laptop", batch=True))["messages"]
    assert [each["notification_id"] for each in messages] == ["n-in-parts"]
    too_many = {**body, "chunk_ids": ["c"] * 1001}
    answer = await bed.http.post(
        f"{bed.notifiers[0].internal}/notify_deletion", headers=headers, json=too_many
    )
    assert answer.status_code == 422


# --- who may -------------------------------------------------------------------------------------------------------


async def test_another_users_notifications_are_unknown(bed, user):
    bob = bed.new_user()
    await bed.make_file(user, "f")
    await bed.register(user, "laptop")
    await bed.register(bob, "laptop")
    notification_id = await bed.delete(user, "f")
    assert (await bed.acknowledge(bob, notification_id, "laptop")).status_code == 404
    assert await bed.poll(bob, "laptop", timeout=0) is None
    assert (await bed.acknowledge(user, notification_id, "nobodys")).status_code == 404
    await bed.acknowledge(user, notification_id, "laptop")
    await bed.until_deleted(user, "f")
    assert (await bed.acknowledge(bob, notification_id, "laptop")).status_code == 404
    assert (await bed.acknowledge(user, notification_id, "nobodys")).status_code == 404


async def test_when_nothing_is_kept_of_it_its_owner_is_answered_as_ever(bed, user):
    bob = bed.new_user()
    await bed.make_file(user, "f")
    await bed.register(user, "laptop")
    await bed.register(bob, "laptop")
    notification_id = await bed.delete(user, "f")
    await bed.acknowledge(user, notification_id, "laptop")
    await bed.until_deleted(user, "f")
    await bed.queues.transact(Txn(then=(Delete(keys.notification(user, notification_id)),)))
    assert (await bed.acknowledge(user, notification_id, "laptop")).json() == {"status": "acknowledged"}
    assert (await bed.acknowledge(user, notification_id, "nobodys")).status_code == 404
    assert (await bed.acknowledge(bob, notification_id, "laptop")).status_code == 404
    assert (await bed.acknowledge(user, "n" + "0" * 36, "laptop")).status_code == 404


@pytest.mark.parametrize("changes", [{"ttl": -5}, {"server_key": "elsewhere"}])
async def test_who_may_not_is_refused_before_the_upgrade(bed, user, changes):
    with pytest.raises(InvalidStatus) as refused:
        async with bed.listen(user, "laptop", **changes):
            pass
    response = refused.value.response
    expected = (401, b"unauthenticated") if "ttl" in changes else (421, b"wrong_cluster")
    assert response.status_code == expected[0]
    assert expected[1] in response.body
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("client_id", ["", "a%2Fb", ".", "x" * 129])
async def test_a_bad_client_id_is_refused_before_the_upgrade(bed, user, client_id):
    with pytest.raises(InvalidStatus) as refused:
        async with bed.listen(user, client_id):
            pass
    assert refused.value.response.status_code == 422


async def test_a_websocket_without_the_upgrade_is_told_so(bed, user):
    url = f"{bed.notifiers[0].public}/ws?client_id=a"
    answer = await bed.http.get(url, headers=bed.bearer(user))
    assert (answer.status_code, answer.json()["error"]) == (400, "malformed")
    assert (await bed.http.get(url)).status_code == 401


async def test_there_are_no_websockets_elsewhere(bed, user):
    url = bed.notifiers[0].public.replace("http", "ws")
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{url}/poll", additional_headers=bed.bearer(user), proxy=None):
            pass
    assert refused.value.response.status_code == 404
    url = bed.l1.public.replace("http", "ws")
    with pytest.raises(InvalidStatus):
        async with connect(f"{url}/ws?client_id=a", additional_headers=bed.bearer(user), proxy=None):
            pass


INTERNAL = ["/notify_deletion", "/internal/changes", "/internal/withdraw"]


@pytest.mark.parametrize("path", INTERNAL)
async def test_internal_calls_want_a_service_token_of_the_notifiers_audience(bed, user, path):
    notifier = bed.notifiers[0]
    for headers in (
        {},
        bed.bearer(user),
        bed.service("l1", Audience.SERVICE_L2),
        bed.service("notify", Audience.SERVICE_L1),
    ):
        answer = await bed.http.post(notifier.internal + path, headers=headers, json={})
        assert answer.status_code == 401, headers
        assert (await bed.http.post(notifier.public + path, headers=headers, json={})).status_code == 404
    headers = bed.service("l1", Audience.SERVICE_NOTIFY)
    assert (await bed.http.post(notifier.internal + path, headers=headers, json={})).status_code == 422


@pytest.mark.parametrize("path", ["/deletion_status", "/internal/clients"])
async def test_so_do_those_of_l1(bed, user, path):
    for headers in ({}, bed.bearer(user), bed.service("l1", Audience.SERVICE_NOTIFY)):
        assert (await bed.http.post(bed.l1.internal + path, headers=headers, json={})).status_code == 401
        assert (await bed.http.post(bed.l1.public + path, headers=headers, json={})).status_code == 404


async def test_a_websocket_has_one_line_in_the_access_log_without_its_query_and_token(bed, user):
    async with bed.listen(user, "its-id"):
        pass
    with pytest.raises(InvalidStatus):
        async with bed.listen(user, "its-id", ttl=-5):
            pass

    def lines_of_sockets():
        return [line for line in bed.notifiers[0].lines() if line["method"] == "WEBSOCKET"]

    async def told() -> bool:
        return lines_of_sockets()[-1]["status"] == 401

    await until(told)
    ended, refused = lines_of_sockets()[-2:]
    assert (ended["route"], ended["status"], ended["path"]) == ("/ws", 101, "/ws")
    assert (refused["status"], refused["error"], refused["reason"]) == (401, "unauthenticated", "expired")
    assert b"its-id" not in bed.notifiers[0].stream.getvalue()
    assert b"Bearer" not in bed.notifiers[0].stream.getvalue()


# --- clients -------------------------------------------------------------------------------------------------------


async def test_connecting_and_polling_register_a_client(bed, user):
    async with bed.listen(user, "by-socket"):
        pass
    await bed.poll(user, "by-poll", timeout=0)
    await bed.register(user, "by-name")
    await bed.make_file(user, "f")
    notification_id = await bed.delete(user, "f")
    for client in ("by-socket", "by-poll", "by-name"):
        assert (await bed.poll(user, client))["notification_id"] == notification_id


async def test_connecting_leaves_a_clients_name_as_it_is(bed, user):
    await bed.ask_l1(user, "PUT", "/clients/laptop", {"name": "Ada's laptop"})
    async with bed.listen(user, "laptop"):
        pass
    kv = await bed.tree.get(l1_keys.device(user, "laptop"))
    assert b"Ada's laptop" in kv.value


async def test_a_user_has_so_many_connections_and_others_theirs(bed, user, monkeypatch):
    monkeypatch.setattr(delivery_module, "USER_CONNECTIONS", 2)
    async with bed.listen(user, "a"), bed.listen(user, "b"):
        with pytest.raises(InvalidStatus) as refused:
            async with bed.listen(user, "c"):
                pass
        assert refused.value.response.status_code == 429
        assert refused.value.response.headers["retry-after"]
        answer = await bed.http.get(
            f"{bed.notifiers[0].public}/poll?client_id=c&timeout=0", headers=bed.bearer(user)
        )
        assert answer.status_code == 429
        async with bed.listen(bed.new_user(), "a"):
            pass

    async def has_room() -> bool:
        try:
            async with bed.listen(user, "c"):
                return True
        except InvalidStatus:
            return False

    await until(has_room)


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
        for number in range(40):
            await bed.make_file(user, f"f{number}")
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
