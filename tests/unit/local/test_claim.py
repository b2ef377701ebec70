"""One `up` to a directory, and only to a directory that is ours."""

import os
import stat

import pytest

from moorage_operator.local.atomic import write_atomically
from moorage_operator.local.claim import claim
from moorage_operator.local.failure import UpError


def test_a_second_claim_is_refused_with_the_pid_of_the_first(tmp_path):
    refused = pytest.raises(UpError, match=rf"Another `moorage up` \(pid {os.getpid()}\) is using .*--data")
    with claim(tmp_path / "d"), refused, claim(tmp_path / "d"):
        pass
    with claim(tmp_path / "d"):
        pass


def test_a_new_directory_is_for_its_owner_alone(tmp_path):
    with claim(tmp_path / "a" / "b") as data:
        assert stat.S_IMODE(data.root.stat().st_mode) == 0o700
        assert stat.S_IMODE(data.secrets.stat().st_mode) == 0o700


def test_a_directory_full_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    tmp_path.chmod(0o755)
    with pytest.raises(UpError, match="is not empty and was not made by `moorage up`"), claim(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_file_in_the_way_is_a_clear_error(tmp_path):
    (tmp_path / "d").write_text("")
    with pytest.raises(UpError, match="cannot be used as data directory"), claim(tmp_path / "d"):
        pass


def test_a_file_is_replaced_whole_with_its_mode(tmp_path):
    path = tmp_path / "x"
    write_atomically(path, "one")
    write_atomically(path, "two", mode=0o640)
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "x"
    write_atomically(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
