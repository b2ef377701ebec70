"""The scripts in examples/, run as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from black_box.store import REPOSITORY
from black_box.user import User


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A thousand and some files: more than one batch, an empty one, a large one, twins, odd names."""
    root = tmp_path / "tree"
    for number in range(1010):
        path = root / f"dir {number % 20}" / f"file {number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"content {number % 900}\n".encode() * (number % 90))
    (root / "deep" / "er" / "est").mkdir(parents=True)
    (root / "deep" / "er" / "est" / "größe 大.bin").write_bytes(os.urandom(9_000_000))
    (root / "deep" / "empty").write_bytes(b"")
    return root


def store_tree(user: User, tree: Path, *options: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            REPOSITORY / "examples" / "store_tree.py",
            tree,
            "--url",
            user.store.url,
            "--user",
            user.username,
            *options,
        ],
        env={**os.environ, "MOORAGE_PASSWORD": user.password},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_tree_is_stored_and_read_back_and_a_second_run_sends_only_what_changed(user: User, tree: Path):
    said = store_tree(user, tree)
    assert "1012 files" in said
    assert "every byte is the same" in said
    assert set(user.listing()) == {"tree"}
    (tree / "dir 3" / "file 3.txt").write_bytes(b"changed")
    said = store_tree(user, tree / "dir 3", "--into", "tree/dir 3")
    assert re.search(r"\b1 chunks sent", said)
    assert "every byte is the same" in said
