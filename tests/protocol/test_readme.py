"""The walk-through of the README, run word for word by a shell, against a store of this run."""

import os
import re
import subprocess
import sys
from pathlib import Path

from black_box.store import REPOSITORY, RunningStore
from black_box.user import new_user

README = REPOSITORY / "README.md"
GUIDE = REPOSITORY / "docs" / "client.md"
SHELL_BLOCK = re.compile(r"^```(?:sh|bash|shell|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def walk_through(markdown: str) -> str:
    """The shell blocks from the first that logs in on; what stands before starts the store."""
    blocks = SHELL_BLOCK.findall(markdown)
    first = next(number for number, block in enumerate(blocks) if "moorage login" in block)
    return "\n".join(blocks[first:])


def for_this_run(script: str, local_store: RunningStore) -> str:
    """The same commands on the store of this run: its address and its data folder."""
    script = re.sub(r"http://127\.0\.0\.1:\d+", local_store.url, script)
    return script.replace(".moorage/", f"{local_store.data}/")


def test_the_walk_through_does_what_it_says(local_store: RunningStore, tmp_path: Path):
    script = for_this_run(walk_through(README.read_text()), local_store)
    # Where a reader stands: in the repository, with the store's data beside it.
    for name in (".venv", "README.md", "docs"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / ".moorage").symlink_to(local_store.data)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = f"{done.stdout}\n--- stderr\n{done.stderr}"
    assert done.returncode == 0, said
    assert re.search(r"^\d+ unchanged \(0 bytes\)$", done.stdout, re.MULTILINE), said
    assert "hello, harbour" in done.stdout, said
    read_back, sent = re.findall(r"([0-9a-f]{64})  -$", done.stdout, re.MULTILINE)
    assert read_back == sent, said
    assert re.findall(r'"error": ?"(\w+)"', done.stdout) == ["conflict"], said
    assert '"server_version":1' in done.stdout, said
    assert '"status":"acknowledged"' in done.stdout, said


def test_the_python_of_the_guide_does_what_it_says(local_store: RunningStore, tmp_path: Path):
    name = new_user(local_store, "guide")
    (code,) = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    code = re.sub(r"http://127\.0\.0\.1:\d+", local_store.url, code)
    code = code.replace('"ada"', f'"{name.username}"').replace("correct horse", name.password)
    (tmp_path / "photo.jpg").write_bytes(b"a picture")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "stored /photo.jpg 1\nphoto.jpg\n"
