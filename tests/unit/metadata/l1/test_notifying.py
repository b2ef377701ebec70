"""What L1 sends to the notifier for a deletion."""

from typing import Any

import msgspec
import pytest
from upload_bed import NAMESPACE, Bed, hash_of

from moorage_nodes.metadata.l1 import let_go
from moorage_nodes.metadata.l1.deletion import plan_observe
from moorage_nodes.metadata.l1.devices import plan_register
from moorage_nodes.metadata.l1.notifying import Notifying
from moorage_nodes.peer_api import MAX_NOTIFIED_CHUNKS, NotifyDeletionRequest


class Heard:
    """Reads each call as the notification servers do; what they do with it is tested with them (tests/unit/notify)."""

    def __init__(self) -> None:
        self.calls: list[NotifyDeletionRequest] = []

    async def post(self, path: str, body: object, answer: type[Any]) -> Any:
        assert path == "/notify_deletion"
        self.calls.append(msgspec.json.decode(msgspec.json.encode(body), type=NotifyDeletionRequest))
        return msgspec.convert({"status": "notifications_queued"}, answer)


async def told(bed: Bed, notification_id: str) -> list[NotifyDeletionRequest]:
    heard = Heard()
    notifying: Any = Notifying(bed.store, heard, "c1")  # type: ignore[arg-type]
    deletion = await bed.engine.read(NAMESPACE, plan_observe(notification_id))
    await notifying.tell(NAMESPACE, notification_id, deletion)
    return heard.calls


async def register(bed: Bed, *clients: str) -> None:
    for client in clients:
        await bed.engine.change(NAMESPACE, lambda view, c=client: plan_register(view, c, None))


def test_a_part_takes_as_many_chunks_as_are_found_at_once():
    assert let_go.MARKED_TOGETHER <= MAX_NOTIFIED_CHUNKS


async def test_chunks_come_in_parts_and_the_last_says_so(bed: Bed, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(let_go, "MARKED_TOGETHER", 2)
    await register(bed, "a", "b", "mine")
    chunks = {f"c{number}": b"%d" % number for number in range(5)}
    await bed.write("f", 0, chunks)
    answer = await bed.delete("f", 1, client="mine")
    calls = await told(bed, answer.notification_id)
    assert [(call.part.index, call.part.last) for call in calls] == [(0, False), (1, False), (2, True)]
    assert {chunk for call in calls for chunk in call.chunk_ids} == set(map(hash_of, chunks.values()))
    for call in calls:
        assert (call.namespace, call.server_key, call.file_id, call.node) == (NAMESPACE, "c1", "f", "file")
        assert call.notification_id == answer.notification_id
        assert call.client_ids == ["a", "b"]


async def test_an_empty_file_is_one_part(bed: Bed):
    await register(bed, "a")
    begun = await bed.begin("f", 0)
    await bed.commit(begun.id, "f", 1, [])
    answer = await bed.delete("f", 1)
    (call,) = await told(bed, answer.notification_id)
    assert (call.chunk_ids, call.part.index, call.part.last) == ([], 0, True)


async def test_a_directory_is_one_part_without_chunks(bed: Bed):
    await register(bed, "a")
    await bed.mkdir("d", "/d")
    answer = await bed.delete_directory("d")
    (call,) = await told(bed, answer.notification_id)
    assert (call.file_id, call.node, call.chunk_ids) == ("d", "directory", [])
