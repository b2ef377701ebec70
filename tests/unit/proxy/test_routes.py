"""Routes and configuration as pure functions."""

import pytest

from moorage.core.routing import ClusterRoute, RoutingTable, build_servers_answer
from moorage_operator.proxy import ProxySettings, build_nginx_conf, build_routes


def table(*clusters: ClusterRoute) -> RoutingTable:
    return RoutingTable(revision=1, hosts=("h",), clusters=clusters)


def cluster(key: str, *pools: str) -> ClusterRoute:
    return ClusterRoute(server_key=key, pools=pools, write_pools=pools)


def test_every_name_that_get_servers_tells_has_a_route():
    realm = table(cluster("a", "p", "q"), cluster("b", "q"), notifying("c", "n"))
    routed = [route.path for route in build_routes(realm)]
    answer = build_servers_answer(realm, asked_host=None)
    for name in (*answer.meta_servers, *answer.block_servers, *answer.notification_servers):
        assert name.removeprefix("h") + "/" in routed


def test_a_pool_of_two_clusters_has_one_route():
    paths = [route.path for route in build_routes(table(cluster("a", "p"), cluster("b", "p")))]
    assert paths.count("/block/p/") == 1


def test_get_servers_goes_to_any_l1():
    routes = {
        route.path: route.services for route in build_routes(table(cluster("a", "p"), cluster("b", "p")))
    }
    assert routes["/get_servers"] == ("l1-a", "l1-b")


def notifying(key: str, *notifiers: str) -> ClusterRoute:
    return ClusterRoute(server_key=key, pools=(), write_pools=(), notifiers=notifiers)


def test_one_notifier_is_also_at_the_hosts_root_and_internal_paths_are_nowhere():
    routes = {route.path: route for route in build_routes(table(notifying("a", "n"), notifying("b", "n")))}
    for path in ("/ws", "/poll", "/ack_deletion", "/notify/n/"):
        assert routes[path].services == ("notify-n",)
    assert {path for path, route in routes.items() if route.upgrades} == {"/ws", "/notify/n/"}
    assert not {"/notify_deletion", "/deletion_status", "/delete_chunks"} & routes.keys()


@pytest.mark.parametrize("names", [[], ["n", "m"]])
def test_without_the_one_notifier_there_is_none_at_the_root(names: list[str]):
    paths = {route.path for route in build_routes(table(notifying("a", *names)))}
    assert not {"/ws", "/poll", "/ack_deletion"} & paths
    assert {f"/notify/{name}/" for name in names} <= paths


def test_a_service_without_servers_is_refused():
    with pytest.raises(ValueError, match="auth has no servers"):
        build_nginx_conf(table(cluster("a", "p")), {}, ProxySettings(("1.2.3.4:1",), "/d"))


@pytest.mark.parametrize("key", ["a;b", "a b", "a{", 'a"', "a\nb", "$a", "#a"])
def test_a_name_that_could_say_something_else_is_refused(key):
    services = {
        service: ["h:1"] for route in build_routes(table(cluster(key, "p"))) for service in route.services
    }
    with pytest.raises(ValueError, match="cannot stand"):
        build_nginx_conf(table(cluster(key, "p")), services, ProxySettings(("1.2.3.4:1",), "/d"))


def test_a_directory_with_spaces_is_quoted_and_one_with_variables_refused():
    realm = table(cluster("a", "p"))
    services = {service: ["h:1"] for route in build_routes(realm) for service in route.services}
    assert 'pid "/d e/nginx.pid";' in build_nginx_conf(realm, services, ProxySettings(("1.2.3.4:1",), "/d e"))
    with pytest.raises(ValueError, match="cannot stand"):
        build_nginx_conf(realm, services, ProxySettings(("1.2.3.4:1",), "/d$x"))
