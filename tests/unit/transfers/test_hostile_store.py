"""A store that lies: nothing of what it says may change another file of this machine, or pass for what was stored."""

import types
from pathlib import Path

import pytest

from moorage.cli.contents import _plan_download
from moorage.core.errors import DamagedChunkError, InvalidFieldError
from moorage.core.transfer import content_hash, hash_of
from moorage.core.wire import ChunkEntry, DirectoryEntry, FileEntry, FileMetadataAnswer, NodeAnswer
from moorage.transfers.downloads import Downloader, Wanted, find_chunks
from moorage.transfers.folders import prepare_download
from moorage.transfers.outcomes import Status
from moorage.transfers.progress import Progress

ODD_NAMES = ["../../.profile", "/etc/cron.d/x", "..", "", "a/b", "a\x00b", "a\nb"]


def chunk(data: bytes, *, size: int | None = None) -> ChunkEntry:
    return ChunkEntry(
        chunk_id="c",
        l3_server="s",
        block_server="s",
        offset=0,
        size=len(data) if size is None else size,
        hash=hash_of(data),
    )


class Lying(types.SimpleNamespace):
    """Answers as it was told to."""

    async def file_metadata(self, _file_id: str, _version: int | None = None) -> FileMetadataAnswer:
        return FileMetadataAnswer(
            l2_metadata_server="s",
            version=1,
            name="x",
            size=self.size,
            modified="",
            state="live",
            hash=self.hash,
            attrs={},
        )

    async def list_chunks(self, _server: str, _file_id: str, _version: int):
        for each in self.chunks:
            yield each

    async def list_directory(self, _dir_id: str):
        for each in self.entries:
            yield each

    async def get_chunk(self, _server: str, _name: str) -> bytes:
        return self.data


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_name_that_would_lead_elsewhere_is_refused(tmp_path: Path, name):
    node = NodeAnswer(
        id="f",
        type="file",
        name=name,
        parent_dir_id="root",
        path="/x",
        state="live",
        meta_version=1,
        modified="",
    )
    with pytest.raises(InvalidFieldError):
        await _plan_download(Lying(), node, f"{tmp_path}/", None, [])


async def test_below_a_directory_such_names_are_left_and_the_others_fetched(tmp_path: Path):
    entries = [
        FileEntry(id=f"f{number}", name=name, modified="", state="live", version=1, size=1)
        for number, name in enumerate([*ODD_NAMES, "good"])
    ]
    entries.append(DirectoryEntry(id="d", name="../out", modified="", state="live"))
    outcomes: list = []
    wanted = await prepare_download(Lying(entries=entries), "root", "/", tmp_path / "here", outcomes)
    assert [file.target for file in wanted] == [tmp_path / "here" / "good"]
    assert [outcome.status for outcome in outcomes] == [Status.FAILED] * (len(ODD_NAMES) + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize(
    ("size", "chunks"),
    [
        (10, [chunk(b"abc")]),
        (5, []),
        (3, [chunk(b"abc", size=-3), chunk(b"abc", size=6)]),
        (2**40, [chunk(b"abc", size=2**40)]),
        (3, [chunk(b"abd")]),
    ],
)
async def test_chunks_that_are_not_those_of_the_version_are_refused(size, chunks):
    with pytest.raises(DamagedChunkError):
        await find_chunks(Lying(size=size, hash=content_hash([hash_of(b"abc")]), chunks=chunks), "f", None)


async def test_bytes_that_are_not_those_of_the_chunk_never_take_a_place(tmp_path: Path):
    honest = chunk(b"abc")
    store = Lying(size=3, hash=content_hash([honest.hash]), chunks=[honest], data=b"abd")
    outcomes: list = []
    await Downloader(store, Progress(), outcomes, overwrite=True).fetch(
        [Wanted("f", "/x", 3, tmp_path / "x")]
    )
    assert [(outcome.status, outcome.error) for outcome in outcomes] == [(Status.FAILED, "damaged_chunk")]
    assert not (tmp_path / "x").exists()
    store.data = b"abc"
    await Downloader(store, Progress(), outcomes, overwrite=True).fetch(
        [Wanted("f", "/x", 3, tmp_path / "x")]
    )
    assert (tmp_path / "x").read_bytes() == b"abc"
