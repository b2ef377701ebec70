"""What the chart's jobs do with the demo store: `python -m moorage_operator.demo apply|delete FILE --instance NAME`.

A release cannot hold a CRD and its objects on its first install, so the objects come afterwards; and an uninstall
takes away only what carries this release's label: another release that has taken the demo over keeps it. Both are
idempotent. Exit codes: 0 done, 1 failed; what failed is one sentence on stderr.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import yaml

from moorage_operator.kube.client import Kube
from moorage_operator.kube.connection import load_connection
from moorage_operator.kube.errors import (
    KubeConflictError,
    KubeError,
    KubeNotFoundError,
    KubeUnavailableError,
)
from moorage_operator.kube.kinds import kind_of

MANAGER = "moorage-demo"
INSTANCE = "app.kubernetes.io/instance"
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 1.0

Step = Callable[[], Awaitable[None]]


async def apply_demo(kube: Kube, manifests: Sequence[dict[str, Any]]) -> None:
    """Make the objects what the manifests say. Kinds that are not served yet are waited for."""
    for manifest in manifests:
        await _patiently(partial(_apply, kube, manifest))


async def delete_demo(kube: Kube, manifests: Sequence[dict[str, Any]], instance: str) -> None:
    """Delete those of the objects that carry `instance`; what becomes of their parts is the operator's business."""
    for manifest in manifests:
        await _patiently(partial(_delete, kube, manifest, instance))


async def _apply(kube: Kube, manifest: dict[str, Any]) -> None:
    await kube.apply(manifest, manager=MANAGER)
    click.echo(f"{manifest['kind']}/{manifest['metadata']['name']} applied")


async def _delete(kube: Kube, manifest: dict[str, Any], instance: str) -> None:
    meta = manifest["metadata"]
    what = f"{manifest['kind']}/{meta['name']}"
    found = await kube.get(kind_of(manifest), meta["namespace"], meta["name"])
    if found is None:
        click.echo(f"{what} is not there")
    elif found["metadata"].get("labels", {}).get(INSTANCE) != instance:
        click.echo(f"{what} belongs to another release: left alone")
    else:
        uid, revision = found["metadata"]["uid"], found["metadata"]["resourceVersion"]
        await kube.delete(kind_of(manifest), meta["namespace"], meta["name"], uid, revision)
        click.echo(f"{what} deleted; its data is kept")


async def _patiently(step: Step) -> None:
    """Again while the API server is away, does not know the kind yet, or somebody was faster."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await step()
        except (KubeUnavailableError, KubeNotFoundError, KubeConflictError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


async def _run(action: str, manifests: Sequence[dict[str, Any]], instance: str) -> None:
    connection = load_connection()
    kube = Kube(connection)
    for manifest in manifests:
        manifest["metadata"].setdefault("namespace", connection.namespace)
    try:
        if action == "apply":
            await apply_demo(kube, manifests)
        else:
            await delete_demo(kube, manifests, instance)
    finally:
        await kube.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Apply or delete the demo of a Helm release.")
    parser.add_argument("action", choices=("apply", "delete"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--instance", required=True, help="name of the release")
    chosen = parser.parse_args(arguments)
    manifests = list(yaml.safe_load_all(chosen.file.read_text()))
    try:
        asyncio.run(_run(chosen.action, manifests, chosen.instance))
    except KubeError as error:
        click.echo(error.detail, err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
