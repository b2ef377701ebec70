"""What a client's names for chunks mean (PROTOCOL.md, Words): one meaning per name and namespace, at each head.

A name that is the hash has no record. Every other name has `x/<name>`, written by the commit that gave it bytes, in
that commit's own transaction. A commit of more names than one transaction holds writes them beforehand as *pending*
under a binding of its own, and puts `b/<binding>` when it commits: from that moment all of them count, at once. A
binding whose commit never came stays pending and means nothing.
"""

from collections.abc import Iterable, Mapping, Sequence

from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.bulk_reads import read_keys
from moorage_nodes.metadata.records import Bound, ChunkName
from moorage_nodes.metadata.view import View
from moorage_nodes.stores.contracts import MetadataStore

MAX_PENDING = 8  # per name: more than that are of commits given up, the oldest may go


def bindings_of(found: Iterable[ChunkName | None]) -> list[str]:
    """The bindings that must be looked up to know what these names mean."""
    return list(dict.fromkeys(binding for name in found if name is not None for binding, _ in name.pending))


def meaning(name: ChunkName | None, sequences: Mapping[str, int]) -> bytes | None:
    """The digest that a name means; `sequences`: of each binding that stands, its journal sequence."""
    if name is None:
        return None
    digest, newest = name.digest, -1
    for binding, pending in name.pending:
        sequence = sequences.get(binding, -1)
        if sequence > newest:
            digest, newest = pending, sequence
    return digest or None


async def read_names(store: MetadataStore, namespace: str, names: Sequence[str]) -> dict[str, bytes]:
    """The digests that these names mean now; unknown ones are left out.

    Two rounds of reads at the most. Between them a binding may come to stand: then all its names have their new meaning.
    """
    name_keys = {name: keys.chunk_name(namespace, name) for name in names}
    found = await read_keys(store, list(name_keys.values()))
    known = {
        name: records.decode(ChunkName, found[key].value) for name, key in name_keys.items() if key in found
    }
    bindings = bindings_of(known.values())
    sequences: dict[str, int] = {}
    if bindings:
        marks = await read_keys(store, [keys.bound(namespace, binding) for binding in bindings])
        for binding in bindings:
            mark = marks.get(keys.bound(namespace, binding))
            if mark is not None:
                sequences[binding] = records.decode(Bound, mark.value).sequence
    meanings = {name: meaning(record, sequences) for name, record in known.items()}
    return {name: digest for name, digest in meanings.items() if digest is not None}


# --- in plans -------------------------------------------------------------------------------------------------


def observe_meanings(view: View, names: Iterable[str]) -> dict[str, bytes | None]:
    """What these names mean at the view's head, its own writes included."""
    wanted = {name: keys.chunk_name(view.namespace, name) for name in names}
    view.need(wanted.values())
    found = {name: view.record(ChunkName, key) for name, key in wanted.items()}
    sequences = _standing(view, bindings_of(found.values()))
    return {name: meaning(record, sequences) for name, record in found.items()}


def bind(view: View, name: str, digest: bytes) -> None:
    """The name means `digest` from this transaction on; no write where it does already."""
    key = keys.chunk_name(view.namespace, name)
    known = view.record(ChunkName, key)
    if known is None:
        view.put(key, ChunkName(1, digest))
        return
    sequences = _standing(view, bindings_of([known]))
    if meaning(known, sequences) == digest:
        return
    # What stands is older than we are; what is still pending will be younger if it ever stands.
    pending = [each for each in known.pending if each[0] not in sequences]
    view.put(key, ChunkName(1, digest, pending))


def bind_pending(view: View, name: str, digest: bytes, binding: str) -> None:
    """The name means `digest` from the transaction on that puts `b/<binding>`."""
    key = keys.chunk_name(view.namespace, name)
    known = view.record(ChunkName, key)
    if known is None:
        view.put(key, ChunkName(1, b"", [(binding, digest)]))
        return
    sequences = _standing(view, bindings_of([known]))
    pending = [each for each in known.pending if each[0] not in sequences and each[0] != binding]
    pending = [*pending, (binding, digest)][-MAX_PENDING:]
    view.put(key, ChunkName(1, meaning(known, sequences) or b"", pending))


def _standing(view: View, bindings: Sequence[str]) -> dict[str, int]:
    if not bindings:
        return {}
    wanted = [keys.bound(view.namespace, binding) for binding in bindings]
    view.need(wanted)
    found = {binding: view.record(Bound, key) for binding, key in zip(bindings, wanted, strict=True)}
    return {binding: mark.sequence for binding, mark in found.items() if mark is not None}
