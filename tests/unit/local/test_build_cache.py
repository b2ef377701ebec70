import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from moorage_operator.local.build_cache import build_cache_root, make_once


def say_nothing(_line: str) -> None:
    pass


def start_maker(folder: Path, script: str) -> subprocess.Popen[str]:
    """Another process that asks for `folder`; `script` is the body of its make(partial)."""
    program = "from pathlib import Path\nimport os, sys, time\n"
    program += "from moorage_operator.local.build_cache import make_once\n"
    program += "def make(partial):\n" + textwrap.indent(textwrap.dedent(script), "    ")
    program += f"\nmade = make_once(Path({str(folder)!r}), make, lambda line: print(line, flush=True))\n"
    program += "print((made / 'content').read_text(), flush=True)\n"
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} has not appeared"
        time.sleep(0.01)


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "tools" / "thing-1"
    make_once(folder, lambda partial: (partial / "content").write_text("first"), say_nothing)

    def make_again(_partial: Path) -> None:
        pytest.fail("made a second time")

    assert (make_once(folder, make_again, say_nothing) / "content").read_text() == "first"


def test_a_failed_make_leaves_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    folder = tmp_path / "thing-1"

    def fail(partial: Path) -> None:
        (partial / "content").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        make_once(folder, fail, say_nothing)
    assert not any(path.is_dir() for path in tmp_path.iterdir())
    make_once(folder, lambda partial: (partial / "content").write_text("whole"), say_nothing)
    assert (folder / "content").read_text() == "whole"


def test_a_killed_make_leaves_nothing_that_counts_and_is_cleared_away(tmp_path: Path) -> None:
    folder = tmp_path / "thing-1"
    maker = start_maker(
        folder,
        f"(partial / 'content').write_text('half'); Path({str(tmp_path)!r}, 'began').touch(); time.sleep(60)",
    )
    wait_for(tmp_path / "began")
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    assert not folder.exists()

    make_once(folder, lambda partial: (partial / "content").write_text("whole"), say_nothing)
    assert (folder / "content").read_text() == "whole"
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [folder]


def test_of_many_processes_one_makes_and_the_others_wait_for_it_and_say_so(tmp_path: Path) -> None:
    folder = tmp_path / "thing-1"
    go = tmp_path / "go"
    script = f"""
        Path({str(tmp_path)!r}, f'made-by-{{os.getpid()}}').touch()
        (partial / 'content').write_text('ha')
        while not Path({str(go)!r}).exists():
            time.sleep(0.01)
        (partial / 'content').write_text('whole')
    """
    first = start_maker(folder, script)
    wait_for(tmp_path / f"made-by-{first.pid}")
    others = [start_maker(folder, script) for _ in range(3)]
    waiting = [other.stdout.readline() for other in others if other.stdout]
    go.touch()
    said = [maker.communicate(timeout=20)[0] for maker in (first, *others)]

    assert len(list(tmp_path.glob("made-by-*"))) == 1
    assert waiting == ["waiting for another process that is making thing-1\n"] * 3
    assert said == ["whole\n"] * 4


def test_the_cache_is_where_the_xdg_specification_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert build_cache_root() == tmp_path / ".cache" / "moorage"
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert build_cache_root() == Path("/elsewhere/moorage")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert build_cache_root() == tmp_path / ".cache" / "moorage"


def test_what_was_made_can_be_read_by_others(tmp_path: Path) -> None:
    folder = make_once(tmp_path / "thing-1", lambda partial: (partial / "content").touch(), say_nothing)
    assert folder.stat().st_mode & 0o777 == 0o755
