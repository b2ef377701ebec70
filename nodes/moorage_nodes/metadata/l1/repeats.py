"""`Idempotency-Key`: a request that comes again under its key answers exactly as it did first (PROTOCOL.md).

Without a key the plans recognise a repeat by what stands already; with one, the result is kept beside the change,
in the same transaction, so it is exact whatever happened since. A refused request changed nothing and keeps nothing:
under the same key it is judged anew.

A version tells which upload made it, so a commit needs no key to be recognised. Of a version that retention lets go
within the time that requests are remembered, the collector keeps what tells that, under a key that no client can send.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from moorage.core.errors import IdempotencyKeyReusedError, InvalidFieldError
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import Manifest, Remembered
from moorage_nodes.metadata.view import Plan, View

T = TypeVar("T")
HEADER = b"idempotency-key"
_SANE = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Repeat:
    """`key` is of one size whatever the client sent; `arguments` is a digest of operation and arguments."""

    key: str
    arguments: bytes


def parse_repeat(header: str | None, operation: str, *arguments: object) -> Repeat | None:
    """None without the header. `arguments`: strings and request structs, all that decides what is done."""
    if header is None:
        return None
    if not _SANE.fullmatch(header):
        raise InvalidFieldError(
            "`Idempotency-Key` must be 1 to 255 visible ASCII characters.", field="Idempotency-Key"
        )
    return Repeat(_key_of(header), hashlib.sha256(msgspec.msgpack.encode((operation, *arguments))).digest())


def _key_of(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:18]).decode()


def build_past_version(
    namespace: str, file_id: str, version: int, manifest: Manifest
) -> tuple[bytes, Remembered]:
    """The key and value that remember who made a version, and of what, when its manifest goes. The list of chunks is
    left out: the digest over it stays.
    """
    key = keys.idempotency(namespace, _key_of(f"{file_id}\0{version}"))
    rest = replace(manifest, entries=[], segments="")
    return key, Remembered(1, manifest.modified, b"", records.encode(rest))


def observe_past_version(view: View, file_id: str, version: int) -> Manifest | None:
    """What `build_past_version` has kept."""
    key = keys.idempotency(view.namespace, _key_of(f"{file_id}\0{version}"))
    known = view.record(Remembered, key)
    return None if known is None else records.decode(Manifest, known.result)


def plan_recall(repeat: Repeat, kind: type[T]) -> Plan[T | None]:
    """What was answered under this key; None when it is new; 422 when that was with other arguments."""

    def recall(view: View) -> T | None:
        known = view.record(Remembered, keys.idempotency(view.namespace, repeat.key))
        if known is None:
            return None
        if known.arguments != repeat.arguments:
            raise IdempotencyKeyReusedError(
                "This `Idempotency-Key` was used with other arguments; every request needs a key of its own.",
                field="Idempotency-Key",
            )
        return msgspec.msgpack.decode(known.result, type=kind)

    return recall


def plan_once(plan: Plan[T], repeat: Repeat | None, kind: type[T]) -> Plan[T]:
    """`plan`, or what it returned when it first ran under this key; 422 when that was with other arguments.

    `kind` is the plan's result type, which msgpack must carry there and back; its results are never None.
    """
    if repeat is None:
        return plan
    recall = plan_recall(repeat, kind)

    def once(view: View) -> T:
        known = recall(view)
        if known is not None:
            return known
        result = plan(view)
        key = keys.idempotency(view.namespace, repeat.key)
        view.put(key, Remembered(1, view.now, repeat.arguments, msgspec.msgpack.encode(result)))
        return result

    return once
