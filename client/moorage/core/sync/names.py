"""Names that the sync rule makes up or compares: conflict copies, places held for a moment, equal spellings."""

import hashlib
import re
import unicodedata

from moorage.core.errors import InvalidFieldError
from moorage.core.ids import MAX_NAME_BYTES, parse_name

_MAX_DEVICE_CHARS = 40


def name_key(name: str, *, folds_case: bool) -> str:
    """What two names share exactly when one directory cannot hold both.

    Two spellings in Unicode are one name on the server (NFC). Upper and lower case differ there, yet not on
    every local file system.
    """
    composed = unicodedata.normalize("NFC", name)
    return unicodedata.normalize("NFC", composed.casefold()) if folds_case else composed


def stored_name(name: str) -> str | None:
    """The name as the server stores it, or None when it refuses it (`moorage.core.ids.parse_name`)."""
    try:
        return parse_name(name)
    except InvalidFieldError:
        return None


def conflict_name(name: str, device: str, date: str, number: int = 1) -> str:
    """`report (laptop's conflicted copy 2026-11-03).txt`, the second of a day `… 2026-11-03 2).txt`.

    The ending stays at the end, so that the copy opens in the same program. A copy's name is not marked twice by
    the same device on the same day: a plan that was cut short names the copy as before. Always a name that the
    server takes; a long stem is cut at a character.
    """
    mark = _mark(device, date)
    stem, ending = _split_ending(name)
    stem = re.sub(re.escape(mark) + r"( \d+)?\)$", "", stem)
    tail = f"{mark} {number})" if number > 1 else f"{mark})"
    room = MAX_NAME_BYTES - len(tail.encode()) - len(ending.encode())
    while len(stem.encode()) > room:
        stem = stem[:-1]
    return unicodedata.normalize("NFC", stem + tail + ending)


def temporary_name(node: str, device: str) -> str:
    """Where a node waits while two nodes change names. The device finds its own again after a crash: a node at
    this name has not been moved by anybody, it is on its way.
    """
    digest = hashlib.sha256(f"{device}\0{node}".encode(errors="surrogatepass")).hexdigest()
    return f".moorage-moving-{digest[:24]}"


def _mark(device: str, date: str) -> str:
    return f" ({_clean(device) or 'device'}'s conflicted copy {_clean(date)}"


def _clean(text: str) -> str:
    """Free text as part of a name: what the server refuses is left out."""
    composed = unicodedata.normalize("NFC", text[:_MAX_DEVICE_CHARS])
    return "".join(char for char in composed if stored_name("a" + char) is not None)


def _split_ending(name: str) -> tuple[str, str]:
    stem, dot, ending = name.rpartition(".")
    if not dot or not stem or len(ending.encode()) > 16:
        return name, ""
    return stem, dot + ending
