"""Ids of deletions' notifications say whose they are: the end is a digest of the namespace and the random part.

So an acknowledgement that comes when nothing is kept of a deletion any more is answered as ever to its owner, and is
unknown to everybody else, without a record. It is no secret: who makes up an id of their own gets an answer that
changes nothing.

They begin with `n`, which stands in a key of work where other keys have the letter of their kind, and is none of
those (`moorage_nodes.metadata.keys`).
"""

import hashlib
import random
import re

_RANDOM_DIGITS = 24
_TAG_DIGITS = 12
_ID = re.compile(rf"n[0-9a-f]{{{_RANDOM_DIGITS + _TAG_DIGITS}}}")


def build_notification_id(namespace: str, rng: random.Random) -> str:
    """An id that nobody has used or will guess."""
    fresh = f"{rng.getrandbits(4 * _RANDOM_DIGITS):0{_RANDOM_DIGITS}x}"
    return f"n{fresh}{_tag(namespace, fresh)}"


def belongs_to(notification_id: str, namespace: str) -> bool:
    if not _ID.fullmatch(notification_id):
        return False
    fresh, tag = notification_id[1:-_TAG_DIGITS], notification_id[-_TAG_DIGITS:]
    return tag == _tag(namespace, fresh)


def _tag(namespace: str, fresh: str) -> str:
    return hashlib.sha256(f"{namespace}/{fresh}".encode()).hexdigest()[:_TAG_DIGITS]
