"""Registering stored chunks, as pure functions: what a call says, and which transactions make it so.

A call's chunks become records (`k/`), and the call itself one `s/` key that lists them in order. A call of many
chunks does not fit into one etcd transaction: then its records go first, in any order, and the `s/` key last; so
the call is registered whole or not at all, and records without it are garbage that the collector finds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from moorage.core.errors import HashMismatchError, InvalidFieldError, UploadEndedError
from moorage.core.ids import format_hash, is_hash, parse_hash, parse_id
from moorage_nodes.metadata import keys, records
from moorage_nodes.metadata.records import CHUNK_LIVE, Chunk, Entry, Stored
from moorage_nodes.peer_api import RegisteredChunk, RegisterRequest
from moorage_nodes.stores.contracts import Compare, KeyValue, Put, Target, Txn, absent, unchanged

# Chunks per transaction. A small one leaves room for others in a group: operations are counted along the path.
TXN_CHUNKS = 60


@dataclass(frozen=True, slots=True)
class Registration:
    """A parsed call: a record per different chunk, and the entries in the order of its array."""

    namespace: str
    upload: str
    call: str
    chunks: Mapping[bytes, Chunk]  # by digest
    entries: Sequence[Entry]

    @property
    def upload_key(self) -> bytes:
        return keys.upload(self.namespace, self.upload)

    @property
    def stored_key(self) -> bytes:
        return keys.stored(self.namespace, self.upload, self.call)

    def chunk_key(self, digest: bytes) -> bytes:
        return keys.chunk(self.namespace, digest)

    def read_set(self) -> list[bytes]:
        return [self.upload_key, self.stored_key, *map(self.chunk_key, self.chunks)]


@dataclass(frozen=True, slots=True)
class RegistrationPlan:
    """`records` may run in any order and at once; `last` when all of them succeeded. When one does not, somebody
    was first: read again and plan anew.
    """

    records: Sequence[Txn]
    last: Txn


def parse_entry(chunk_id: str, digest: bytes, size: int, field: str) -> Entry:
    """An entry of a list of chunks. An id that looks like a hash must be the hash: 422 `hash_mismatch`."""
    if not is_hash(chunk_id):
        return parse_id(chunk_id, field), digest, size
    if chunk_id != format_hash(digest):
        raise HashMismatchError(f"`{field}` looks like a hash, but it is not the hash of these bytes.")
    return None, digest, size


def parse_registration(request: RegisterRequest) -> Registration:
    chunks: dict[bytes, Chunk] = {}
    entries: list[Entry] = []
    for index, chunk in enumerate(request.chunks):
        field = f"chunks[{index}]"
        digest = parse_hash(chunk.hash, f"{field}.hash")
        _check_object(request, chunk, field)
        record = Chunk(1, chunk.size, request.pool, chunk.object, chunk.offset, chunk.size)
        if chunks.setdefault(digest, record).size != chunk.size:
            raise InvalidFieldError("One hash is given two sizes.", field=f"{field}.size")
        entries.append(parse_entry(chunk.chunk_id, digest, chunk.size, f"{field}.chunk_id"))
    return Registration(
        parse_id(request.namespace, "namespace"),
        parse_id(request.upload, "upload"),
        parse_id(request.call, "call"),
        chunks,
        entries,
    )


def _check_object(request: RegisterRequest, chunk: RegisteredChunk, field: str) -> None:
    if chunk.object == "" and chunk.size == 0:
        return
    if not chunk.object.startswith(f"{request.upload}/{request.call}."):
        raise InvalidFieldError(
            "A chunk's object must lie under its upload and call.", field=f"{field}.object"
        )


def plan_registration(
    registration: Registration, found: Mapping[bytes, KeyValue], *, now: int, incarnation: bytes
) -> RegistrationPlan | None:
    """What is to be written, given `read_set` as found; None when this call is registered already.

    `UploadEndedError` when the upload is not open. `now` in Unix milliseconds. A record that is live is kept; one
    that is not (or is not there) is replaced by ours, whose bytes have just been stored.
    """
    if registration.stored_key in found:
        return None
    upload = found.get(registration.upload_key)
    if upload is None:
        raise UploadEndedError("This upload has ended: begin a new one with /update.")
    # Of every transaction: once the upload has ended no record may name its objects anew, which the collector
    # relies on when it deletes those that none names.
    fences = (
        Compare(keys.INCARNATION, Target.VALUE, incarnation),
        Compare(upload.key, Target.CREATE, upload.create_revision),
    )
    last_compares = (*fences, absent(registration.stored_key))
    last_put = Put(registration.stored_key, records.encode(Stored(1, now, list(registration.entries))))
    steps = [_chunk_step(registration, digest, found) for digest in registration.chunks]
    if len(steps) <= TXN_CHUNKS:
        compares, puts = _merged(steps)
        return RegistrationPlan((), Txn((*last_compares, *compares), (*puts, last_put)))
    parts = [_merged(part) for part in _parts([step for step in steps if step[1] is not None])]
    return RegistrationPlan(
        [Txn((*fences, *compares), puts) for compares, puts in parts], Txn(last_compares, (last_put,))
    )


Step = tuple[Compare, Put | None]


def _chunk_step(registration: Registration, digest: bytes, found: Mapping[bytes, KeyValue]) -> Step:
    key = registration.chunk_key(digest)
    kv = found.get(key)
    if kv is None:
        return absent(key), Put(key, records.encode(registration.chunks[digest]))
    state = records.decode(Chunk, kv.value).state
    put = None if state == CHUNK_LIVE else Put(key, records.encode(registration.chunks[digest]))
    return unchanged(key, kv.mod_revision), put


def _merged(steps: Sequence[Step]) -> tuple[tuple[Compare, ...], tuple[Put, ...]]:
    return tuple(compare for compare, _ in steps), tuple(put for _, put in steps if put is not None)


def _parts(steps: Sequence[Step]) -> Iterator[list[Step]]:
    rest = iter(steps)
    while part := list(islice(rest, TXN_CHUNKS)):
        yield part
