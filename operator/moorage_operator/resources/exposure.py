"""What takes requests in: our own NGINX, an Ingress, an HTTPRoute, or nothing. All from one routing table. Pure."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from moorage_operator.proxy import ProxySettings, Route, build_nginx_conf, build_routes
from moorage_operator.resources.context import ClusterContext
from moorage_operator.resources.manifest import (
    Body,
    Manifest,
    Phase,
    build_labels,
    build_metadata,
    build_selector,
)
from moorage_operator.resources.names import (
    discovery_service,
    parts_by_service,
    proxy_conf,
    proxy_part,
    routes_of,
    settings_of,
)
from moorage_operator.resources.pods import (
    INTERNAL_PORT,
    PUBLIC_PORT,
    Volume,
    build_server_ports,
    config_volume,
    http_probe,
    scratch_volume,
    secret_volume,
)
from moorage_operator.resources.server import (
    ACCESS_POINT,
    Workload,
    build_deployment,
    build_disruption_budget,
    build_network_policy,
    build_service_account,
    build_settings_map,
)
from moorage_operator.resources.wiring import SETTINGS_FILE, SETTINGS_FOLDER, public_address
from moorage_operator.spec.accesspoint import (
    AccessPoint,
    GatewayExposure,
    IngressExposure,
    NginxExposure,
)
from moorage_operator.spec.realm import Realm

CONF_FOLDER = "/etc/moorage/proxy"
RUN_FOLDER = "/run/moorage"
TLS_FOLDER = "/etc/moorage/tls"
STAGED_TLS_FOLDER = "/run/moorage-tls"
STATUS_PORT = 8081
"""On loopback, inside the proxy's pod."""
DRAIN_SECONDS = 5.0
FINISH_SECONDS = 40.0
GRACE_SECONDS = 60
SHUTDOWN_SECONDS = 600
"""How long workers of before a reload may finish what they have: a large file on a slow line, a WebSocket."""
RULES_PER_HTTPROUTE = 16
"""The most that the Gateway API allows in one."""


def build_exposure_objects(
    realm: Realm, access_point: AccessPoint, context: ClusterContext
) -> tuple[Manifest, ...]:
    """Empty for `none`: somebody else routes to the servers' Services then."""
    exposure = access_point.spec.exposure
    if exposure.type == "nginx":
        return _build_nginx(realm, access_point, exposure.nginx or NginxExposure(), context)
    if exposure.type == "ingress":
        ingress = exposure.ingress or IngressExposure()
        routes = (_build_ingress(realm, access_point, ingress, context),)
        return (*_build_discovery(access_point, context), *routes)
    if exposure.gateway is not None:
        found = _build_http_routes(realm, access_point, exposure.gateway, context)
        return (*_build_discovery(access_point, context), *found)
    return ()


def backends(realm: Realm, context: ClusterContext) -> Mapping[str, str]:
    """Service of the plan → Kubernetes Service, also of those that are only routed still."""
    return {**context.services, **parts_by_service(realm)}


def _build_nginx(
    realm: Realm, access_point: AccessPoint, nginx: NginxExposure, context: ClusterContext
) -> tuple[Manifest, ...]:
    part = proxy_part(access_point.metadata.name)
    labels = build_labels(access_point, part, "proxy")
    settings = build_proxy_settings(nginx)
    workload = Workload(
        resource=access_point,
        part=part,
        component="proxy",
        phase=Phase.PROXY,
        template=nginx.template,
        replicas=nginx.replicas,
        hibernated=access_point.spec.hibernated,
        command=("moorage-nodes", "proxy", "--settings", SETTINGS_FILE),
        ports=build_server_ports(),
        probes={
            "startupProbe": http_probe("/healthz", "internal", period=2, timeout=3, failures=60),
            "livenessProbe": http_probe("/healthz", "internal", period=10, timeout=5, failures=3),
            "readinessProbe": http_probe("/readyz", "internal", period=5, timeout=4, failures=2),
        },
        volumes=tuple(_proxy_volumes(part, nginx)),
        hashed=settings,
        grace_seconds=GRACE_SECONDS,
        pod_labels={ACCESS_POINT: access_point.metadata.name},
    )
    return (
        build_service_account(access_point, part, labels),
        _build_front_service(access_point, part, labels, nginx),
        build_network_policy(access_point, part, labels),
        build_disruption_budget(access_point, part, labels),
        _build_conf_map(realm, access_point, labels, nginx, context),
        build_settings_map(access_point, part, labels, settings, Phase.PROXY),
        build_deployment(workload, context),
    )


def build_proxy_settings(nginx: NginxExposure) -> Body:
    """The settings of `moorage-nodes proxy`; their model lives with it."""
    settings: Body = {
        "role": "proxy",
        "listen": {"host": "0.0.0.0", "internal": INTERNAL_PORT, "status": STATUS_PORT},  # noqa: S104
        "conf_file": f"{CONF_FOLDER}/nginx.conf",
        "directory": RUN_FOLDER,
        "drain_seconds": DRAIN_SECONDS,
        "finish_seconds": FINISH_SECONDS,
    }
    if nginx.tls_secret_ref is not None:
        settings["tls"] = {
            "cert_file": f"{TLS_FOLDER}/tls.crt",
            "key_file": f"{TLS_FOLDER}/tls.key",
            "folder": STAGED_TLS_FOLDER,
        }
    return settings


def _proxy_volumes(part: str, nginx: NginxExposure) -> Iterator[Volume]:
    yield config_volume("settings", SETTINGS_FOLDER, settings_of(part))
    yield config_volume("conf", CONF_FOLDER, proxy_conf(part))
    # NGINX's own files, and bodies that do not fit into its buffers.
    yield Volume("run", RUN_FOLDER, {"emptyDir": {"sizeLimit": "2Gi"}}, read_only=False)
    yield scratch_volume("tmp", "/tmp", "16Mi")  # noqa: S108 - a volume of the pod's own
    if nginx.tls_secret_ref is not None:
        yield secret_volume("tls", TLS_FOLDER, nginx.tls_secret_ref.name)
        yield scratch_volume("staged-tls", STAGED_TLS_FOLDER, "1Mi")


def _build_front_service(
    access_point: AccessPoint, part: str, labels: Mapping[str, str], nginx: NginxExposure
) -> Manifest:
    """The public port alone: probes and metrics are reached at the pods."""
    service = nginx.service
    port: Body = {
        "name": "http" if nginx.tls_secret_ref is None else "https",
        "port": 80 if nginx.tls_secret_ref is None else 443,
        "targetPort": "public",
        "protocol": "TCP",
    }
    if service.node_port is not None:
        port["nodePort"] = service.node_port
    body: Body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(access_point, part, labels, annotations=service.annotations),
        "spec": {"type": service.type, "selector": build_selector(part), "ports": [port]},
    }
    return Manifest(Phase.BASE, body)


def _build_conf_map(
    realm: Realm,
    access_point: AccessPoint,
    labels: Mapping[str, str],
    nginx: NginxExposure,
    context: ClusterContext,
) -> Manifest:
    """A live file: the proxy loads a new one while it serves, so it is in no hash."""
    namespace = access_point.metadata.namespace
    # Twice: a request that one server of the Service did not answer is tried on another connection.
    upstreams = {
        service: (public_address(part, namespace),) * 2 for service, part in backends(realm, context).items()
    }
    settings = ProxySettings(
        listen=(str(PUBLIC_PORT),),
        directory=RUN_FOLDER,
        tls_folder=None if nginx.tls_secret_ref is None else STAGED_TLS_FOLDER,
        status=f"127.0.0.1:{STATUS_PORT}",
        shutdown_seconds=SHUTDOWN_SECONDS,
    )
    part = proxy_part(access_point.metadata.name)
    body: Body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(access_point, proxy_conf(part), labels),
        "data": {"nginx.conf": build_nginx_conf(context.proxy_routing, upstreams, settings)},
    }
    return Manifest(Phase.BASE, body)


def _build_discovery(access_point: AccessPoint, context: ClusterContext) -> tuple[Manifest, ...]:
    """One Service over the L1 servers of every cluster of the realm, since a path rule names one; none for one cluster."""
    if len(context.proxy_routing.clusters) == 1:
        return ()
    name = discovery_service(access_point.metadata.name)
    selector = {
        "app.kubernetes.io/name": "moorage",
        "app.kubernetes.io/component": "l1",
        ACCESS_POINT: access_point.metadata.name,
    }
    port = {
        "name": "public",
        "port": PUBLIC_PORT,
        "targetPort": "public",
        "protocol": "TCP",
        "appProtocol": "http",
    }
    body: Body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(access_point, name, build_labels(access_point, name, "discovery")),
        "spec": {"type": "ClusterIP", "selector": selector, "ports": [port]},
    }
    return (Manifest(Phase.BASE, body),)


def _backend(route: Route, access_point: AccessPoint, found: Mapping[str, str]) -> str:
    if len(route.services) == 1:
        return found[route.services[0]]
    return discovery_service(access_point.metadata.name)


def list_hosts(access_point: AccessPoint) -> tuple[tuple[str, ...], bool]:
    """Names that rules can be bound to, and whether a URL has none: an address takes rules for every host."""
    spec = access_point.spec
    hosts = dict.fromkeys(urlsplit(url).hostname or "" for url in (spec.public_url, *spec.extra_urls))
    named = tuple(host for host in hosts if not _is_address(host))
    return named, len(named) < len(hosts)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _build_ingress(
    realm: Realm, access_point: AccessPoint, ingress: IngressExposure, context: ClusterContext
) -> Manifest:
    """Plain path rules, which any controller understands: servers serve under their prefix themselves."""
    found = backends(realm, context)
    paths = [
        {
            "path": route.path.rstrip("/"),
            "pathType": "Prefix" if route.path.endswith("/") else "Exact",
            "backend": {
                "service": {"name": _backend(route, access_point, found), "port": {"name": "public"}}
            },
        }
        for route in build_routes(context.proxy_routing)
    ]
    hosts, any_host = list_hosts(access_point)
    rules: list[Body] = [{"host": host, "http": {"paths": paths}} for host in hosts]
    if any_host:
        rules.append({"http": {"paths": paths}})
    spec: Body = {"rules": rules}
    if ingress.class_name is not None:
        spec["ingressClassName"] = ingress.class_name
    if ingress.tls_secret_ref is not None:
        spec["tls"] = [{"hosts": list(hosts), "secretName": ingress.tls_secret_ref.name}]
    name = routes_of(access_point.metadata.name)
    labels = build_labels(access_point, name, "ingress")
    body: Body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": build_metadata(access_point, name, labels, annotations=ingress.annotations),
        "spec": spec,
    }
    return Manifest(Phase.PROXY, body)


def _build_http_routes(
    realm: Realm, access_point: AccessPoint, gateway: GatewayExposure, context: ClusterContext
) -> Iterator[Manifest]:
    """One HTTPRoute, or several where there are more rules than one may have; longer prefixes win over all of them."""
    found = backends(realm, context)
    rules = [
        _http_rule(route, _backend(route, access_point, found))
        for route in build_routes(context.proxy_routing)
    ]
    hosts, any_host = list_hosts(access_point)
    parents = [ref.model_dump(by_alias=True, exclude_none=True) for ref in gateway.parent_refs]
    for number, chunk in enumerate(_chunks(rules, RULES_PER_HTTPROUTE)):
        whole = routes_of(access_point.metadata.name)
        name = whole if number == 0 else f"{whole}-{number}"
        spec: Body = {"parentRefs": parents, "rules": list(chunk)}
        if hosts and not any_host:
            spec["hostnames"] = list(hosts)
        body: Body = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": build_metadata(access_point, name, build_labels(access_point, whole, "gateway")),
            "spec": spec,
        }
        yield Manifest(Phase.PROXY, body)


def _http_rule(route: Route, backend: str) -> Body:
    kind = "PathPrefix" if route.path.endswith("/") else "Exact"
    return {
        "matches": [{"path": {"type": kind, "value": route.path.rstrip("/")}}],
        "backendRefs": [{"name": backend, "port": PUBLIC_PORT}],
    }


def _chunks(rules: Sequence[Body], size: int) -> Iterator[Sequence[Body]]:
    for start in range(0, len(rules), size):
        yield rules[start : start + size]
