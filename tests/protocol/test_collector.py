"""PROTOCOL.md, Deletion 6 and 7, to the end: bytes that nothing holds are gone from the store, and nothing else is."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from black_box.http_client import check_error, check_ok
from black_box.store import RunningStore
from black_box.user import User, hash_of, new_user

Collect = Callable[..., dict[str, Any]]


BUSY = 3


def run_alone(command: list[str | Path]) -> "subprocess.CompletedProcess[str]":
    """A collection; the scheduled one, or one that was killed with its servers, may be in the way for a while."""
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode != BUSY or time.monotonic() > deadline:
            return done
        time.sleep(1)


@pytest.fixture
def collect(frail_store: RunningStore, tmp_path: Path) -> Collect:
    """One collection by the command that a CronJob would run, with times of a second."""
    (settings,) = frail_store.settings("gc")
    settings["gc"] |= {"grace": 1}
    settings["cluster"] |= {"upload_idle": 1, "retained_deleted": 0, "retained_versions": 1}
    file = tmp_path / "gc.json"
    file.write_text(json.dumps(settings))

    def run(*options: str, code: int = 0) -> dict[str, Any]:
        time.sleep(1.2)
        command = [Path(sys.executable).with_name("moorage-nodes"), "gc", "--settings", file, "--json"]
        done = run_alone([*command, *options])
        assert done.returncode == code, (done.stdout, done.stderr)
        report: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"said": done.stderr}
        return report

    return run


@pytest.fixture
def user(frail_store: RunningStore) -> User:
    return new_user(frail_store)


def wait_for_trash(user: User, file_id: str) -> None:
    deadline = time.monotonic() + 60
    while file_id not in {each["id"] for each in check_ok(user.l1.get("/trash"))["trash"]}:
        assert time.monotonic() < deadline, "the deletion does not end"
        time.sleep(0.1)


def test_a_commit_again_answers_the_same_after_its_version_has_left_the_store(user: User, collect: Collect):
    """For 24 h, though only the newest version is kept."""
    token = user.begin("file")["upload_token"]
    user.store_chunks(token, {"a": b"one", "b": b"two"})
    attrs = {"mode": 0o600}
    assert check_ok(user.commit("file", token, 1, attrs=attrs))["version"] == 1
    for base in range(1, 22):
        user.save("file", [b"version %d" % base], base)
    collect()
    check_error(user.l1.get("/files/file/metadata", params={"version": 1}), 404, 410)
    for said in ({"attrs": attrs}, {}, {"chunks": ["a", "b"]}):
        assert check_ok(user.commit("file", token, 1, **said))["version"] == 1
    stale = check_error(user.commit("file", token, 1, chunks=["a"]), 409, word="conflict")
    assert stale["server_version"] == 22
    check_error(user.commit("file", token, 1, attrs={"mode": 0o644}), 409, word="conflict")
    check_error(user.commit("file", user.begin("other")["upload_token"], 1), 410, word="upload_ended")
    collect()
    assert check_ok(user.commit("file", token, 1))["version"] == 1
    assert user.read("file") == b"version 21"


def test_what_is_deleted_leaves_the_store_after_the_grace_and_nothing_else_does(
    frail_store: RunningStore, user: User, collect: Collect
):
    large, small = bytes(600_000), [b"small %d" % number for number in range(20)]
    user.save("kept", [b"kept", *small[:3]])
    user.save("gone", [large, *small])
    user.save("again", [b"old"])
    user.save("again", [b"new"], 1)
    collect()
    before = collect("--dry-run")
    assert before["dry_run"]
    check_ok(user.l1.delete("/delete_file/gone", json={"client_version": 1}))
    wait_for_trash(user, "gone")
    collect()
    report = collect()
    assert report["let_go"]["trash"] == 1
    check_error(user.l1.post("/undelete/gone", json={}), 410, word="gone")
    time.sleep(1.2)
    reports = [collect() for _ in range(4)]
    assert sum(report["removed"] for report in reports) >= 18
    assert sum(report["freed_bytes"] for report in reports) >= 600_000
    last = collect("--dry-run")
    assert (last["condemned"], last["removed"], last["objects_deleted"], last["objects_rewritten"]) == (
        0,
        0,
        0,
        0,
    )
    assert last["scanned"]["objects"] == last["kept"]["objects_named"]
    for data in (large, small[10], b"old"):
        check_error(user.block.get(f"/chunks/{hash_of(data)}"), 404)
        check_error(user.l3.get(f"/chunks/{hash_of(data)}/metadata"), 404)
    assert user.read("kept") == b"".join([b"kept", *small[:3]])
    assert user.read("again") == b"new"
    # What is gone can be stored again.
    user.save("anew", [large, small[10]])
    collect()
    collect()
    assert user.read("anew") == large + small[10]


def test_the_running_store_is_collected_by_a_command_and_in_order_after_it(
    frail_store: RunningStore, user: User
):
    user.save("f", [b"content"])
    moorage = Path(sys.executable).with_name("moorage")
    done = run_alone([moorage, "gc", "--data", frail_store.data, "--json"])
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert json.loads(done.stdout)["outcome"] == "complete"
    done = run_alone([moorage, "gc", "--data", frail_store.data, "--dry-run"])
    assert "would be removed" in done.stdout
    checked = subprocess.run(
        [moorage, "fsck", "--deep", "--data", frail_store.data, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = [each for each in json.loads(checked.stdout)["findings"] if each["level"] == "finding"]
    assert found == []
    assert checked.returncode == 0, checked.stderr
    assert user.read("f") == b"content"


def test_hard_is_refused_to_all_but_the_collector(frail_store: RunningStore, user: User):
    user.save("f", [b"content"])
    body = {
        "namespace": user.user_id,
        "server_key": user.server_key,
        "chunk_ids": [hash_of(b"content")],
        "objects": [],
        "deletion_mode": "hard",
    }
    check_error(user.block.post("/delete_chunks", json=body), 404)
    inside = frail_store.direct("block", "internal").with_token(user.token)
    for path in ("/delete_chunks", "/internal/list_objects", "/internal/copy_object"):
        check_error(inside.post(path, json=body), 401)
    assert user.read("f") == b"content"


def test_a_store_that_is_away_aborts_the_collection(
    frail_store: RunningStore, user: User, collect: Collect, tmp_path: Path
):
    user.save("f", [b"content"])
    file = tmp_path / "gc.json"
    settings = json.loads(file.read_text())
    settings["peers"]["block"] = {pool: ["http://127.0.0.1:9"] for pool in settings["peers"]["block"]}
    file.write_text(json.dumps(settings))
    report = collect(code=1)
    assert report["outcome"] == "aborted"
    assert "block" in report["reason"]
    assert user.read("f") == b"content"


def test_bad_settings_are_told_apart_from_a_failed_run(collect: Collect, tmp_path: Path):
    file = tmp_path / "gc.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "gc": {**settings["gc"], "schedule": "99 * * * *"}}))
    assert "schedule" in collect(code=2)["said"]
    file.write_text(json.dumps({**settings, "role": "l1"}))
    assert "not gc" in collect(code=2)["said"]


def test_the_scheduled_collector_is_up_with_the_others(frail_store: RunningStore):
    answer = frail_store.direct("gc", "internal").get("/readyz")
    assert answer.status_code == 200, answer.text
    metrics = frail_store.direct("gc", "internal").get("/metrics").text
    assert "moorage_gc_runs" in metrics
