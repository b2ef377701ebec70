"""`moorage-operator`: kopf hears of custom resources and hands them on; it decides and writes nothing.

No handler here takes finalizers, annotations, events or status: kopf would write them. What is heard goes into the
caches of `reconcile.operator`, whose queue does the work.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import uuid
from typing import Any

import click
import kopf
from pythonjsonlogger.json import JsonFormatter

from moorage_operator.health import serve_health
from moorage_operator.kube.connection import Connection, load_connection
from moorage_operator.kube.errors import KubeError
from moorage_operator.kube.kinds import RESOURCES
from moorage_operator.reconcile.hearing import Hearing
from moorage_operator.reconcile.operator import Operator, OperatorSettings
from moorage_operator.reconcile.servers import HttpServers
from moorage_operator.resources.context import Images
from moorage_operator.spec.base import GROUP

DEFAULT_ETCD_IMAGE = "registry.k8s.io/etcd:3.6.9-0"
LOST_LEASE = 3
"""Exit code of a process that no longer leads: the pod's next one stands by."""

log = logging.getLogger("moorage.operator")


@click.command()
@click.option("--image", required=True, help="Image of every server of ours.")
@click.option("--etcd-image", default=DEFAULT_ETCD_IMAGE, show_default=True, help="Image of managed etcd.")
@click.option("--image-pull-secret", "pull_secrets", multiple=True, help="Secret that pods pull images with.")
@click.option("--watch-namespace", "namespaces", multiple=True, help="Namespace to work in; none means all.")
@click.option("--namespace", help="Namespace of the Lease; the pod's own by default.")
@click.option("--lease-name", default="moorage-operator", show_default=True, help="Name of the Lease.")
@click.option("--port", default=8080, show_default=True, help="Port of probes and metrics.")
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
def main(
    image: str,
    etcd_image: str,
    pull_secrets: tuple[str, ...],
    namespaces: tuple[str, ...],
    namespace: str | None,
    lease_name: str,
    port: int,
    log_level: str,
) -> None:
    """Run Moorage in this cluster: turn its custom resources into running servers."""
    _log_json(log_level)
    try:
        connection = load_connection()
    except KubeError as error:
        sys.exit(error.detail)
    settings = OperatorSettings(
        images=Images(nodes=image, etcd=etcd_image, pull_secrets=pull_secrets),
        namespace=namespace or connection.namespace,
        identity=f"{os.environ.get('HOSTNAME') or socket.gethostname()}_{uuid.uuid4()}",
        namespaces=namespaces,
        lease_name=lease_name,
    )
    sys.exit(asyncio.run(run(connection, settings, port)))


async def run(connection: Connection, settings: OperatorSettings, port: int) -> int:
    """Until a signal, or until the Lease is lost: the exit code."""
    servers = HttpServers()
    hearing = Hearing()
    operator = Operator(connection, settings, servers, hearing=hearing)
    health = await serve_health(port, operator.is_alive, operator.is_ready, operator.metrics.render)
    stop, started = asyncio.Event(), asyncio.Event()
    working = asyncio.create_task(operator.run())
    working.add_done_callback(lambda _: stop.set())
    listening = asyncio.create_task(
        kopf.operator(
            registry=build_registry(operator, hearing, connection),
            settings=build_kopf_settings(),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            stop_flag=stop,
            ready_flag=started,
        )
    )
    try:
        await asyncio.wait(
            (listening, asyncio.create_task(started.wait())), return_when=asyncio.FIRST_COMPLETED
        )
        # In place of kopf's own handlers: the Lease is given back first, so that the next one need not wait.
        asked = _cancel_on_signal(working)
        await asyncio.wait((listening, working), return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        stop.set()
        await asyncio.gather(listening, return_exceptions=True)
        await servers.close()
        await health.cleanup()
    if asked.is_set():
        return 0
    error = None if working.cancelled() else working.exception()
    if error is not None:
        log.error("stopped", exc_info=error)
    return LOST_LEASE if error is None and not working.cancelled() else 1


def _cancel_on_signal(task: "asyncio.Task[None]") -> asyncio.Event:
    """The event is set when a signal has asked for the end."""
    asked = asyncio.Event()

    def end() -> None:
        asked.set()
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    return asked


def build_registry(operator: Operator, hearing: Hearing, connection: Connection) -> kopf.OperatorRegistry:
    """Handlers that only listen, so that kopf writes nothing of its own."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(
            server=connection.server,
            ca_data=connection.ca_pem,
            token=connection.read_token(),
            certificate_data=connection.certificate_pem,
            private_key_data=connection.key_pem,
            default_namespace=connection.namespace,
        )

    def hear(event: kopf.RawEvent, **_: Any) -> None:
        value = dict(event["object"])
        hearing.heard(value)
        cache = operator.world.resources[str(value["kind"])]
        if event["type"] == "DELETED":
            cache.remove(value)
        else:
            cache.put(value)

    for kind in RESOURCES:
        kopf.on.event(GROUP, kind.plural, registry=registry)(hear)
    return registry


def build_kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.server_timeout = 300
    settings.networking.request_timeout = 30
    settings.queueing.idle_timeout = 1
    settings.queueing.exit_timeout = 0.1
    return settings


def _log_json(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


if __name__ == "__main__":
    main()
