"""Lists of chunks as pure values: what a client names, what a manifest says of them (PROTOCOL.md, Update)."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from msgspec import UNSET, Struct

from moorage.core.errors import InvalidFieldError
from moorage.core.ids import HASH_PREFIX, format_hash, is_hash, parse_chunk_id, parse_hash
from moorage.core.wire import ManifestEntry
from moorage_nodes.metadata.records import Entry

Id = str | bytes
"""How an entry is told from others in a list: by the client's name, or by the digest when that is its name."""


class Summary(Struct, frozen=True):
    """What a file record and a manifest say of a list of chunks; `digest` is the SHA-256 of the ordered digests."""

    count: int
    size: int
    digest: bytes


def id_of(entry: Entry) -> Id:
    return entry[1] if entry[0] is None else entry[0]


def format_id(entry: Entry) -> str:
    """The entry's `chunk_id` as its client calls it."""
    return format_hash(entry[1]) if entry[0] is None else entry[0]


def parse_id_of_chunk(text: str, field: str) -> Id:
    """A `chunk_id` as the client sent it."""
    return bytes.fromhex(text[len(HASH_PREFIX) :]) if is_hash(text) else parse_chunk_id(text, field)


def summarize(entries: Sequence[Entry]) -> Summary:
    return Summary(
        len(entries),
        sum(size for _, _, size in entries),
        hashlib.sha256(b"".join([digest for _, digest, _ in entries])).digest(),
    )


class ManifestParser:
    """Parses a manifest to be, in parts; the rules hold over all of them together.

    `InvalidFieldError` with the field's path: an id or hash that is none, an id that looks like a hash and is not
    this chunk's, one hash with two sizes, one name for two different chunks.
    """

    def __init__(self, field: str) -> None:
        self._field = field
        self._sizes: dict[bytes, int] = {}
        self._names: dict[str, bytes] = {}
        self.entries: list[Entry] = []

    def feed(self, part: Iterable[ManifestEntry]) -> None:
        for chunk in part:
            try:
                self.entries.append(self._parse(chunk))
            except InvalidFieldError as error:
                path = f"{self._field}[{len(self.entries)}].{error.extra['field']}"
                raise InvalidFieldError(error.detail, field=path) from None

    def _parse(self, chunk: ManifestEntry) -> Entry:
        digest = parse_hash(chunk.hash, "hash")
        if self._sizes.setdefault(digest, chunk.size) != chunk.size:
            raise InvalidFieldError("One hash is given two sizes.", field="size")
        name = chunk.chunk_id
        if name is UNSET or name == chunk.hash:
            return None, digest, chunk.size
        if is_hash(name):
            raise InvalidFieldError(
                "`chunk_id` looks like a hash, but it is not this chunk's.", field="chunk_id"
            )
        if self._names.setdefault(parse_chunk_id(name, "chunk_id"), digest) != digest:
            raise InvalidFieldError("One `chunk_id` is given two different chunks.", field="chunk_id")
        return name, digest, chunk.size


def parse_manifest(chunks: Iterable[ManifestEntry], field: str) -> list[Entry]:
    parser = ManifestParser(field)
    parser.feed(chunks)
    return parser.entries


def fold_stored(calls: Iterable[Sequence[Entry]]) -> dict[Id, Entry]:
    """What was stored under an upload, in the order accepted: a name stored twice has its later bytes, at its
    first place.
    """
    stored: dict[Id, Entry] = {}
    for entries in calls:
        for entry in entries:
            stored[id_of(entry)] = entry
    return stored


def restored_names(calls: Iterable[Sequence[Entry]]) -> frozenset[Id]:
    """The names that were stored more than once, with different bytes."""
    first: dict[Id, bytes] = {}
    return frozenset(
        id_of(entry)
        for entries in calls
        for entry in entries
        if first.setdefault(id_of(entry), entry[1]) != entry[1]
    )


def assemble_unnamed(stored: Mapping[Id, Entry], current: Sequence[Entry]) -> list[Entry]:
    """The new manifest when the client named none (PROTOCOL.md, Update): the current list with what changed
    replaced in place and new names behind, if a stored chunk gives one of its names other bytes; else only what
    was stored.
    """
    known = {id_of(entry): entry[1] for entry in current}
    if not any(known.get(name, entry[1]) != entry[1] for name, entry in stored.items()):
        return list(stored.values())
    kept = [stored.get(id_of(entry), entry) for entry in current]
    return kept + [entry for name, entry in stored.items() if name not in known]
