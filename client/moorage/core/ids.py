"""Ids, names, paths and hashes (PROTOCOL.md, Words): parse once at the edge, trust inside.

All functions are pure and raise `InvalidFieldError` with the field's path and what was expected.
"""

import re
import unicodedata

from moorage.core.errors import InvalidFieldError

MAX_CHUNK_BYTES = 8 * 1024 * 1024
MAX_NAME_BYTES = 255
MAX_PATH_DEPTH = 256
MAX_VERSION = 2**53 - 1
HASH_PREFIX = "sha256_"

_ID = re.compile(r"[A-Za-z0-9_.:\-]{1,128}")
_HASH = re.compile(r"sha256_[0-9a-f]{64}")
_USERNAME = re.compile(r"[A-Za-z0-9_.@+\-]{1,64}")
# Unicode categories that a name may not hold: control, format (bidi and zero-width), surrogate,
# private use, line and paragraph separators. U+200D joins emoji and U+200C is needed in Persian.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_ALLOWED_FORMAT = frozenset({"\u200c", "\u200d"})


def parse_id(text: str, field: str = "id") -> str:
    if not _ID.fullmatch(text) or text in {".", ".."}:
        raise InvalidFieldError(
            f"`{field}` must be 1 to 128 of A-Z a-z 0-9 _ . : - and not `.` or `..`.", field=field
        )
    return text


def parse_username(text: str, field: str = "username") -> str:
    if not _USERNAME.fullmatch(text) or text in {".", ".."}:
        raise InvalidFieldError(
            f"`{field}` must be 1 to 64 of A-Z a-z 0-9 _ . @ + - and not `.` or `..`.", field=field
        )
    return text


def parse_hash(text: str, field: str = "hash") -> bytes:
    """`sha256_<64 lower-case hex digits>` as its 32 bytes."""
    if not _HASH.fullmatch(text):
        raise InvalidFieldError(f"`{field}` must be `sha256_` and 64 lower-case hex digits.", field=field)
    return bytes.fromhex(text[len(HASH_PREFIX) :])


def format_hash(digest: bytes) -> str:
    return HASH_PREFIX + digest.hex()


def parse_chunk_id(text: str, field: str = "chunk_id") -> str:
    """An id; one that looks like a hash is checked against the bytes by whoever has both."""
    return parse_id(text, field)


def is_hash(text: str) -> bool:
    return _HASH.fullmatch(text) is not None


def parse_name(text: str, field: str = "name") -> str:
    """One path component, stored as NFC: two spellings are one name."""
    try:
        name = unicodedata.normalize("NFC", text)
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidFieldError(f"`{field}` is not valid Unicode.", field=field) from None
    if name in {"", ".", ".."}:
        raise InvalidFieldError(f"`{field}` must not be empty, `.` or `..`.", field=field)
    if size > MAX_NAME_BYTES:
        raise InvalidFieldError(
            f"`{field}` is {size} bytes, at most {MAX_NAME_BYTES} are allowed.", field=field
        )
    for char in name:
        if char == "/" or (
            unicodedata.category(char) in _FORBIDDEN_CATEGORIES and char not in _ALLOWED_FORMAT
        ):
            raise InvalidFieldError(
                f"`{field}` holds U+{ord(char):04X}; `/`, control and invisible characters are not allowed.",
                field=field,
            )
    return name


def parse_path(text: str, field: str = "path") -> tuple[str, ...]:
    """`/a/b` or `a/b` as its names; `/` is the empty path. At most `MAX_PATH_DEPTH` parts."""
    trimmed = text.removeprefix("/").removesuffix("/")
    if not trimmed:
        return ()
    parts = trimmed.split("/")
    if len(parts) > MAX_PATH_DEPTH:
        raise InvalidFieldError(
            f"`{field}` has {len(parts)} parts, at most {MAX_PATH_DEPTH} are allowed.", field=field
        )
    return tuple(parse_name(part, field) for part in parts)


def root_id(user_id: str) -> str:
    return f"root:{user_id}"


def resolve_root_alias(node_id: str, *, user_id: str, username: str) -> str:
    """`root` and `root:<username>` mean the caller's root directory; every other id is itself."""
    return root_id(user_id) if node_id in {"root", f"root:{username}"} else node_id
