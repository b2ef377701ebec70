"""`python -m soak --runs 50`: exit 1 with the seed of the first run in which something acknowledged was lost."""

import argparse
import json
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from black_box.http_client import check_ok, server_errors
from black_box.processes import wait_until
from black_box.store import RunningStore
from black_box.user import User, new_user

from soak.bad_luck import can_cut_off, choose
from soak.load import LostError, Writer

WRITERS = 3
LOAD_SECONDS = 3.0  # before and behind what happens
READY_SECONDS = 180.0
CHECKED_EVERY = 10  # runs, by fsck
COLLECTIONS = 6
COMMANDS = Path(sys.executable).parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    arguments = parser.parse_args()
    why_not = can_cut_off()
    if why_not:
        print(f"connections are not reset: {why_not}")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    store = RunningStore(folder / "data")
    done = 0
    try:
        store.start()
        store.wait_ready(READY_SECONDS)
        writers = [Writer(new_user(store, "soak"), f"w{n}", random.Random()) for n in range(WRITERS)]
        for number in range(arguments.runs):
            seed = arguments.seed + number
            what = run(store, writers, random.Random(seed), may_cut_off=not why_not)
            done += 1
            total = sum(writer.acknowledged for writer in writers)
            again = sum(writer.tried_again for writer in writers)
            print(
                f"run {done}: seed {seed}: {what}; {total} acknowledged in all, {again} asked again",
                flush=True,
            )
            if done % CHECKED_EVERY == 0:
                check_with_fsck(store)
        check_with_fsck(store)
        check_nothing_leaks(store, [writer.user for writer in writers])
        if server_errors:
            raise LostError(
                f"{len(server_errors)} answers that only a bug gives, the first: {server_errors[0]}"
            )
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        print(f"after {done} runs, seed {arguments.seed + done}: {error}\nthe data is left in {folder}")
        store.end()
        return 1
    store.end()
    shutil.rmtree(folder, ignore_errors=True)
    print(f"{done} runs: everything acknowledged was there, fsck --deep was clean, nothing leaked")
    return 0


def run(store: RunningStore, writers: list[Writer], rng: random.Random, *, may_cut_off: bool) -> str:
    """Load, bad luck, load, and then what every writer wrote read back."""
    stop = threading.Event()
    threads = []
    for writer in writers:
        writer.rng = random.Random(rng.getrandbits(64))
        threads.append(threading.Thread(target=writer.run, args=(stop,)))
    for thread in threads:
        thread.start()
    try:
        time.sleep(rng.uniform(0.5, LOAD_SECONDS))
        what = choose(rng, may_cut_off=may_cut_off)(store, rng)
        time.sleep(rng.uniform(0.5, LOAD_SECONDS))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    store.wait_ready(READY_SECONDS)
    for writer in writers:
        if writer.failure is not None:
            raise LostError(f"{what}: {writer.failure}") from writer.failure
        writer.check_all()
    return what


def check_with_fsck(store: RunningStore) -> None:
    command = [f"{COMMANDS}/moorage", "fsck", "--data", f"{store.data}", "--deep", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    answer = json.loads(done.stdout) if done.stdout else {}
    if done.returncode != 0 or not answer.get("clean"):
        raise LostError(f"fsck --deep: {done.returncode} {answer.get('findings')} {done.stderr[-2000:]}")
    print(f"fsck --deep: clean, {answer['checked']}", flush=True)


def check_nothing_leaks(store: RunningStore, users: list[User]) -> None:
    """Everything is deleted; when that is past its time and collected, the users' objects are gone."""
    for user in users:
        user.log_in()
        for entry in user.listing().values():
            check_ok(user.l1.delete(f"/delete_file/{entry['id']}", json={"client_version": entry["version"]}))

    def nothing_is_pending() -> bool:
        command = [f"{COMMANDS}/moorage", "fsck", "--data", f"{store.data}", "--json"]
        answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
        return not any(
            "pending" in finding["kind"] or "work" in finding["kind"] for finding in answer["findings"]
        )

    wait_until(nothing_is_pending, READY_SECONDS, "every deletion has ended", step=5.0)
    reports = [collect(store) for _ in range(COLLECTIONS)]
    left = sum(reports[-1]["kept"].values()) + reports[-1]["scanned"]["objects"]
    if left:
        raise LostError(f"something is left after {COLLECTIONS} collections: {reports[-1]}")
    freed = sum(report["freed_bytes"] for report in reports)
    print(f"{COLLECTIONS} collections: {freed} bytes freed, no object and no chunk is left", flush=True)


def collect(store: RunningStore) -> dict[str, Any]:
    """One collection, with times of a second."""
    time.sleep(1.5)
    (settings,) = store.settings("gc")
    settings["gc"] |= {"grace": 1, "max_deletions": 1_000_000}
    settings["cluster"] |= {"upload_idle": 1, "upload_max": 1, "retained_deleted": 0, "retained_versions": 1}
    file = store.data.with_name("gc.json")
    file.write_text(json.dumps(settings))
    command = [f"{COMMANDS}/moorage-nodes", "gc", "--settings", f"{file}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise LostError(f"the collection ended with {done.returncode}: {done.stdout} {done.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    sys.exit(main())
