"""Files of this machine, as they are read and written beside everything else that happens to them."""

import os
from pathlib import Path

import pytest

from moorage.core.errors import LocalFileError
from moorage.core.transfer import CHUNK_BYTES, hash_of
from moorage.transfers.local import (
    PartialFile,
    choose_place,
    format_mtime,
    has_content,
    look_at,
    make_folder,
    parse_mtime,
    read_digest,
    read_piece,
    scan,
    shown,
)


def test_a_scan_tells_parents_before_children_and_leaves_out_what_is_no_file(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    found = {entry.parts: entry for entry in scan(tmp_path)}
    assert list(found) == [("a",), ("link",), ("pipe",), ("a", "b"), ("a", "b", "file")]
    assert found["a", "b", "file"].size == 5
    assert found["a", "b", "file"].reason is None
    assert found["link",].reason == "a link"
    assert found["pipe",].reason == "neither a file nor a folder"


def test_a_folder_that_is_linked_to_is_meant_when_it_is_named(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert look_at(tmp_path / "link").is_directory
    with pytest.raises(LocalFileError, match="No such file"):
        look_at(tmp_path / "nothing")


def test_a_digest_has_each_chunk_and_what_is_kept_beside(tmp_path: Path):
    data = os.urandom(CHUNK_BYTES + 7)
    path = tmp_path / "file"
    path.write_bytes(data)
    path.chmod(0o640)
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    digest = read_digest(path)
    assert [(piece.offset, piece.size) for piece in digest.pieces] == [(0, CHUNK_BYTES), (CHUNK_BYTES, 7)]
    assert [piece.hash for piece in digest.pieces] == [
        hash_of(data[:CHUNK_BYTES]),
        hash_of(data[CHUNK_BYTES:]),
    ]
    assert (digest.size, digest.mode) == (len(data), 0o640)
    assert format_mtime(digest.mtime) == "2023-11-14T22:13:20.123456Z"


def test_a_piece_that_is_not_what_was_hashed_is_refused(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    (piece,) = read_digest(path).pieces
    assert read_piece(path, piece) == b"before"
    for changed in (b"behind", b"bef", b""):
        path.write_bytes(changed)
        with pytest.raises(LocalFileError, match="was changed"):
            read_piece(path, piece)
    path.unlink()
    with pytest.raises(LocalFileError, match="cannot be read"):
        read_piece(path, piece)


@pytest.mark.parametrize("text", ["", "yesterday", "2023-11-14", "0001-01-01T00:00:00"])
def test_a_time_that_cannot_be_told_is_left_out(text):
    assert parse_mtime(text) is None


@pytest.mark.parametrize(
    "nanoseconds", [0, 1_700_000_000_123_456_000, -1_000_000_000, 4_102_444_800_000_000_000]
)
def test_times_come_back_to_the_microsecond(nanoseconds):
    assert parse_mtime(format_mtime(nanoseconds)) == nanoseconds


# --- fetching ----------------------------------------------------------------------------------------------------


def fetch(place: Path, chunks: list[bytes], *, upto: int | None = None, **kept) -> int:
    """As a download does; the number of chunks that had to be fetched."""
    part, at, fetched = PartialFile(place), 0, 0
    try:
        for chunk in chunks[:upto]:
            if not part.find(at, len(chunk), hash_of(chunk)):
                part.write(at, chunk)
                fetched += 1
            at += len(chunk)
        if upto is None:
            part.finish(
                at,
                mode=kept.get("mode"),
                mtime=kept.get("mtime"),
                overwrite=kept.get("overwrite", True),
            )
    finally:
        part.close()
    return fetched


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path: Path):
    place, chunks = tmp_path / "file", [b"one", b"two", b"three"]
    assert fetch(place, chunks, upto=2) == 2
    assert not place.exists()
    assert fetch(place, chunks) == 1  # what an interrupted try has fetched is not fetched again
    assert place.read_bytes() == b"onetwothree"
    assert list(tmp_path.iterdir()) == [place]


def test_what_is_in_the_place_already_is_not_fetched(tmp_path: Path):
    place = tmp_path / "file"
    place.write_bytes(b"oneTWOthree and more")
    assert fetch(place, [b"one", b"two", b"three"]) == 1
    assert place.read_bytes() == b"onetwothree"


def test_the_part_of_another_content_is_not_mixed_in(tmp_path: Path):
    place = tmp_path / "file"
    fetch(place, [b"one", b"two and more"])
    place.rename(tmp_path / "moved")
    fetch(place, [b"one", b"two"], upto=2)
    assert fetch(place, [b"uno", b"two"]) == 1
    assert place.read_bytes() == b"unotwo"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "moved"}


def test_mode_and_time_are_kept_but_no_rights_beyond(tmp_path: Path):
    place = tmp_path / "file"
    fetch(place, [b"one"], mode=0o4750, mtime=1_700_000_000_000_000_000)
    assert place.stat().st_mode & 0o7777 == 0o750
    assert place.stat().st_mtime_ns == 1_700_000_000_000_000_000


def test_without_a_mode_a_file_has_that_of_any_new_one_or_the_one_it_had(tmp_path: Path):
    plain = tmp_path / "plain"
    plain.touch()
    fetch(tmp_path / "new", [b"one"])
    assert (tmp_path / "new").stat().st_mode == plain.stat().st_mode
    plain.chmod(0o600)
    fetch(plain, [b"one"])
    assert plain.stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_place_is_replaced_and_not_written_through(tmp_path: Path):
    outside, place = tmp_path / "outside", tmp_path / "file"
    outside.write_bytes(b"precious")
    place.symlink_to(outside)
    assert not has_content(place, [(8, hash_of(b"precious"))], 8)
    fetch(place, [b"one"])
    assert outside.read_bytes() == b"precious"
    assert not place.is_symlink()


def test_a_part_that_was_closed_is_not_written_any_more(tmp_path: Path):
    part = PartialFile(tmp_path / "file")
    part.close()
    # Whoever opens something now may get the same descriptor.
    with (tmp_path / "other").open("w+b") as other:
        part.write(0, b"late")
        assert part.find(0, 4, hash_of(b"late")) is False
        other.seek(0)
        assert other.read() == b""


def test_a_place_is_fetched_by_one_at_a_time(tmp_path: Path):
    part = PartialFile(tmp_path / "file")
    with pytest.raises(LocalFileError, match="another command"):
        PartialFile(tmp_path / "file")
    part.write(0, b"one")
    part.finish(3, mode=None, mtime=None, overwrite=False)
    again = PartialFile(tmp_path / "file")  # the one in its place is not touched by it
    part.close()
    again.write(0, b"two")
    assert (tmp_path / "file").read_bytes() == b"one"
    again.close()


def test_a_name_that_is_no_text_can_be_shown(tmp_path: Path):
    (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    (found,) = scan(tmp_path)
    assert shown(found.path) == f"{tmp_path}/caf\ufffd"


def test_a_folder_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(LocalFileError, match="cannot be written"):
        PartialFile(tmp_path / "no" / "file")


@pytest.mark.parametrize(
    ("target", "name", "is_directory", "place"),
    [
        ("there", "a", False, "there/a"),
        ("there/", "a", False, "there/a"),
        ("new", "a", False, "new"),
        ("there", "a", True, "there"),
        ("there/", "a", True, "there/a"),
        ("new", "a", True, "new"),
        ("there", None, True, "there"),
        ("new/", None, True, "new"),
    ],
)
def test_things_go_into_a_folder_or_take_the_name_that_was_given(
    tmp_path: Path, target, name, is_directory, place
):
    (tmp_path / "there").mkdir()
    assert choose_place(f"{tmp_path}/{target}", name, is_directory=is_directory) == tmp_path / place


def test_the_same_directory_is_fetched_to_the_same_place_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for target, place in ((".", "a"), ("here", "here")):
        assert choose_place(target, "a", is_directory=True) == Path(place)
        Path(place).mkdir()
        assert choose_place(target, "a", is_directory=True) == Path(place)


def test_a_place_without_a_folder_or_with_one_in_the_way_is_refused(tmp_path: Path):
    (tmp_path / "there" / "a").mkdir(parents=True)
    with pytest.raises(LocalFileError, match="is not a folder"):
        choose_place(f"{tmp_path}/no/where", "a", is_directory=False)
    with pytest.raises(LocalFileError, match="is a folder where the file"):
        choose_place(f"{tmp_path}/there", "a", is_directory=False)
    with pytest.raises(LocalFileError, match="cannot be read"):
        choose_place("x" * 300, "a", is_directory=False)


def test_what_comes_into_the_place_while_it_is_fetched_is_kept(tmp_path: Path):
    place = tmp_path / "file"
    part = PartialFile(place)
    part.write(0, b"theirs")
    place.write_bytes(b"mine")
    with pytest.raises(LocalFileError, match="--overwrite"):
        part.finish(6, mode=None, mtime=None, overwrite=False)
    assert place.read_bytes() == b"mine"
    part.finish(6, mode=None, mtime=None, overwrite=True)
    part.close()
    assert place.read_bytes() == b"theirs"


def test_a_part_that_was_closed_finishes_nothing(tmp_path: Path):
    part = PartialFile(tmp_path / "file")
    part.close()
    with (tmp_path / "other").open("w+b") as other:
        other.write(b"precious")
        other.flush()
        part.finish(0, mode=0o777, mtime=None, overwrite=True)
        assert (tmp_path / "other").read_bytes() == b"precious"
    assert not (tmp_path / "file").exists()


def test_a_part_that_somebody_took_away_does_not_take_the_place(tmp_path: Path):
    part = PartialFile(tmp_path / "file")
    (path,) = tmp_path.iterdir()
    path.unlink()
    path.write_bytes(b"half of another")
    with pytest.raises(LocalFileError, match="taken away"):
        part.finish(0, mode=None, mtime=None, overwrite=True)
    part.close()
    assert not (tmp_path / "file").exists()


def test_a_file_that_is_written_while_it_is_read_is_not_taken_for_one_content(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"a" * (2 * CHUNK_BYTES))

    def overwrite(_size: int) -> None:
        with path.open("r+b") as file:
            file.write(b"b" * (2 * CHUNK_BYTES))

    with pytest.raises(LocalFileError, match="was changed"):
        read_digest(path, overwrite)


def test_a_folder_of_the_store_is_not_written_through_a_link(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "link").symlink_to("outside")
    make_folder(tmp_path / "link", is_named=True)
    with pytest.raises(LocalFileError, match="is a link"):
        make_folder(tmp_path / "link", is_named=False)


def test_what_a_fetch_left_is_not_stored(tmp_path: Path):
    PartialFile(tmp_path / "file").close()
    (found,) = scan(tmp_path)
    assert found.reason == "what an interrupted `get` left"


@pytest.mark.parametrize("nanoseconds", [10**21, -(10**20)])
def test_a_time_beyond_the_calendar_is_left_out(nanoseconds):
    assert format_mtime(nanoseconds) is None


def test_a_name_that_would_do_something_to_a_terminal_is_shown_with_marks(tmp_path: Path):
    assert shown(Path("a\x1b]0;owned\x07b\n")) == "a\ufffd]0;owned\ufffdb\ufffd"
