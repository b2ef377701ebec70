"""The content of a version to be: which chunks, in which order, under which names (PROTOCOL.md, Update). Pure.

Where the manifest comes from, first that applies: the ids that `/commit` names; the manifest that `/update` planned;
what was stored under the upload, over the current version.

An id that `/commit` names means: what was stored under it in this upload; what this upload planned under it; what it
means in the version that the upload builds on; what it means in the namespace; if it is a hash, that chunk. So a
client that uses one name in many files means, in each file, that file's own chunk. Under an upload of several files
nothing tells for which of them a name was stored, so there a file's plan comes first, and a name that could mean two
things is refused.

A commit binds the names that it *gives* bytes: those stored under this upload and those it planned with a hash. A
name that is only kept from the version before, or only named, keeps its meaning in the namespace.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from moorage.core.errors import EmptyCommitError, InvalidFieldError, MissingChunksError
from moorage.core.ids import format_hash
from moorage_nodes.metadata.l1.entries import Id, assemble_unnamed, format_id, id_of
from moorage_nodes.metadata.records import Entry

UNKNOWN_SIZE = -1
NOTHING = b""  # the digest of a name that means nothing


class Content(Struct, frozen=True):
    """`entries` in file order; a size may be `UNKNOWN_SIZE` and a digest `NOTHING` until they are checked.
    `bindings`: the names that this commit gives bytes.
    """

    entries: Sequence[Entry]
    bindings: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Sources:
    """What the ids of a commit may mean. `planned` None: `/update` named no manifest. `several_files`: the upload
    is of more than one file; `restored` are the names that were stored with different bytes under it.
    """

    stored: Mapping[Id, Entry]
    planned: Sequence[Entry] | None
    current: Sequence[Entry]
    several_files: bool = False
    restored: frozenset[Id] = frozenset()


def names_to_look_up(ids: Iterable[Id], sources: Sources) -> list[str]:
    """The named ids that only the namespace can tell the meaning of."""
    known = _own_names(sources)
    return [name for name in dict.fromkeys(ids) if isinstance(name, str) and name not in known]


def assemble_content(
    ids: Sequence[Id] | None, sources: Sources, meanings: Mapping[str, bytes | None]
) -> Content:
    """`meanings`: of `names_to_look_up`. `EmptyCommitError` when nothing is stored and nothing named;
    `InvalidFieldError` when an upload of several files does not tell which chunks are whose.
    """
    if ids is not None:
        return _assemble_named(ids, sources, meanings)
    if sources.planned is not None:
        return build_planned_content(sources.planned)
    if sources.several_files:
        raise InvalidFieldError(
            "An upload of several files does not tell which chunks are whose: name `chunks` here or in the update.",
            field="chunks",
        )
    if not sources.stored:
        raise EmptyCommitError(
            "Nothing was stored and nothing named; name `chunks` ([] for an empty file) or store some."
        )
    entries = assemble_unnamed(sources.stored, sources.current)
    return Content(entries, {name: digest for name, digest, _ in sources.stored.values() if name})


def build_planned_content(planned: Sequence[Entry]) -> Content:
    """What `/update` planned, when `/commit` names nothing."""
    return Content(planned, {name: digest for name, digest, _ in planned if name is not None})


def _assemble_named(ids: Sequence[Id], sources: Sources, meanings: Mapping[str, bytes | None]) -> Content:
    known = _own_names(sources)
    unclear = _unclear_names(sources)
    given = {id_of(entry) for entry in sources.planned or ()} | sources.stored.keys()
    entries: list[Entry] = []
    bindings: dict[str, bytes] = {}
    for name in ids:
        if name in unclear:
            raise InvalidFieldError(
                f"In an upload of several files {name!r} could be either's: name the chunk by its hash.",
                field="chunks",
            )
        entry = known.get(name)
        if isinstance(name, bytes):
            entry = entry or (None, name, UNKNOWN_SIZE)
        elif entry is None:
            entry = name, meanings[name] or NOTHING, UNKNOWN_SIZE
        elif name in given:
            bindings[name] = entry[1]
        entries.append(entry)
    return Content(entries, bindings)


def _own_names(sources: Sources) -> dict[Id, Entry]:
    """What ids mean to this upload and this file."""
    current = {id_of(entry): entry for entry in sources.current}
    planned = {id_of(entry): entry for entry in sources.planned or ()}
    if sources.several_files:
        return {**current, **sources.stored, **planned}
    return {**current, **planned, **sources.stored}


def _unclear_names(sources: Sources) -> frozenset[Id]:
    if not sources.several_files:
        return frozenset()
    planned = {id_of(entry) for entry in sources.planned or ()}
    changed = {
        id_of(entry) for entry in sources.current if sources.stored.get(id_of(entry), entry)[1] != entry[1]
    }
    return (sources.restored | changed) - planned


def check_sizes(entries: Sequence[Entry], sizes: Mapping[bytes, int]) -> list[Entry]:
    """The entries with the sizes of chunks that are held. `MissingChunksError` names, in file order, those that
    are not; `InvalidFieldError`: a size that the client gave is not the chunk's.
    """
    checked: list[Entry] = []
    missing: dict[str, None] = {}
    for name, digest, size in entries:
        held = sizes.get(digest)
        if held is None:
            missing[format_id((name, digest, size))] = None
            continue
        if size not in (held, UNKNOWN_SIZE):
            raise InvalidFieldError(
                f"The chunk {format_hash(digest)} has {held} bytes, not {size}.", field="chunks"
            )
        checked.append((name, digest, held))
    if missing:
        raise MissingChunksError(
            "Some chunks are not stored, or were collected since: store them and commit again.",
            missing_chunks=list(missing),
        )
    return checked
