"""Real small processes, started in stages, restarted, ended, and never left behind."""

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from real_servers.server import free_ports
from small_processes import Small, build_plan, make_data, starts_of

from moorage_operator.local.child import LOG_LIMIT_BYTES, last_lines, rotate_log
from moorage_operator.local.failure import UpError
from moorage_operator.local.leftovers import end_leftovers, session_members
from moorage_operator.local.supervisor import Supervisor, next_delay


class Recorder:
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *told: self.events.append((name, *told))

    def states(self, part: str) -> list[str]:
        return [event[2] if event[0] == "state" else event[0] for event in self.events if part in event[1:2]]


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


async def until(condition, seconds=10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class Running:
    def __init__(self, root: Path, parts: list[Small], prepare=None) -> None:
        self.root = root
        self.parts = parts
        self.report = Recorder()
        self.data = make_data(root)
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        self.supervisor = Supervisor(
            build_plan(root, parts), self.data, self.report, prepare or self._prepare
        )
        self.task = asyncio.create_task(self.supervisor.run(self.stop, self.ready.set))

    async def _prepare(self) -> None:
        self.report.events.append(("prepared",))

    async def until_ready(self) -> "Running":
        done, _ = await asyncio.wait(
            {self.task, asyncio.create_task(self.ready.wait())},
            return_when=asyncio.FIRST_COMPLETED,
            timeout=20,
        )
        if self.task in done:
            self.task.result()
        assert self.ready.is_set()
        return self

    def pids(self) -> list[int]:
        return [pid for part in self.parts for pid in starts_of(self.root, part.name)]

    async def end(self) -> float:
        began = time.monotonic()
        self.stop.set()
        async with asyncio.timeout(20):
            await self.task
        return time.monotonic() - began


@pytest.fixture
def three(tmp_path) -> list[Small]:
    stores, servers, proxy = free_ports(3)
    return [
        Small("store", "stores", stores),
        Small("server", "servers", servers),
        Small("proxy", "proxy", proxy, "parent"),
    ]


async def test_stages_start_one_after_the_other_and_end_the_other_way_round(tmp_path, three):
    running = await Running(tmp_path, three).until_ready()
    await running.end()
    order = [event[1:3] if event[0] == "state" else event for event in running.report.events]
    assert order == [
        ("store", "starting"), ("store", "ready"), ("prepared",),
        ("server", "starting"), ("server", "ready"),
        ("proxy", "starting"), ("proxy", "ready"),
        ("proxy", "stopping"), ("proxy", "stopped"),
        ("server", "stopping"), ("server", "stopped"),
        ("store", "stopping"), ("store", "stopped"),
    ]  # fmt: skip


async def test_the_end_leaves_no_process_and_no_record(tmp_path, three):
    running = await Running(tmp_path, three).until_ready()
    pids = running.pids()
    assert len(list(running.data.children.iterdir())) == 3
    assert len(session_members(starts_of(tmp_path, "proxy")[0])) == 2
    await running.end()
    assert all(is_gone(pid) and not session_members(pid) for pid in pids)
    assert list(running.data.children.iterdir()) == []


async def test_a_crashed_part_is_started_again_and_said_so(tmp_path, three):
    running = await Running(tmp_path, three).until_ready()
    (pid,) = starts_of(tmp_path, "server")
    os.kill(pid, signal.SIGKILL)
    await until(lambda: running.report.states("server").count("ready") == 2)
    await running.end()
    assert ("crashed", "server", "signal 9", 0.2) in running.report.events
    assert running.report.states("server") == [
        "starting", "ready", "crashed", "starting", "ready", "stopping", "stopped",
    ]  # fmt: skip


async def test_what_a_crashed_part_had_started_ends_with_it(tmp_path, three):
    running = await Running(tmp_path, three).until_ready()
    (pid,) = starts_of(tmp_path, "proxy")
    members = session_members(pid)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: all(is_gone(member) for member in members))
    await until(lambda: running.report.states("proxy").count("ready") == 2)
    await running.end()


async def test_a_part_that_needs_a_second_try_gets_it(tmp_path):
    (port,) = free_ports(1)
    running = await Running(tmp_path, [Small("late", "stores", port, "late:2")]).until_ready()
    await running.end()
    assert ("crashed", "late", "exit code 3", 0.2) in running.report.events


async def test_a_part_that_cannot_work_ends_everything_with_its_last_words(tmp_path):
    one, two = free_ports(2)
    running = Running(tmp_path, [Small("good", "stores", one), Small("bad", "servers", two, "broken")])
    with pytest.raises(
        UpError, match=r"bad ended 3 times at its start \(exit code 1\).*\n.*this cannot work"
    ):
        await running.until_ready()
    assert all(is_gone(pid) for pid in running.pids())


async def test_a_program_that_is_not_there_is_a_clear_error(tmp_path, three):
    running = Running(tmp_path, [])
    await running.end()
    plan = build_plan(tmp_path, three)
    store = dataclasses.replace(plan.processes[0], argv=("/nowhere/etcd",))
    plan = dataclasses.replace(plan, processes=(store, *plan.processes[1:]))
    supervisor = Supervisor(plan, running.data, Recorder(), running._prepare)
    with pytest.raises(UpError, match=r"store cannot be started: .*No such file.*/nowhere/etcd"):
        await supervisor.run(asyncio.Event(), lambda: None)


async def test_a_failure_to_prepare_the_stores_ends_everything(tmp_path, three):
    async def refuse() -> None:
        raise UpError("no bucket")

    running = Running(tmp_path, three, refuse)
    with pytest.raises(UpError, match="no bucket"):
        await running.until_ready()
    assert starts_of(tmp_path, "server") == []
    assert all(is_gone(pid) for pid in running.pids())


async def test_a_stop_while_starting_ends_what_was_started(tmp_path, three):
    async def for_ever() -> None:
        await asyncio.sleep(600)

    running = Running(tmp_path, three, for_ever)
    await until(lambda: "ready" in running.report.states("store"))
    assert await running.end() < 5
    assert not running.ready.is_set()
    assert all(is_gone(pid) for pid in running.pids())


async def test_who_does_not_obey_is_killed_after_its_time(tmp_path):
    (port,) = free_ports(1)
    running = await Running(tmp_path, [Small("deaf", "servers", port, "stubborn", 0.3)]).until_ready()
    assert 0.3 <= await running.end() < 3
    assert ("state", "deaf", "stopped", "killed") in running.report.events


async def test_a_second_signal_waits_for_nobody(tmp_path):
    (port,) = free_ports(1)
    running = await Running(tmp_path, [Small("deaf", "servers", port, "stubborn", 60.0)]).until_ready()
    running.stop.set()
    await until(lambda: "stopping" in running.report.states("deaf"))
    await running.supervisor.kill()
    async with asyncio.timeout(3):
        await running.task
    assert all(is_gone(pid) for pid in running.pids())


def test_restarts_come_more_slowly_up_to_ten_seconds():
    assert [next_delay(crashes) for crashes in (1, 2, 3, 6, 7, 1000)] == [0.2, 0.4, 0.8, 6.4, 10.0, 10.0]


@contextlib.contextmanager
def supervising_process(root: Path, parts: list[Small]) -> Iterator["subprocess.Popen[str]"]:
    support = Path(sys.modules["small_processes"].__file__).parents[1]
    command = [sys.executable, "-m", "small_processes", str(root), msgspec.json.encode(parts).decode()]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(support)}
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if '"ready", "time"' in line:
                break
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_after_kill_9_of_up_nothing_goes_on_and_the_next_start_finds_the_ports_free(tmp_path, three):
    socket_left = tmp_path / "left.sock"
    socket_left.touch()
    three[0].sockets = (str(socket_left),)
    with supervising_process(tmp_path, three) as up:
        pids = [pid for part in three for pid in starts_of(tmp_path, part.name)]
        up.send_signal(signal.SIGKILL)
        up.wait()
        # The children die with it; what one of them had started is ended by the next start.
        await until(lambda: all(is_gone(pid) for pid in pids))
    data = make_data(tmp_path)
    assert end_leftovers(data.children) == ["proxy"]
    assert not any(session_members(pid) for pid in pids)
    assert not socket_left.exists()
    assert list(data.children.iterdir()) == []
    running = await Running(tmp_path, three).until_ready()
    await running.end()


async def test_sigterm_to_up_ends_it_well(tmp_path, three):
    with supervising_process(tmp_path, three) as up:
        pids = [pid for part in three for pid in starts_of(tmp_path, part.name)]
        up.send_signal(signal.SIGTERM)
        assert up.wait(10) == 0
        assert all(is_gone(pid) and not session_members(pid) for pid in pids)


def test_a_log_that_has_grown_is_kept_once_and_begun_anew(tmp_path):
    log = tmp_path / "x.log"
    rotate_log(log)
    assert not log.exists()
    log.write_text("small")
    rotate_log(log)
    assert log.read_text() == "small"
    with log.open("ab") as writer:
        writer.write(b"x" * LOG_LIMIT_BYTES)
        writer.flush()
        rotate_log(log)
        writer.write(b"after")
    assert log.read_text() == "after"
    assert (tmp_path / "x.log.1").stat().st_size == LOG_LIMIT_BYTES + 5


def test_the_last_lines_of_a_log(tmp_path):
    log = tmp_path / "x.log"
    assert last_lines(log, 3) == []
    log.write_bytes(b"\n".join(b"line %d" % n for n in range(5000)) + b"\xff")
    assert last_lines(log, 2) == ["line 4998", "line 4999\ufffd"]


def test_log_lines_of_our_servers_are_shown_as_what_they_say(tmp_path):
    log = tmp_path / "x.log"
    entry = {"level": "error", "message": "failed\nmore", "exc_info": "Traceback:\n  File x\nOSError: in use"}
    log.write_text(json.dumps(entry) + "\n[1]\n{}\n" + "word " * 200)
    *said, long = last_lines(log, 8)
    assert said == ["error: failed: OSError: in use", "[1]", "{}"]
    assert len(long) <= 240
    assert long.endswith(" …")
