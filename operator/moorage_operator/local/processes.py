"""A realm as processes on one machine: argv, files, ports, how to know that each is ready, how to stop it. Pure.

Secrets are not in here: files that hold them are named by path (`DataDir`), never in an argument or a variable.
"""

import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal

import msgspec

from moorage.core.routing import RoutingTable
from moorage_operator.local.datadir import DataDir
from moorage_operator.naming import (
    AUTH,
    METADATA_TIERS,
    bucket_name,
    gc_service,
    notify_service,
    replica_name,
    tier_service,
)
from moorage_operator.plan import (
    EtcdTarget,
    Listen,
    PublicKey,
    Service,
    StoreTarget,
    Wiring,
    build_check_settings,
    build_routing_table,
    build_settings,
    build_trust,
    etcd_prefix,
    plan_checks,
    plan_services,
    public_hosts,
)
from moorage_operator.proxy import ProxySettings, build_nginx_conf
from moorage_operator.spec.realm import Realm

LOOPBACK = "127.0.0.1"
REPLICAS = 2
DRAIN_SECONDS = 0.2
ETCD_QUOTA_BYTES = 8 * 1024**3
REVISION = 1
"""Of the live files: they do not change while the processes of one run read them."""

Engine = Literal["minio", "seaweedfs"]
Stage = Literal["stores", "servers", "proxy"]
STAGES: tuple[Stage, ...] = ("stores", "servers", "proxy")


@dataclass(frozen=True, slots=True)
class Tools:
    """Absolute paths of what is started; `nodes` is the command of our own servers."""

    etcd: str
    s3: str
    engine: Engine
    nginx: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the processes run. `ports`: those of `list_ports`, free ones on loopback.

    `environment` is all that children inherit; `nginx_user` is set where NGINX is started by root.
    """

    data: DataDir
    tools: Tools
    host: str
    port: int
    ports: Mapping[str, int]
    public_keys: tuple[PublicKey, ...]
    environment: Mapping[str, str]
    workers: int
    nginx_user: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """A part is ready when `url` answers with `status`."""

    url: str
    status: int = 200


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One child. `stop_signal` asks it to end, SIGKILL follows after `stop_seconds`; `orphan_signal` is what the
    kernel sends it when `up` itself is gone. `sockets`: paths outside the data directory that it may leave.
    """

    name: str
    stage: Stage
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    ports: tuple[int, ...]
    ready: Probe
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 3.0
    orphan_signal: signal.Signals = signal.SIGKILL
    sockets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """`files`: path → text, written before anything starts, none of it secret. `notes`: what a person should know."""

    url: str
    table: RoutingTable
    processes: tuple[ProcessSpec, ...]
    files: Mapping[PurePath, str]
    s3_endpoint: str
    buckets: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


_SEAWEED_PARTS = ("master", "volume", "filer", "s3", "admin")


def replicas_of(service: Service) -> int:
    """Of several collectors of a cluster one works."""
    return 1 if service.role == "gc" else REPLICAS


def list_ports(realm: Realm, engine: Engine) -> tuple[str, ...]:
    """Names of the ports that the plan needs, beside the public one."""
    seaweedfs = [name for part in _SEAWEED_PARTS for name in (part, f"{part}.grpc")]
    s3 = ["s3"] if engine == "minio" else seaweedfs
    servers = [
        f"{replica_name(service.name, number)}.{plane}"
        for service in plan_services(realm)
        for number in range(replicas_of(service))
        for plane in ("public", "internal")
    ]
    return ("etcd", "etcd.peer", *s3, *servers)


def build_local_plan(realm: Realm, machine: Machine) -> LocalPlan:
    """Everything that `moorage up` starts for this realm, and every file that it is told by."""
    services, checks = plan_services(realm), plan_checks(realm)
    data = machine.data
    table = build_routing_table(realm, build_hosts(machine.host, machine.port, realm), REVISION)
    wiring = _wire(realm, services, checks, machine)
    files: dict[PurePath, str] = {
        data.routing: msgspec.json.format(msgspec.json.encode(table)).decode(),
        data.trust: _json(build_trust(machine.public_keys, (*services, *checks), REVISION)),
        data.nginx_conf: _build_proxy(table, services, machine),
    }
    servers = []
    for service in services:
        for number in range(replicas_of(service)):
            name = replica_name(service.name, number)
            listen = Listen(LOOPBACK, machine.ports[f"{name}.public"], machine.ports[f"{name}.internal"])
            files[data.settings(name)] = _json(build_settings(service, name, listen, realm, wiring))
            servers.append(_server(service, name, listen, machine))
    for check in checks:
        files[data.settings(check.name)] = _json(build_check_settings(check, realm, wiring))
    store = _minio(machine) if machine.tools.engine == "minio" else _seaweedfs(machine)
    return LocalPlan(
        url=f"http://{_reachable(machine.host, machine.port)}",
        table=table,
        processes=(_etcd(machine), store, *servers, _nginx(machine)),
        files=files,
        s3_endpoint=_s3_endpoint(machine),
        buckets=tuple(bucket_name(pool.metadata.name) for pool in realm.pools),
        notes=tuple(list_notes(realm)),
    )


def build_hosts(host: str, port: int, realm: Realm) -> tuple[str, ...]:
    """Under which `host[:port]` clients may reach this machine, the canonical one first.

    Where it listens is what it answers to; on all addresses at once, the realm's own URLs say it better.
    """
    own = [_reachable(host, port)]
    if own[0].startswith((LOOPBACK, "localhost", "[::1]")):
        own += [f"{LOOPBACK}:{port}", f"localhost:{port}"] if host != "::1" else [f"localhost:{port}"]
    named = public_hosts(realm)
    return tuple(dict.fromkeys((*named, *own) if _is_wildcard(host) else (*own, *named)))


def list_notes(realm: Realm) -> Iterator[str]:
    """What the manifests ask for and one machine does differently."""
    auth = realm.access_point.spec.auth
    external = [f"MetadataCluster/{c.metadata.name}" for c in realm.clusters if c.spec.etcd.external]
    external += [f"AccessPoint/{realm.access_point.metadata.name}"] if auth.etcd.external else []
    external += [f"BlockPool/{p.metadata.name}" for p in realm.pools if p.spec.store.external]
    external += [f"Notifier/{n.metadata.name}" for n in realm.notifiers if n.spec.etcd.external]
    if external:
        yield f"{', '.join(external)} name external stores: they are left alone, local ones run instead."
    if realm.access_point.spec.public_url.startswith("https:"):
        yield "The public URL is https, but on one machine NGINX serves plain HTTP: put TLS in front of it."
    if realm.unused:
        yield f"Nothing names {', '.join(realm.unused)}: not started."


def _is_wildcard(host: str) -> bool:
    return host in {"0.0.0.0", "::"}  # noqa: S104 - recognised, not bound


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reachable(host: str, port: int) -> str:
    """`host:port` under which this machine itself reaches what listens on `host`."""
    return f"{LOOPBACK if _is_wildcard(host) else _bracketed(host)}:{port}"


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _s3_endpoint(machine: Machine) -> str:
    return f"http://{LOOPBACK}:{machine.ports['s3']}"


def _wire(
    realm: Realm, services: tuple[Service, ...], checks: tuple[Service, ...], machine: Machine
) -> Wiring:
    data = machine.data
    etcd = (f"http://{LOOPBACK}:{machine.ports['etcd']}",)
    stateful = {AUTH} | {
        tier_service(tier, cluster.spec.server_key) for cluster in realm.clusters for tier in METADATA_TIERS
    }
    stateful |= {notify_service(notifier.metadata.name) for notifier in realm.notifiers}
    stateful |= {gc_service(cluster.spec.server_key) for cluster in realm.clusters}
    return Wiring(
        internal_urls={
            service.name: tuple(
                f"http://{LOOPBACK}:{machine.ports[f'{replica_name(service.name, number)}.internal']}"
                for number in range(replicas_of(service))
            )
            for service in services
        },
        etcd={s.name: EtcdTarget(etcd, etcd_prefix(s)) for s in services if s.name in stateful},
        stores={
            pool.metadata.name: StoreTarget(
                _s3_endpoint(machine), bucket_name(pool.metadata.name), str(data.s3_credentials)
            )
            for pool in realm.pools
        },
        signing_keys={each.name: str(data.signing_key(each.name)) for each in (*services, *checks)},
        routing_file=str(data.routing),
        trust_file=str(data.trust),
        admin_token_file=str(data.admin_token),
        drain_seconds=DRAIN_SECONDS,
    )


def _build_proxy(table: RoutingTable, services: tuple[Service, ...], machine: Machine) -> str:
    upstreams = {
        service.name: [
            f"{LOOPBACK}:{machine.ports[f'{replica_name(service.name, number)}.public']}"
            for number in range(replicas_of(service))
        ]
        for service in services
    }
    settings = ProxySettings(
        listen=(f"{_bracketed(machine.host)}:{machine.port}",),
        directory=str(machine.data.nginx),
        workers=machine.workers,
        user=machine.nginx_user,
    )
    return build_nginx_conf(table, upstreams, settings)


def _etcd(machine: Machine) -> ProcessSpec:
    client = f"http://{LOOPBACK}:{machine.ports['etcd']}"
    peer = f"http://{LOOPBACK}:{machine.ports['etcd.peer']}"
    options = {
        "name": "moorage",
        "data-dir": str(machine.data.etcd),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"moorage={peer}",
        "quota-backend-bytes": str(ETCD_QUOTA_BYTES),
        # Readers of an older revision start over (metadata rules), so history is kept for minutes only.
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "5m",
        "log-level": "warn",
    }
    return ProcessSpec(
        name="etcd",
        stage="stores",
        argv=(machine.tools.etcd, *(f"--{name}={value}" for name, value in options.items())),
        environment=machine.environment,
        ports=(machine.ports["etcd"], machine.ports["etcd.peer"]),
        ready=Probe(f"{client}/health"),
        stop_seconds=2.0,
    )


def _minio(machine: Machine) -> ProcessSpec:
    port = machine.ports["s3"]
    data = machine.data
    return ProcessSpec(
        name="s3",
        stage="stores",
        argv=(
            machine.tools.s3,
            "server",
            "--quiet",
            f"--certs-dir={data.run / 'minio-certs'}",
            f"--address={LOOPBACK}:{port}",
            str(data.s3),
        ),
        # The file holds the root credentials: a variable or an argument could be read by others.
        environment={**machine.environment, "MINIO_CONFIG_ENV_FILE": str(data.minio_environment)},
        ports=(port,),
        ready=Probe(f"http://{LOOPBACK}:{port}/minio/health/ready"),
    )


def _seaweedfs(machine: Machine) -> ProcessSpec:
    data, ports = machine.data, machine.ports
    options = {
        "dir": str(data.s3),
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        **{f"{part}.port": str(ports[part]) for part in _SEAWEED_PARTS},
        **{f"{part}.port.grpc": str(ports[f"{part}.grpc"]) for part in _SEAWEED_PARTS},
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "s3.config": str(data.seaweedfs_identities),
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.autoCreateBucket": "false",
        "s3.iam": "false",
        "admin.ui": "false",
        "webdav": "false",
        "filer.exposeDirectoryData": "false",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": "1024",
        "volume.max": "0",
        "volume.preStopSeconds": "0",
    }
    return ProcessSpec(
        name="s3",
        stage="stores",
        argv=(
            machine.tools.s3,
            "-logtostderr=true",
            "mini",
            *(f"-{name}={value}" for name, value in options.items()),
        ),
        environment=machine.environment,
        ports=tuple(ports[name] for part in _SEAWEED_PARTS for name in (part, f"{part}.grpc")),
        ready=Probe(f"http://{LOOPBACK}:{ports['s3']}/status"),
        # It makes sockets in /tmp wherever its data is, and leaves some of them there.
        sockets=tuple(
            f"/tmp/seaweedfs-{kind}-{ports[name]}.sock"  # noqa: S108 - the server's own choice
            for part in _SEAWEED_PARTS
            for kind, name in ((part, part), (f"{part}-grpc", f"{part}.grpc"))
        ),
    )


def _server(service: Service, name: str, listen: Listen, machine: Machine) -> ProcessSpec:
    how = ("--scheduled",) if service.role == "gc" else ()
    return ProcessSpec(
        name=name,
        stage="servers",
        argv=(*machine.tools.nodes, service.role, *how, "--settings", str(machine.data.settings(name))),
        environment=machine.environment,
        ports=(listen.public, listen.internal),
        ready=Probe(f"http://{LOOPBACK}:{listen.internal}/readyz"),
    )


def _nginx(machine: Machine) -> ProcessSpec:
    data = machine.data
    return ProcessSpec(
        name="nginx",
        stage="proxy",
        argv=(machine.tools.nginx, "-e", "stderr", "-p", str(data.nginx), "-c", str(data.nginx_conf)),
        environment=machine.environment,
        ports=(machine.port,),
        # A path that is nobody's: answered by NGINX itself.
        ready=Probe(f"http://{_reachable(machine.host, machine.port)}/", status=404),
        stop_signal=signal.SIGQUIT,
        stop_seconds=2.0,
        # Killed, the master would leave its workers behind with the port.
        orphan_signal=signal.SIGTERM,
    )
