"""The operator as a process, with kopf: while that tells of changes, and when it does no more."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from operator_bed.bed import Bed
from operator_bed.cluster import bind, grant
from operator_bed.manifests import build_cluster, build_pool
from real_servers.kubernetes import ApiServer
from real_servers.server import free_ports

from moorage_operator.kube.client import Kube
from moorage_operator.rbac import build_rules

LISTING_OFTEN = """
from moorage_operator.reconcile import operator
operator.RESYNC_SECONDS = {seconds}
from moorage_operator.main import main
main()
"""


def start(bed: Bed, folder: Path, seconds: int) -> subprocess.Popen[bytes]:
    options = {
        "image": "moorage:test",
        "watch-namespace": bed.namespace,
        "namespace": bed.namespace,
        "port": free_ports(1)[0],
    }
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "USER": "moorage",
        "KUBECONFIG": str(bed.api.kubeconfig(bed.user)),
    }
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-c", LISTING_OFTEN.format(seconds=seconds)),
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            env=environment,
            stdout=log,
            stderr=log,
        )


@pytest.mark.parametrize("deaf", [False, True])
async def test_a_process_whose_kopf_tells_nothing_ends_and_one_that_is_told_goes_on(
    api_server: ApiServer, namespace: str, kube: Kube, definitions: None, tmp_path: Path, deaf: bool
) -> None:
    """kopf gives up where it may not watch, for good and without a word to us; lists go on."""
    bed = Bed(api_server, namespace, kube)
    rules = build_rules()
    if deaf:
        for rule in rules["resources"]:
            if rule["apiGroups"] == ["moorage.dev"] and "watch" in rule["verbs"]:
                rule["verbs"] = [verb for verb in rule["verbs"] if verb != "watch"]
        bind(api_server, namespace, "resources", rules["resources"])
        grant(api_server, namespace, ("secrets", "own"))
    else:
        grant(api_server, namespace)
    process = start(bed, tmp_path, seconds=2 if deaf else 12)  # a slow machine must not look deaf
    try:
        number = 0
        while process.poll() is None and number < (16 if deaf else 28):
            number += 1
            # Something changes all the time.
            await bed.put(build_cluster(retention={"versions": number}))
            await bed.put(build_pool(replicas=number))
            await asyncio.sleep(1 if not deaf else 0.5)
            if deaf:
                number = min(number, 14)  # as long as it takes
        log = (tmp_path / "log").read_text()
        if deaf:
            assert process.returncode == 1, log
            assert "kopf has not told of" in log
        else:
            assert process.returncode is None, log
            assert "kopf has not told of" not in log
    finally:
        process.kill()
        process.wait()
