"""The public face as NGINX reads it."""

from moorage.core.routing import ClusterRoute, RoutingTable
from moorage_operator.proxy import ProxySettings, build_nginx_conf, build_routes

TABLE = RoutingTable(
    revision=1,
    hosts=("files.example.com",),
    clusters=(
        ClusterRoute(server_key="main", pools=("main",), write_pools=("main",), notifiers=("main",)),
        ClusterRoute(server_key="second", pools=("main", "big"), write_pools=("big",), notifiers=("main",)),
    ),
)


def test_the_configuration_is_the_reviewed_one(golden):
    services = sorted({service for route in build_routes(TABLE) for service in route.services})
    upstreams = {
        service: [f"127.0.0.1:{20_000 + 2 * number}", f"127.0.0.1:{20_001 + 2 * number}"]
        for number, service in enumerate(services)
    }
    settings = ProxySettings(("127.0.0.1:8080", "[::1]:8080"), "/data/run/nginx")
    golden("nginx.conf", build_nginx_conf(TABLE, upstreams, settings))
