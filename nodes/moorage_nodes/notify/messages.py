"""What clients are told, encoded once for all who are told it (PROTOCOL.md, Deletion 3, and Clients and changes)."""

import msgspec

from moorage.core.times import format_time
from moorage.core.wire import ChangeMessage, DeleteMessage, ResyncMessage
from moorage_nodes.notify.keys import Hint, Notification

RESYNC = msgspec.json.encode(ResyncMessage()).decode()


def encode_delete(notification_id: str, notification: Notification) -> str:
    message = DeleteMessage(
        file_id=notification.node,
        notification_id=notification_id,
        deadline=format_time(notification.deadline),
        node=notification.kind,
    )
    return msgspec.json.encode(message).decode()


def encode_change(hint: Hint) -> str:
    return msgspec.json.encode(ChangeMessage(cursor=hint.cursor)).decode()
