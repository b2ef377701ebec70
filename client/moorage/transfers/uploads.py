"""Files of this machine into the store: hashed, compared with what is there, and only what is missing is sent."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import UNSET

from moorage.client import Client
from moorage.core.errors import (
    LocalFileError,
    MissingChunksError,
    MoorageError,
    error_from_answer,
)
from moorage.core.transfer import Piece, content_hash, plan_batches, plan_calls
from moorage.core.wire import Attrs, BatchCommitFile, BatchUpdateAnswer, BatchUpdateFile, ManifestEntry
from moorage.transfers.bounded import run_bounded
from moorage.transfers.local import Digest, format_mtime, read_digest, read_piece, shown
from moorage.transfers.outcomes import ENDS_ALL, Outcome, Status, failed
from moorage.transfers.progress import Progress
from moorage.transport import PARALLEL

READERS = 2
"""Files that are hashed at once: one reads while the other computes."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file to store. `version` and `known_size` are of what is in its place now; `is_new`: nothing is, and `file_id`
    is an id that nobody has. `target`: its path in the store, for people.
    """

    source: Path
    size: int
    target: str
    parent_id: str
    name: str
    file_id: str
    is_new: bool
    version: int = 0
    known_size: int = 0


@dataclass(frozen=True, slots=True)
class _Read:
    item: Item
    digest: Digest


class Uploader:
    """Stores files as the next versions of what is in their places; what another client stored meanwhile is never
    overwritten, that is a conflict.
    """

    def __init__(self, client: Client, progress: Progress) -> None:
        self._client = client
        self._progress = progress

    async def store(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome for each. A store that cannot be reached, and a login that ended, end it as their errors; what was
        stored by then stays, and the same again goes on from there.
        """
        self._progress.expect(files=len(items), size=sum(item.size for item in items))
        outcomes: list[Outcome] = []
        for batch in plan_batches((item, item.size) for item in items):
            reads: list[_Read] = []
            for item, answer in await run_bounded(batch, self._read, parallel=READERS):
                if isinstance(answer, Outcome):
                    self._progress.finished(item.target)
                    outcomes.append(answer)
                else:
                    reads.append(answer)
            outcomes += await self._store_batch(reads)
        return outcomes

    async def _read(self, item: Item) -> _Read | Outcome:
        """The file's digest, or what became of it already."""
        try:
            digest = await asyncio.to_thread(read_digest, item.source, self._progress.read)
            if await self._is_there(item, digest):
                self._progress.moved(digest.size)
                return _outcome(item, Status.UNCHANGED, item.version, digest.size)
        except ENDS_ALL:
            raise
        except MoorageError as error:
            return failed(shown(item.source), item.target, error)
        return _Read(item, digest)

    async def _is_there(self, item: Item, digest: Digest) -> bool:
        """Told by its hash, never by its time."""
        if not item.version or item.known_size != digest.size:
            return False
        there = await self._client.file_metadata(item.file_id)
        hashes = (piece.hash for piece in digest.pieces)
        return there.version == item.version and there.hash == content_hash(hashes)

    async def _store_batch(self, reads: Sequence[_Read], *, again: bool = False) -> list[Outcome]:
        if not reads:
            return []
        begun = await self._client.batch_update([_build_update(read) for read in reads])
        outcomes: list[Outcome] = []
        ready: list[_Read] = []
        for read, result in zip(reads, begun.files, strict=True):
            if result["status"] == "proceed":
                ready.append(read)
            else:
                outcomes.append(self._refused(read.item, result))
        lost = await self._send_required(begun, ready)
        for read in ready:
            if error := next((lost[piece.hash] for piece in read.digest.pieces if piece.hash in lost), None):
                self._progress.finished(read.item.target)
                outcomes.append(failed(shown(read.item.source), read.item.target, error))
        whole = [read for read in ready if lost.keys().isdisjoint(piece.hash for piece in read.digest.pieces)]
        if not whole or begun.upload_token is None:
            return outcomes
        missing: list[_Read] = []
        commits = [_build_commit(read) for read in whole]
        committed = await self._client.batch_commit(begun.upload_token, commits)
        for read, result in zip(whole, committed.files, strict=True):
            if result["status"] == "committed":
                self._progress.finished(read.item.target)
                outcomes.append(_outcome(read.item, Status.STORED, int(result["version"]), read.digest.size))
            elif result.get("error") == MissingChunksError.word and not again:
                missing.append(read)  # collected since the update said that they are there
            else:
                outcomes.append(self._refused(read.item, result))
        return outcomes + await self._store_batch(missing, again=True)

    async def _send_required(
        self, begun: BatchUpdateAnswer, reads: Iterable[_Read]
    ) -> dict[str, MoorageError]:
        """Send each chunk that is asked for, once. The errors of those that cannot be: their file has changed."""
        required = set(begun.required_chunks)
        wanted: dict[str, tuple[Path, Piece]] = {}
        for read in reads:
            for piece in read.digest.pieces:
                if piece.hash in required and piece.hash not in wanted:
                    wanted[piece.hash] = (read.item.source, piece)
                else:
                    self._progress.moved(piece.size)
        lost: dict[str, MoorageError] = {}

        async def send(call: Sequence[tuple[Path, Piece]]) -> None:
            chunks: dict[str, bytes] = {}
            for path, piece in call:
                try:
                    chunks[piece.hash] = await asyncio.to_thread(read_piece, path, piece)
                except LocalFileError as error:
                    lost[piece.hash] = error
            token = begun.upload_token
            assert token is not None
            if len(call) == 1:
                for name, data in chunks.items():
                    await self._client.put_chunk(begun.block_server, token, name, data)
            elif chunks:
                await self._client.store_chunks(begun.block_server, token, chunks)
            self._progress.moved(sum(piece.size for _, piece in call))

        calls = plan_calls((chunk, chunk[1].size) for chunk in wanted.values())
        await run_bounded(calls, send, parallel=PARALLEL)
        return lost

    def _refused(self, item: Item, result: dict[str, Any]) -> Outcome:
        self._progress.finished(item.target)
        return failed(shown(item.source), item.target, error_from_answer(result))


def _build_update(read: _Read) -> BatchUpdateFile:
    item = read.item
    return BatchUpdateFile(
        file_id=item.file_id,
        client_version=item.version,
        parent_dir_id=item.parent_id if item.is_new else UNSET,
        name=item.name if item.is_new else UNSET,
        chunks=[ManifestEntry(hash=piece.hash, size=piece.size) for piece in read.digest.pieces],
    )


def _build_commit(read: _Read) -> BatchCommitFile:
    attrs = Attrs(mtime=format_mtime(read.digest.mtime), mode=read.digest.mode)
    return BatchCommitFile(file_id=read.item.file_id, new_version=read.item.version + 1, attrs=attrs)


def _outcome(item: Item, status: Status, version: int, size: int) -> Outcome:
    return Outcome(source=shown(item.source), target=item.target, status=status, version=version, size=size)
