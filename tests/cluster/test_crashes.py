"""The operator dies: after every single write, at random by SIGKILL, as a leader with another one standing by."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operator_bed.bed import Bed
from operator_bed.controllers import controllers
from operator_bed.dying import WRITES_IN_A_LIFE, live_once
from operator_bed.manifests import build_realm
from operator_bed.observing import observe
from real_servers.server import free_ports

from moorage_operator.kube.client import Kube
from moorage_operator.kube.kinds import LEASE


@pytest.mark.timeout(1200, func_only=True)
async def test_killed_after_every_few_writes_it_converges_to_the_same_and_writes_nothing_twice(
    bed: Bed, api_server: Any, kube: Kube, other_namespace: str
) -> None:
    """Dying after write k is dying before write k + 1: with one write a life this is every point between two."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    first = random.Random(seed).randrange(WRITES_IN_A_LIFE) + 1
    undisturbed = Bed(api_server, other_namespace, kube)
    for one in (bed, undisturbed):
        for manifest in build_realm():
            await one.put(manifest)
    async with controllers(kube, other_namespace), undisturbed.running():
        await undisturbed.until(lambda: undisturbed.ready(build_realm()))
        await undisturbed.settled()
    deaths = stuck = 0
    before: list[str] = []
    async with controllers(kube, bed.namespace, every=0.02):
        while True:
            since = bed.api.audit_position()
            if not await live_once(bed, (WRITES_IN_A_LIFE if deaths else first) + stuck):
                break
            written = bed.writes(since)
            # Who hands a Deployment's number over begins with it anew, and would do so for ever with one write a life.
            stuck = int(len(written) == 1 and written == before)
            before = written
            deaths += 1
    assert await bed.ready(build_realm())
    assert await observe(kube, bed.namespace) == await observe(kube, other_namespace)
    assert deaths > 60 // WRITES_IN_A_LIFE
    disturbed, calm = count_by_object(bed), count_by_object(undisturbed)
    # Handing a Deployment's number over is three writes; who dies among them begins with the second one again.
    handed_over = {name for name in calm if "/deployments/" in name and calm[name] == 3}
    for name in handed_over:
        assert calm[name] <= disturbed.pop(name) <= calm.pop(name) + deaths
    different = {name: (disturbed.get(name), calm.get(name)) for name in {*disturbed, *calm}}
    assert {name: counts for name, counts in different.items() if counts[0] != counts[1]} == {}
    since = bed.api.audit_position()
    async with bed.running():
        await bed.settled()
        assert bed.writes(since) == []


def count_by_object(bed: Bed) -> dict[str, int]:
    """Writes of what is built; statuses and Events follow what happened on the way."""
    counted: dict[str, int] = {}
    for write in bed.writes(0):
        if "/status" not in write and "/events" not in write:
            name = write.replace(bed.namespace, "NAMESPACE")
            counted[name] = counted.get(name, 0) + 1
    return counted


QUIET_SECONDS = 30
"""`make bench-operator` listens for eleven minutes."""


class Processes:
    """Operators as they run in pods: the command, with kopf."""

    def __init__(self, bed: Bed, folder: Path) -> None:
        self._bed = bed
        self._folder = folder
        self._environment = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "USER": "moorage",
            "KUBECONFIG": str(bed.api.kubeconfig(bed.user)),
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, lease: str = "moorage-operator") -> subprocess.Popen[bytes]:
        namespace = self._bed.namespace
        options = {
            "image": "moorage:test",
            "watch-namespace": namespace,
            "namespace": namespace,
            "lease-name": lease,
            "port": free_ports(1)[0],
        }
        command = [sys.executable, "-m", "moorage_operator.main"]
        with (self._folder / f"operator-{len(self.running)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *(f"--{name}={value}" for name, value in options.items())],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        self.running.append(process)
        return process

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("operator-*.log")))


@pytest.fixture
def processes(bed: Bed, tmp_path: Path) -> Iterator[Processes]:
    started = Processes(bed, tmp_path)
    yield started
    for process in started.running:
        process.kill()
        process.wait()


async def test_five_sigkills_during_the_roll_out_leave_what_one_undisturbed_run_would(
    bed: Bed, processes: Processes
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for manifest in build_realm():
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace):
        for number in range(5):
            # A Lease of its own each: that the next one waits for the Lease is another test.
            process = processes.start(lease=f"life-{number}")
            since = bed.api.audit_position()
            written = chance.randrange(1, 25)
            await bed.until(
                lambda since=since, written=written: len(bed.writes(since)) >= written or _done(bed)
            )
            await asyncio.sleep(chance.random() * 0.2)
            process.kill()
            process.wait()
        processes.start(lease="last-life")
        await bed.until(lambda: bed.ready(build_realm()))
        await _quiet(bed)
        since = bed.api.audit_position()
        await asyncio.sleep(QUIET_SECONDS)
        assert bed.requests(since) == [], processes.logs()


async def _quiet(bed: Bed) -> None:
    """Until nothing has been asked or written for a while: what follows on readiness is done."""
    for _ in range(20):
        since = bed.api.audit_position()
        await asyncio.sleep(3)
        if not bed.requests(since):
            return
    raise AssertionError(f"it does not come to rest: {bed.requests(since)}")


async def _done(bed: Bed) -> bool:
    return await bed.ready(build_realm())


async def test_of_two_processes_one_acts_and_the_other_takes_over_within_twenty_seconds(
    bed: Bed, processes: Processes
) -> None:
    async def holder() -> str:
        lease = await bed.kube.get(LEASE, bed.namespace, "moorage-operator")
        return str(lease["spec"].get("holderIdentity") or "") if lease else ""

    first = processes.start()
    await bed.until(holder)
    leader = await holder()
    second = processes.start()
    await asyncio.sleep(2)
    assert await holder() == leader

    async def moved() -> bool:
        now = await holder()
        return bool(now) and now != leader

    began = time.monotonic()
    first.send_signal(signal.SIGTERM)
    await bed.until(moved)
    assert time.monotonic() - began < 20
    assert await asyncio.to_thread(first.wait, 30) == 0
    leader = await holder()
    processes.start()
    await asyncio.sleep(2)
    began = time.monotonic()
    second.kill()
    await bed.until(moved)
    assert time.monotonic() - began < 20
    # The one that leads now works.
    for manifest in build_realm():
        await bed.put(manifest)
    async with controllers(bed.kube, bed.namespace):
        await bed.until(lambda: bed.ready(build_realm()))
