"""`Idempotency-Key` on the beginning of an upload: the same again names the same upload, while that is open.

The upload and what was answered are written in one transaction, which moves the head, so of two that come at once only
one begins an upload. What was to be sent is kept as places in the manifest to be: a bit for each.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from moorage.core.errors import MoorageError, error_from_answer
from moorage_nodes.metadata import keys
from moorage_nodes.metadata.l1.repeats import Repeat, plan_recall
from moorage_nodes.metadata.records import Remembered, Upload
from moorage_nodes.metadata.view import Plan, View
from moorage_nodes.stores.contracts import KeyValue

Places = Sequence[int]
Found = Places | MoorageError | None
"""Of one file: which of its planned chunks were to be sent; why it is not of the upload; None: the short form."""


class Answered(Struct, array_like=True, frozen=True):
    """What `/update` answered: the upload and, of each file, a bitmap, an error as it was told, or nil."""

    upload_id: str
    files: list[bytes | dict[str, object] | None]

    def found(self) -> list[Found]:
        return [_unpack(each) for each in self.files]


def build_answered(upload_id: str, found: Sequence[Found]) -> Answered:
    return Answered(upload_id, [_pack(each) for each in found])


def plan_answered(repeat: Repeat) -> Plan[Answered | None]:
    """What was answered under this key, if the upload is open still; 422 when that was with other arguments."""
    recall = plan_recall(repeat, Answered)

    def plan(view: View) -> Answered | None:
        known = recall(view)
        return known if known is not None and _is_open(view, known.upload_id) else None

    return plan


def plan_begin_once(
    repeat: Repeat, answered: Answered, upload: Upload, unused: Sequence[KeyValue]
) -> Plan[Answered]:
    """Put the upload's record and what is answered, and end those in whose place it comes, if they are still as they
    were; or what was answered first.
    """
    known_answer = plan_answered(repeat)

    def plan(view: View) -> Answered:
        known = known_answer(view)
        if known is not None:
            return known
        put_in_place(view, answered.upload_id, upload, unused)
        result = msgspec.msgpack.encode(answered)
        view.put(
            keys.idempotency(view.namespace, repeat.key), Remembered(1, view.now, repeat.arguments, result)
        )
        return answered

    return plan


def put_in_place(view: View, upload_id: str, upload: Upload, unused: Sequence[KeyValue]) -> None:
    """Put an upload's record, and end those in whose place it comes, if they are still as they were. The head moves
    with it: a commit under one of those that was planned before is not carried out any more, so that nobody is told
    of its end and sees its version afterwards.
    """
    view.need_fresh([kv.key for kv in unused])
    for kv in unused:
        now = view.fresh(kv.key)
        if now is not None and now.mod_revision == kv.mod_revision and not view.touched(kv.key):
            view.require(now)
            view.delete(kv.key)
    view.put(keys.upload(view.namespace, upload_id), upload)


def _is_open(view: View, upload_id: str) -> bool:
    return view.upload(keys.upload(view.namespace, upload_id)) is not None


def _pack(found: Found) -> bytes | dict[str, object] | None:
    if isinstance(found, MoorageError):
        return found.as_answer()
    if found is None:
        return None
    bits = bytearray(max(found, default=-1) // 8 + 1)
    for place in found:
        bits[place // 8] |= 1 << place % 8
    return bytes(bits)


def _unpack(kept: bytes | dict[str, object] | None) -> Found:
    if isinstance(kept, dict):
        return error_from_answer(kept)
    if kept is None:
        return None
    return [8 * index + bit for index, byte in enumerate(kept) if byte for bit in range(8) if byte >> bit & 1]
