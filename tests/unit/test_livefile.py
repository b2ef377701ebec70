"""Live files: a change is noticed, a bad one is not believed."""

import os
from pathlib import Path

import pytest

from moorage.core.errors import InvalidFieldError
from moorage_nodes.livefile import LiveFile


def parse_number(data: bytes) -> int:
    try:
        return int(data)
    except ValueError:
        raise InvalidFieldError("The file must hold a number.") from None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


def replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_change_is_noticed_and_told(path: Path):
    live = LiveFile(path, parse_number)
    told: list[int] = []
    live.subscribe(told.append)
    assert live.value == 1
    assert not live.refresh()
    replace(path, "2")
    assert live.refresh()
    assert not live.refresh()
    assert live.value == 2
    assert told == [2]


def test_a_file_of_the_same_size_and_time_is_told_by_its_inode(path: Path):
    live = LiveFile(path, parse_number)
    before = path.stat()
    replace(path, "2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert live.refresh()
    assert live.value == 2


def test_a_mounted_volume_changes_by_a_swapped_link(tmp_path: Path):
    """As Kubernetes does it: `number` -> `..data/number`, and `..data` is swapped."""
    for name, text in (("one", "1"), ("two", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "number").write_text(text)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "number").symlink_to("data/number")
    live = LiveFile(tmp_path / "number", parse_number)
    (tmp_path / "data.new").symlink_to("two")
    (tmp_path / "data.new").replace(tmp_path / "data")
    assert live.refresh()
    assert live.value == 2


def test_a_bad_file_leaves_the_old_value_and_says_why(path: Path):
    live = LiveFile(path, parse_number)
    told: list[int] = []
    live.subscribe(told.append)
    replace(path, "two")
    assert not live.refresh()
    assert live.value == 1
    assert live.failure is not None
    assert "must hold a number" in live.failure
    replace(path, "3")
    assert live.refresh()
    assert (live.value, live.failure, told) == (3, None, [3])


def test_a_file_that_goes_away_leaves_the_old_value(path: Path):
    live = LiveFile(path, parse_number)
    path.unlink()
    assert not live.refresh()
    assert (live.value, live.failure) == (1, "FileNotFoundError")
    path.write_text("4")
    assert live.refresh()
    assert (live.value, live.failure) == (4, None)


def test_a_bad_or_absent_file_at_the_start_is_an_error(path: Path):
    path.write_text("one")
    with pytest.raises(InvalidFieldError):
        LiveFile(path, parse_number)
    with pytest.raises(FileNotFoundError):
        LiveFile(path.with_name("absent"), parse_number)


def test_a_value_that_carries_a_revision_tells_it(path: Path):
    class Table:
        revision = 7

    assert LiveFile(path, lambda _: Table()).revision == 7
    assert LiveFile(path, parse_number).revision is None
