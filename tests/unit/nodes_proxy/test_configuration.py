"""What the proxy reads out of a configuration, and what it tries."""

from moorage.core.routing import ClusterRoute, RoutingTable
from moorage_nodes.proxy.configuration import (
    Certificate,
    Configuration,
    parse_hosts,
    parse_revision,
    plan_candidates,
)
from moorage_operator.proxy import ProxySettings, build_nginx_conf, build_routes

TABLE = RoutingTable(
    revision=41,
    hosts=("files.example.com",),
    clusters=(ClusterRoute(server_key="main", pools=("main",), write_pools=("main",)),),
)
OLD, NEW = Certificate(b"old", b"key"), Certificate(b"new", b"key")


def build(upstream: str, status: str | None = None) -> str:
    services = {service: [upstream] * 2 for route in build_routes(TABLE) for service in route.services}
    return build_nginx_conf(TABLE, services, ProxySettings(("8080",), "/run/nginx", status=status))


def test_the_revision_is_that_of_the_table():
    assert parse_revision(build("a.files.svc:8080")) == 41
    assert parse_revision("worker_processes 2;\n") is None


def test_names_are_looked_up_and_addresses_are_not():
    assert parse_hosts(build("a.files.svc:8080", "127.0.0.1:8081")) == ("a.files.svc",)
    assert parse_hosts(build("10.0.0.7:8080")) == ()
    assert parse_hosts(build("[fd00::1]:8080")) == ()


def test_everything_new_is_tried_first_and_then_each_alone():
    serving, seen = Configuration("a", OLD, {}), Configuration("b", NEW, {"h": ("1",)})
    assert list(plan_candidates(serving, seen)) == [
        seen,
        Configuration("b", OLD, {"h": ("1",)}),
        Configuration("a", NEW, {}),
    ]


def test_one_change_is_one_attempt():
    serving = Configuration("a", OLD, {})
    for seen in (
        Configuration("b", OLD, {}),
        Configuration("a", NEW, {}),
        Configuration("a", OLD, {"h": ("1",)}),
    ):
        assert list(plan_candidates(serving, seen)) == [seen]
    assert list(plan_candidates(None, serving)) == [serving]


def test_a_key_is_never_shown():
    assert "key" not in repr(Configuration("a", OLD, {}))
