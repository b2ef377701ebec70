"""Deletions and hints over two notification servers and L1 on real sockets, stores in memory."""

import pytest
from notify_bed import next_message, until
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from moorage_nodes.metadata import keys as l1_keys
from moorage_nodes.notify import delivery as delivery_module
from moorage_nodes.notify import keys
from moorage_nodes.stores.contracts import Delete, Txn
from moorage_nodes.tokens import Audience

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


async def test_a_client_that_acknowledges_before_l1_has_told_the_notifier_is_not_waited_for(
    bed, user, monkeypatch
):
    """The other of a user's devices may know of a deletion from the one that began it."""
    await bed.make_file(user, "f")
    await bed.register(user, "laptop", "phone")
    deletions = bed.l1.server.context.deletions
    monkeypatch.setattr(deletions, "kick", lambda *_: None)  # nobody has come to telling yet
    notification_id = await bed.delete(user, "f", client_id="phone")
    stranger = await bed.acknowledge(user, notification_id, "nobody")
    assert stranger.status_code == 404
    answer = await bed.acknowledge(user, notification_id, "laptop", at=1)
    assert (answer.status_code, answer.json()) == (200, {"status": "acknowledged"})
    monkeypatch.undo()
    deletions.kick(user, notification_id)
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
        assert message in (await bed.poll(user, "laptop", batch=True))["messages"]
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
