import msgspec

from moorage.core.routing import ClusterRoute, RoutingTable
from moorage_operator.reconcile.routing import Tables, plan_tables, revise_trust, same_routes


def table(*keys: str, revision: int = 0, pools: tuple[str, ...] = ("pool",)) -> RoutingTable:
    clusters = tuple(ClusterRoute(server_key=key, pools=pools, write_pools=pools) for key in keys)
    return RoutingTable(revision=revision, hosts=("files.example.com",), clusters=clusters)


def keys(found: RoutingTable) -> list[str]:
    return [cluster.server_key for cluster in found.clusters]


def test_the_first_table_goes_to_both_at_once() -> None:
    first = plan_tables(table("a"), None, None, None, None)
    assert first.announced == first.proxied == table("a", revision=1)
    assert plan_tables(table("a"), *parts(first), None, None) == first


def parts(tables: Tables) -> tuple[RoutingTable, RoutingTable]:
    return tables.announced, tables.proxied


def test_a_route_reaches_the_proxy_before_servers_announce_it() -> None:
    now = plan_tables(table("a"), None, None, None, None)
    for serves in (None, 1):
        now = plan_tables(table("a", "b"), *parts(now), serves, None)
        assert (keys(now.announced), keys(now.proxied)) == (["a"], ["a", "b"])
    served = now.proxied.revision
    now = plan_tables(table("a", "b"), *parts(now), served, None)
    assert keys(now.announced) == ["a", "b"]
    assert plan_tables(table("a", "b"), *parts(now), served, now.announced.revision).hold(table("a", "b"))


def test_a_route_leaves_the_proxy_when_no_server_announces_it_any_more() -> None:
    now = plan_tables(table("a", "b"), None, None, None, None)
    now = plan_tables(table("a"), *parts(now), None, None)
    # Both still say the same, but not what is wanted: there is somebody to be asked.
    assert now.announced == now.proxied
    assert not now.hold(table("a"))
    now = plan_tables(table("a"), *parts(now), now.proxied.revision, None)
    assert (keys(now.announced), keys(now.proxied)) == (["a"], ["a", "b"])
    for announce in (None, now.announced.revision - 1):
        now = plan_tables(table("a"), *parts(now), now.proxied.revision, announce)
        assert keys(now.proxied) == ["a", "b"]
    now = plan_tables(table("a"), *parts(now), now.proxied.revision, now.announced.revision)
    assert keys(now.proxied) == ["a"]
    assert now.hold(table("a"))


def test_revisions_only_rise_whatever_happens_in_between() -> None:
    now = plan_tables(table("a"), None, None, None, None)
    wishes = [table("a", "b"), table("b"), table("b", "c", pools=("x", "y")), table("a"), table("a")]
    for wish in wishes:
        for _ in range(4):
            before = now
            now = plan_tables(wish, *parts(now), now.proxied.revision, now.announced.revision)
            assert now.announced.revision >= before.announced.revision
            assert now.proxied.revision >= before.proxied.revision
            # Whoever is announced is served.
            assert set(keys(now.announced)) <= set(keys(now.proxied))
        assert now.hold(wish)
        assert same_routes(now.announced, wish)


def test_nothing_changes_when_nothing_is_to_change() -> None:
    now = plan_tables(table("a"), None, None, None, None)
    again = plan_tables(msgspec.structs.replace(table("a"), revision=99), *parts(now), None, None)
    assert again == now


def test_the_trust_file_gets_a_new_revision_only_for_other_keys() -> None:
    first = revise_trust({"revision": 0, "keys": [1]}, None, 0)
    assert first["revision"] == 1
    assert revise_trust({"revision": 0, "keys": [1]}, first, 7) == first
    assert revise_trust({"revision": 0, "keys": [2]}, first, 0)["revision"] == 2
    # The file was lost, but servers may have seen a later one.
    assert revise_trust({"revision": 0, "keys": [1]}, None, 7)["revision"] == 8
