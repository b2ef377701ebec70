"""Whole folders, both ways: which files there are, and the directories that they need."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from moorage.client import Client
from moorage.core.errors import LocalFileError, MoorageError, NameTakenError
from moorage.core.ids import parse_name
from moorage.core.wire import DirectoryEntry, FileEntry, NodeAnswer
from moorage.transfers.bounded import run_bounded
from moorage.transfers.downloads import Wanted
from moorage.transfers.local import LocalEntry, make_folder, scan, shown
from moorage.transfers.outcomes import ENDS_ALL, Outcome, Status, failed
from moorage.transfers.uploads import Item
from moorage.transport import PARALLEL

Parts = tuple[str, ...]
Entries = dict[str, DirectoryEntry | FileEntry]
"""What is in a directory of the store, by name."""


class FolderUpload:
    """The items of a local folder, for a directory of the store that is there."""

    def __init__(
        self,
        client: Client,
        folder: Path,
        target: str,
        dir_id: str,
        outcomes: list[Outcome],
        *,
        is_new: bool,
    ) -> None:
        """`target`: the directory's path, for people. `is_new`: it was made for this, and so is empty. `outcomes` gets
        those of what cannot be stored, and of links, which are left out.
        """
        self._client = client
        self._folder = folder
        self._target = target.rstrip("/")
        self._ids: dict[Parts, str] = {(): dir_id}
        self._is_new = is_new
        self._there: dict[Parts, Entries] = {}
        self._taken: set[tuple[Parts, str]] = set()
        self._outcomes = outcomes

    async def prepare(self) -> list[Item]:
        """Make the directories that are missing, and say which files are to be stored."""
        self._there[()] = {} if self._is_new else await list_entries(self._client, self._ids[()])
        entries: list[LocalEntry] = []
        for entry in await asyncio.to_thread(lambda: list(scan(self._folder))):
            if entry.reason is None:
                entries.append(entry)
            else:
                self._leave_out(entry)
        levels: dict[int, list[LocalEntry]] = {}
        for entry in entries:
            if entry.is_directory:
                levels.setdefault(len(entry.parts), []).append(entry)
        for _, level in sorted(levels.items()):
            await run_bounded(level, self._make_directory, parallel=PARALLEL)
        found = (self._find_place(entry) for entry in entries if not entry.is_directory)
        return [item for item in found if item is not None]

    async def _make_directory(self, entry: LocalEntry) -> None:
        parent = self._ids.get(entry.parts[:-1])
        if parent is None:
            return  # said already, of the directory itself
        try:
            name = self._take_name(entry)
            there = self._there[entry.parts[:-1]].get(name)
            if isinstance(there, FileEntry):
                raise NameTakenError("A file of this name is in the store where a directory should be.")
            if there is None:
                made = await self._client.create_directory(self._client.new_id(), parent, f"/{name}")
                self._ids[entry.parts], self._there[entry.parts] = made.id, {}
            else:
                self._there[entry.parts] = await list_entries(self._client, there.id)
                self._ids[entry.parts] = there.id
        except ENDS_ALL:
            raise
        except MoorageError as error:
            self._outcomes.append(failed(shown(entry.path), self._path_of(entry), error))

    def _find_place(self, entry: LocalEntry) -> Item | None:
        parent = self._ids.get(entry.parts[:-1])
        if parent is None:
            return None
        try:
            name = self._take_name(entry)
            there = self._there[entry.parts[:-1]].get(name)
            return build_item(self._client, entry, self._path_of(entry), parent, name, there)
        except MoorageError as error:
            self._outcomes.append(failed(shown(entry.path), self._path_of(entry), error))
            return None

    def _take_name(self, entry: LocalEntry) -> str:
        """As the store spells it; of two spellings of one name the first one has it."""
        name = parse_name(entry.parts[-1])
        place = (entry.parts[:-1], name)
        if place in self._taken:
            raise NameTakenError(
                "Another spelling of this name is in the same folder; the store knows only one."
            )
        self._taken.add(place)
        return name

    def _leave_out(self, entry: LocalEntry) -> None:
        status = Status.FAILED if entry.is_directory else Status.LEFT_OUT
        self._outcomes.append(
            Outcome(
                source=shown(entry.path),
                target=self._path_of(entry),
                status=status,
                error=LocalFileError.word,
                detail=entry.reason or "",
            )
        )

    def _path_of(self, entry: LocalEntry) -> str:
        return "/".join((self._target, *(shown(Path(part)) for part in entry.parts)))


def build_item(
    client: Client,
    entry: LocalEntry,
    target: str,
    parent_id: str,
    name: str,
    there: DirectoryEntry | FileEntry | None,
) -> Item:
    """NameTakenError when a directory has the file's place."""
    if there is not None and not isinstance(there, FileEntry):
        raise NameTakenError("A directory of this name is in the store where the file should be.")
    return Item(
        source=entry.path,
        size=entry.size,
        target=target,
        parent_id=parent_id,
        name=name,
        file_id=client.new_id() if there is None else there.id,
        is_new=there is None,
        version=0 if there is None else there.version,
        known_size=0 if there is None else there.size,
    )


def entry_of(node: NodeAnswer) -> DirectoryEntry | FileEntry:
    """A node as the list of its directory has it."""
    if node.type == "directory":
        return DirectoryEntry(id=node.id, name=node.name, modified=node.modified, state=node.state)
    return FileEntry(
        id=node.id,
        name=node.name,
        modified=node.modified,
        state=node.state,
        version=node.version or 0,
        size=node.size or 0,
    )


async def list_entries(client: Client, dir_id: str) -> Entries:
    return {entry.name: entry async for entry in client.list_directory(dir_id)}


async def prepare_download(
    client: Client, dir_id: str, source: str, target: Path, outcomes: list[Outcome]
) -> list[Wanted]:
    """Make the folders for all below a directory, and say which files are to be fetched. `outcomes` gets those of what
    cannot be.
    """
    wanted: list[Wanted] = []
    level: Sequence[tuple[str, str, Path]] = [(dir_id, source.rstrip("/"), target)]
    while level:
        below: list[tuple[str, str, Path]] = []

        async def look(directory: tuple[str, str, Path], below: list[tuple[str, str, Path]] = below) -> None:
            own_id, path, folder = directory
            try:
                await asyncio.to_thread(make_folder, folder, is_named=folder is target)
                entries = await list_entries(client, own_id)
            except ENDS_ALL:
                raise
            except MoorageError as error:
                outcomes.append(failed(path, shown(folder), error))
                return
            for name, entry in entries.items():
                try:
                    # Whatever a server answers, nothing is written elsewhere than below the target.
                    place = folder / parse_name(name)
                except MoorageError as error:
                    outcomes.append(failed(f"{path}/{name}", shown(folder), error))
                    continue
                if isinstance(entry, FileEntry):
                    wanted.append(Wanted(entry.id, f"{path}/{name}", entry.size, place))
                else:
                    below.append((entry.id, f"{path}/{name}", place))

        await run_bounded(level, look, parallel=PARALLEL)
        level = below
    return wanted
