"""Files of this machine into the store: hashed, compared with what is there, and only what is missing is sent."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET

from moorage.client import Client
from moorage.core.errors import (
    LocalFileError,
    MissingChunksError,
    MoorageError,
    NameTakenError,
    error_from_answer,
)
from moorage.core.transfer import Piece, content_hash, plan_batches, plan_calls
from moorage.core.wire import Attrs, BatchCommitFile, BatchUpdateAnswer, BatchUpdateFile, ManifestEntry
from moorage.transfers.bounded import run_bounded, run_stoppable
from moorage.transfers.local import Digest, format_mtime, read_digest, read_piece, shown
from moorage.transfers.outcomes import ENDS_ALL, Outcome, Status, failed
from moorage.transfers.progress import Progress
from moorage.transport import PARALLEL

READERS = 2
"""Files that are hashed at once: one reads while the other computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
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

    def __init__(self, client: Client, progress: Progress, outcomes: list[Outcome]) -> None:
        """`outcomes` gets that of each file as it is done, well or not."""
        self._client = client
        self._progress = progress
        self._outcomes = outcomes
        self._ended: set[str] = set()  # ids of the files that have theirs

    async def store(self, items: Iterable[Item]) -> None:
        """Until each item has its outcome. A store that cannot be reached, and a login that ended, end it as their
        errors; what was stored by then stays, and the same again goes on from there.
        """
        items = self._without_twins(items)
        self._progress.expect(files=len(items), size=sum(item.size for item in items))
        for batch in plan_batches((item, item.size) for item in items):
            found = await run_bounded(batch, self._read, parallel=READERS)
            reads = [read for _, read in found if read is not None]
            try:
                await self._store_batch(reads)
            except ENDS_ALL:
                raise
            except MoorageError as error:
                for read in reads:
                    if read.item.file_id not in self._ended:
                        self._end(read.item, _failed(read.item, error))

    def _without_twins(self, items: Iterable[Item]) -> list[Item]:
        """Of two files for one place neither is meant more than the other: the first is stored."""
        places: dict[tuple[str, str], Item] = {}
        for item in items:
            if places.setdefault((item.parent_id, item.name), item) is not item:
                self._outcomes.append(
                    _failed(item, NameTakenError("Another file of this command has the same place."))
                )
        return list(places.values())

    def _end(self, item: Item, outcome: Outcome) -> None:
        self._ended.add(item.file_id)
        self._progress.finished(outcome.target)
        self._outcomes.append(outcome)

    async def _read(self, item: Item) -> _Read | None:
        """The file's digest; None when it has its outcome already."""

        def read(look: Callable[[], None]) -> Digest:
            def tell(size: int) -> None:
                look()
                self._progress.read(size)

            return read_digest(item.source, tell)

        try:
            digest = await run_stoppable(read)
            if not await self._is_there(item, digest):
                return _Read(item, digest)
        except ENDS_ALL:
            raise
        except MoorageError as error:
            self._end(item, _failed(item, error))
            return None
        self._progress.moved(digest.size)
        self._end(item, _outcome(item, Status.UNCHANGED, item.version, digest.size))
        return None

    async def _is_there(self, item: Item, digest: Digest) -> bool:
        """Told by its hash, never by its time."""
        if not item.version or item.known_size != digest.size:
            return False
        there = await self._client.file_metadata(item.file_id)
        hashes = (piece.hash for piece in digest.pieces)
        return there.version == item.version and there.hash == content_hash(hashes)

    async def _store_batch(self, reads: Sequence[_Read], *, again: bool = False) -> None:
        if not reads:
            return
        begun = await self._client.batch_update([_build_update(read) for read in reads])
        ready: list[_Read] = []
        for read, result in zip(reads, begun.files, strict=True):
            if result["status"] == "proceed":
                ready.append(read)
            else:
                self._end(read.item, _failed(read.item, error_from_answer(result)))
        lost = await self._send_required(begun, ready)
        whole: list[_Read] = []
        for read in ready:
            error = next((lost[piece.hash] for piece in read.digest.pieces if piece.hash in lost), None)
            if error is None:
                whole.append(read)
            else:
                self._end(read.item, _failed(read.item, error))
        if not whole or begun.upload_token is None:
            return
        missing: list[_Read] = []
        commits = [_build_commit(read) for read in whole]
        committed = await self._client.batch_commit(begun.upload_token, commits)
        for read, result in zip(whole, committed.files, strict=True):
            if result["status"] == "committed":
                self._end(
                    read.item, _outcome(read.item, Status.STORED, int(result["version"]), read.digest.size)
                )
            elif result.get("error") == MissingChunksError.word and not again:
                missing.append(read)  # collected since the update said that they are there
            else:
                self._end(read.item, _failed(read.item, error_from_answer(result)))
        await self._store_batch(missing, again=True)

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
    attrs = Attrs(mtime=format_mtime(read.digest.mtime) or UNSET, mode=read.digest.mode)
    return BatchCommitFile(file_id=read.item.file_id, new_version=read.item.version + 1, attrs=attrs)


def _outcome(item: Item, status: Status, version: int, size: int) -> Outcome:
    return Outcome(source=shown(item.source), target=item.target, status=status, version=version, size=size)


def _failed(item: Item, error: MoorageError) -> Outcome:
    return failed(shown(item.source), item.target, error)
