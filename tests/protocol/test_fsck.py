"""`moorage fsck` and `moorage scrub` on a whole running store: clean as it is, and each harm found, marked and healed."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from black_box.http_client import check_error, check_ok, server_errors
from black_box.store import RunningStore
from black_box.user import User, hash_of

from minio import Minio

MOORAGE, NODES = (str(Path(sys.executable).with_name(name)) for name in ("moorage", "moorage-nodes"))


def run(store: RunningStore, job: str, *options: str, by_hand: bool = True) -> tuple[int, dict[str, Any]]:
    """The exit code, and what was said. `by_hand`: without the command that finds the settings."""
    where = ("--settings", str(store.data / "run" / "check-main.json"))
    command = [NODES, job, *where, *options, "--json"]
    if not by_hand:
        command = [MOORAGE, job, "--data", str(store.data), *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def kinds(answer: dict[str, Any], user: User) -> dict[str, list[str]]:
    """What is found of this user, informations aside."""
    found: dict[str, list[str]] = {}
    for finding in answer["findings"]:
        if finding["namespace"] == user.user_id and finding["level"] == "finding":
            found.setdefault(finding["kind"], []).append(finding["subject"])
    return found


def bucket_of(store: RunningStore) -> tuple[Minio, str]:
    s3 = store.settings("block")[0]["s3"]
    key = json.loads(Path(s3["credentials_file"]).read_text())
    host = s3["endpoint"].removeprefix("http://")
    admin = Minio(
        host,
        access_key=key["access_key_id"],
        secret_key=key["secret_access_key"],
        secure=False,
        region=s3["region"],
    )
    return admin, s3["bucket"]


def overwrite(store: RunningStore, user: User, data: bytes, wrong: bytes) -> None:
    """The object that holds `data`, alone, gets other bytes: as a disk that rots."""
    admin, bucket = bucket_of(store)
    for found in admin.list_objects(bucket, prefix=f"{user.user_id}/", recursive=True):
        assert found.object_name is not None
        if admin.get_object(bucket, found.object_name).read() == data:
            admin.put_object(bucket, found.object_name, io.BytesIO(wrong), len(wrong))
            return
    raise AssertionError("no such object")


def test_whatever_others_did_to_the_store_it_is_clean(local_store: RunningStore, user: User):
    user.save("f", [b"one", os.urandom(300_000)])
    user.make_directory("d", "/photos")
    user.save("g", [b"two"], parent_dir_id="d", name="g")
    check_ok(user.l1.delete("/delete_file/f", json={"client_version": 1}))
    code, answer = run(local_store, "fsck", "--deep", by_hand=False)
    assert (code, answer["clean"]) == (0, True), answer["findings"]
    assert answer["checked"]["files"] >= 2
    assert answer["bytes_read"] > 300_000


def test_damage_is_found_marked_refused_and_healed(local_store: RunningStore, user: User):
    data = os.urandom(400_000)
    user.save("f", [data])
    overwrite(local_store, user, data, bytes(len(data)))
    code, answer = run(local_store, "fsck", "--deep")
    assert (code, kinds(answer, user)) == (1, {"bytes_differ": [hash_of(data)]})
    [finding] = [each for each in answer["findings"] if each["kind"] == "bytes_differ"]
    assert "f version 1" in finding["detail"]
    code, answer = run(local_store, "scrub", "--rate", str(10**9), by_hand=False)
    assert code == 1
    assert {"namespace": user.user_id, "hash": hash_of(data)} in answer["damaged_chunks"]
    check_error(user.block.get(f"/chunks/{hash_of(data)}"), 500, word="damaged_chunk")
    check_error(user.block.get("/files/f/content"), 500, word="damaged_chunk")
    server_errors.clear()  # these two were what is right
    assert check_ok(user.l3.get(f"/chunks/{hash_of(data)}/metadata"))["state"] == "damaged"
    user.save("g", [data])
    assert user.read("f") == user.read("g") == data
    assert run(local_store, "fsck", "--deep")[0] == 0


def test_a_lost_object_is_repaired_to_a_mark_and_the_next_upload_heals_it(
    local_store: RunningStore, user: User
):
    data = os.urandom(300_000)
    user.save("f", [data])
    admin, bucket = bucket_of(local_store)
    (found,) = admin.list_objects(bucket, prefix=f"{user.user_id}/", recursive=True)
    admin.remove_object(bucket, found.object_name)
    code, answer = run(local_store, "fsck", "--repair")
    assert (code, kinds(answer, user)) == (1, {"object_missing": [hash_of(data)]})
    assert [each["repaired"] for each in answer["findings"] if each["kind"] == "object_missing"] == [True]
    user.save("g", [data])
    assert user.read("f") == data


@pytest.mark.parametrize("job", ["fsck", "scrub"])
def test_where_nothing_runs_nothing_can_be_looked_at(job: str, tmp_path: Path):
    done = subprocess.run(
        [MOORAGE, job, "--data", tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "No `moorage up` is running" in done.stderr
