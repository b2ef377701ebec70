"""Ids of uploads: they say what a commit must know before it can read the upload's record.

`f` (one file) or `b` (several), or `c` alone for one of the collector's own; a tag of the files, `p` (the client planned its manifests) or `s` (the short form),
80 random bits. By kind and tag one finds the uploads of the same files without a look at any other.
"""

import hashlib
import random
from collections.abc import Iterable

TAG_CHARS = 12
COLLECTOR_UPLOADS = "c"  # what the ids of the collector's own uploads begin with


def build_tag(file_ids: Iterable[str], *, several_files: bool) -> str:
    """What the ids of all uploads of exactly these files begin with."""
    digest = hashlib.sha256("\n".join(file_ids).encode()).hexdigest()
    return ("b" if several_files else "f") + digest[:TAG_CHARS]


def build_upload_id(tag: str, rng: random.Random, *, short_form: bool) -> str:
    return f"{tag}{'s' if short_form else 'p'}{rng.getrandbits(80):020x}"


def build_collector_upload_id(rng: random.Random) -> str:
    return f"{COLLECTOR_UPLOADS}{rng.getrandbits(96):024x}"


def is_of_collector(upload_id: str) -> bool:
    return upload_id.startswith(COLLECTOR_UPLOADS)


def is_of_several_files(upload_id: str) -> bool:
    return upload_id.startswith("b")


def is_short_form(upload_id: str) -> bool:
    """Of one file, without a manifest of its own."""
    return upload_id.startswith("f") and upload_id[1 + TAG_CHARS : 2 + TAG_CHARS] == "s"
