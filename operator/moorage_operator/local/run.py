"""One run of `moorage up`: from the manifests to the end of the last child."""

import asyncio
import json
import os
import random
import shlex
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from moorage_operator.local import nodes_command
from moorage_operator.local.atomic import write_atomically
from moorage_operator.local.buckets import ensure_buckets
from moorage_operator.local.claim import claim
from moorage_operator.local.credentials import (
    ensure_admin_token,
    ensure_s3_credentials,
    ensure_signing_keys,
)
from moorage_operator.local.datadir import DataDir
from moorage_operator.local.failure import InputError, UpError
from moorage_operator.local.leftovers import end_leftovers
from moorage_operator.local.ports import (
    Reservations,
    check_host,
    check_public_port,
    choose_ports,
    first_ephemeral_port,
    is_free_on_loopback,
)
from moorage_operator.local.processes import LocalPlan, Machine, Tools, build_local_plan, list_ports
from moorage_operator.local.report import Report
from moorage_operator.local.supervisor import Supervisor
from moorage_operator.local.tools import (
    S3Server,
    ensure_etcd,
    ensure_minio,
    ensure_nginx,
    ensure_seaweedfs,
    find_s3_server,
)
from moorage_operator.plan import plan_checks, plan_services
from moorage_operator.spec.load import parse_realm
from moorage_operator.spec.problems import ManifestError
from moorage_operator.spec.realm import Realm

DEFAULT_PORT = 8080
BUCKET_SECONDS = 20.0
START_TRIES = 3
# What a child needs of the caller's environment; all else, secrets among it, stays out.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "USER", "LOGNAME")


def run_up(files: Sequence[Path], root: Path, host: str, port: int | None, report: Report) -> None:
    """Bring the realm of the manifests up and keep it running until a signal says stop.

    UpError, InputError or ToolError when that cannot be; whatever had been started is ended then.
    """
    realm = load_realm(files)
    address = check_host(host)
    public_port = port or public_port_of(realm)
    with claim(root) as data, Reservations() as reservations:
        for name in _end_leftovers(data):
            report.note(f"{name} was left running by an `up` that was killed; ended it.")
        check_public_port(address, public_port)
        tools = _ensure_tools(data, report)
        for tries_left in reversed(range(START_TRIES)):
            machine = _describe_machine(realm, data, tools, address, public_port, reservations)
            try:
                _run_once(realm, machine, report)
            except UpError:
                if not tries_left or all(map(is_free_on_loopback, machine.ports.values())):
                    raise
                report.note("Somebody else took a port that was free a moment ago: trying again with others.")
            else:
                return


def _run_once(realm: Realm, machine: Machine, report: Report) -> None:
    data = machine.data
    token = ensure_admin_token(data)
    access, secret = ensure_s3_credentials(data)
    plan = build_local_plan(realm, machine)
    for note in plan.notes:
        report.note(note)
    for path, text in plan.files.items():
        write_atomically(Path(path), text)

    async def prepare_stores() -> None:
        deadline = time.monotonic() + BUCKET_SECONDS
        cancelled = threading.Event()

        def give_up() -> bool:
            return cancelled.is_set() or time.monotonic() > deadline

        try:
            await asyncio.to_thread(ensure_buckets, plan.s3_endpoint, access, secret, plan.buckets, give_up)
        finally:
            cancelled.set()

    def on_ready() -> None:
        connection = {"url": plan.url, "admin_token": token}
        write_atomically(data.connection, json.dumps(connection, indent=2) + "\n")
        report.ready(plan.url, first_user_command(plan.url, data))

    asyncio.run(_supervise(plan, data, report, prepare_stores, on_ready))


def _ensure_tools(data: DataDir, report: Report) -> Tools:
    s3 = _ensure_s3(data, report)
    return Tools(
        etcd=str(ensure_etcd(report.progress)),
        s3=str(s3.binary),
        engine=s3.engine,
        nginx=str(ensure_nginx(report.progress)),
        nodes=nodes_command.find_nodes_command(),
    )


def _describe_machine(
    realm: Realm, data: DataDir, tools: Tools, host: str, port: int, reservations: Reservations
) -> Machine:
    return Machine(
        data=data,
        tools=tools,
        host=host,
        port=port,
        ports=_choose_ports(realm, data, tools, port, reservations),
        public_keys=ensure_signing_keys(data, (*plan_services(realm), *plan_checks(realm))),
        environment={name: os.environ[name] for name in _INHERITED if name in os.environ},
        workers=min(os.cpu_count() or 1, 4),
        nginx_user="root" if os.geteuid() == 0 else None,
    )


def load_realm(files: Sequence[Path]) -> Realm:
    """The realm that the files describe. InputError with everything that is wrong with them."""
    sources = []
    for path in files:
        try:
            sources.append((str(path), path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InputError(f"{path} cannot be read: {reason}.") from None
    try:
        return parse_realm(sources)
    except ManifestError as error:
        count = len(error.problems)
        raise InputError(
            f"the manifests are wrong in {count} place{'s' if count > 1 else ''}:\n{error}"
        ) from None


def public_port_of(realm: Realm) -> int:
    """The port that the public URL names; where it names none, one that needs no root."""
    return urlsplit(realm.access_point.spec.public_url).port or DEFAULT_PORT


def first_user_command(url: str, data: DataDir) -> str:
    """A shell command that makes a user; neither the admin token nor the password gets into a process list."""
    header = data.admin_header
    if header.is_relative_to(Path.cwd()):
        header = header.relative_to(Path.cwd())
    body = '{"password": "correct horse battery staple"}'
    # An IPv6 address has brackets, which some shells take for a pattern.
    target = shlex.quote(f"{url}/auth/users/ada")
    return f"echo '{body}' | curl -fsS -X PUT -H {shlex.quote(f'@{header}')} -d @- {target}"


def _end_leftovers(data: DataDir) -> list[str]:
    try:
        return end_leftovers(data.children)
    except TimeoutError as error:
        raise UpError(f"A process of an earlier run is still there: {error}. End it by hand.") from None


def _ensure_s3(data: DataDir, report: Report) -> S3Server:
    """The engine that the directory's data belongs to, else the one that this machine offers."""
    kept = data.engine.read_text().strip() if data.engine.exists() else None
    match kept:
        case "minio":
            return S3Server("minio", ensure_minio(report.progress))
        case "seaweedfs":
            return S3Server("seaweedfs", ensure_seaweedfs(report.progress))
        case None:
            found = find_s3_server(report.progress)
            write_atomically(data.engine, found.engine + "\n")
            return found
        case other:
            raise UpError(f"{data.engine} names an unknown S3 server: {other!r}.")


def _choose_ports(
    realm: Realm, data: DataDir, tools: Tools, public_port: int, reservations: Reservations
) -> dict[str, int]:
    try:
        preferred = json.loads(data.ports.read_text())
    except (FileNotFoundError, ValueError):
        preferred = {}
    ports = choose_ports(
        list_ports(realm, tools.engine),
        preferred,
        lambda port: port != public_port and reservations.take(port),
        random.SystemRandom(),
        below=first_ephemeral_port(),
    )
    write_atomically(data.ports, json.dumps(ports, indent=2) + "\n")
    return ports


async def _supervise(
    plan: LocalPlan,
    data: DataDir,
    report: Report,
    prepare_stores: Callable[[], Awaitable[None]],
    on_ready: Callable[[], None],
) -> None:
    """Run the plan until SIGINT, SIGTERM or SIGHUP; a second signal ends everything at once."""
    stop = asyncio.Event()
    supervisor = Supervisor(plan, data, report, prepare_stores)
    killing: list[asyncio.Task[None]] = []

    def on_signal() -> None:
        if not stop.is_set():
            report.stopping()
            stop.set()
        elif not killing:
            killing.append(asyncio.ensure_future(supervisor.kill()))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Under nohup a closed terminal is no reason to stop.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, on_signal)
    await supervisor.run(stop, on_ready)
    await asyncio.gather(*killing)
    report.stopped()
