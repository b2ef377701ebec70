"""What the operator builds is what the servers read; who may sign what; which names clients learn."""

import json
from pathlib import Path

import pytest

from moorage_nodes.settings import Settings, parse_check_settings, parse_settings
from moorage_nodes.tokens import Audience
from moorage_operator.local.datadir import DataDir
from moorage_operator.local.processes import (
    LocalPlan,
    Machine,
    Tools,
    build_hosts,
    build_local_plan,
    list_ports,
)
from moorage_operator.plan import (
    OPERATOR,
    PublicKey,
    build_routing_table,
    build_trust,
    plan_checks,
    plan_services,
)
from moorage_operator.spec.load import parse_realm
from moorage_operator.spec.realm import Realm

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["examples/quickstart.yaml", "tests/golden/two-clusters.yaml"])
def realm(request: pytest.FixtureRequest) -> Realm:
    return read(request.param)


@pytest.fixture
def two_clusters() -> Realm:
    return read("tests/golden/two-clusters.yaml")


def read(name: str) -> Realm:
    return parse_realm([(name, (ROOT / name).read_text())])


def plan_of(realm: Realm, engine="seaweedfs") -> LocalPlan:
    tools = Tools("/bin/etcd", f"/bin/{engine}", engine, "/bin/nginx", ("/bin/moorage-nodes",))
    ports = {name: 20_000 + number for number, name in enumerate(list_ports(realm, engine))}
    keys = tuple(PublicKey(s.name, s.name, "PEM") for s in (*plan_services(realm), *plan_checks(realm)))
    data = DataDir(Path("/data"))
    machine = Machine(data, tools, "127.0.0.1", 8080, ports, keys, {"PATH": "/bin"}, workers=2)
    return build_local_plan(realm, machine)


def settings_of(plan: LocalPlan) -> dict[str, Settings]:
    """What each planned server would read at its start."""
    return {
        spec.name: parse_settings(plan.files[Path(spec.argv[-1])].encode())
        for spec in plan.processes
        if spec.stage == "servers"
    }


def test_every_server_can_read_its_settings(realm):
    plan = plan_of(realm)
    for name, settings in settings_of(plan).items():
        assert settings.name == name
        assert name.startswith(settings.role)
        assert plan.files[Path(settings.routing_file)]
        assert plan.files[Path(settings.trust_file)]


def test_every_server_runs_twice_on_ports_of_its_own_and_collectors_once(realm):
    plan = plan_of(realm)
    names = [spec.name for spec in plan.processes if spec.stage == "servers"]
    twice = [f"{s.name}-{n}" for s in plan_services(realm) for n in (0, 1) if s.role != "gc"]
    assert sorted(names) == sorted([*twice, *(f"{s.name}-0" for s in plan_services(realm) if s.role == "gc")])
    ports = [port for spec in plan.processes for port in spec.ports]
    assert len(set(ports)) == len(ports)


def test_fsck_and_scrub_can_read_their_settings_and_may_change_nothing(two_clusters):
    plan = plan_of(two_clusters)
    servers = settings_of(plan)
    for check in plan_checks(two_clusters):
        settings = parse_check_settings(plan.files[Path(f"/data/run/{check.name}.json")].encode())
        assert settings.cluster.server_key == check.owner
        assert settings.etcd == servers[f"l3-{check.owner}-0"].etcd
        assert settings.peers.block == servers[f"l1-{check.owner}-0"].peers.block
    trust = json.loads(plan.files[Path("/data/run/trust.json")])
    audiences = [key["audiences"] for key in trust["keys"] if key["issuer"] == "check"]
    assert audiences == [["moorage:checker"]] * 2


def test_each_role_is_told_what_it_needs_and_no_more(two_clusters):
    servers = settings_of(plan_of(two_clusters))
    assert {name for name, s in servers.items() if s.etcd is not None} == {
        f"{service}-{n}"
        for service in (
            *("auth", "notify-bell"),
            *(f"{tier}-{key}" for tier in ("l1", "l2", "l3") for key in ("west-1", "east-1")),
        )
        for n in (0, 1)
    } | {"gc-west-1-0", "gc-east-1-0"}
    assert {s.role for s in servers.values() if s.s3 is not None} == {"block"}
    assert {s.role for s in servers.values() if s.auth is not None} == {"auth"}
    assert {s.role for s in servers.values() if s.notify is not None} == {"notify"}
    assert {s.role for s in servers.values() if s.cluster is not None} == {"l1", "l2", "l3", "gc"}
    assert {s.role for s in servers.values() if s.gc is not None} == {"gc"}


def test_two_clusters_and_the_users_share_no_key_of_the_one_etcd(two_clusters):
    servers = settings_of(plan_of(two_clusters))
    prefixes = {s.etcd.prefix for s in servers.values() if s.etcd is not None}
    assert prefixes == {
        "/moorage/auth/",
        "/moorage/meta/west-1/",
        "/moorage/meta/east-1/",
        "/moorage/notify/bell/",
    }
    assert servers["l1-west-1-0"].etcd == servers["l3-west-1-1"].etcd


def test_servers_call_their_own_cluster_and_block_servers_all_that_use_the_pool(two_clusters):
    servers = settings_of(plan_of(two_clusters))
    assert set(servers["l1-west-1-0"].peers.l3) == {"west-1"}
    assert set(servers["block-fast-0"].peers.l3) == {"west-1", "east-1"}
    assert set(servers["block-old-0"].peers.l2) == {"west-1"}
    assert servers["auth-0"].peers.auth == ()
    assert set(servers["notify-bell-0"].peers.l1) == {"west-1", "east-1"}
    bell = tuple(f"http://127.0.0.1:{servers[f'notify-bell-{n}'].listen.internal}" for n in (0, 1))
    assert servers["l1-east-1-0"].peers.notify == bell
    internal = tuple(f"http://127.0.0.1:{servers[f'auth-{n}'].listen.internal}" for n in (0, 1))
    assert servers["l2-east-1-1"].peers.auth == internal


def test_retention_and_placement_reach_the_servers(two_clusters):
    servers = settings_of(plan_of(two_clusters))
    west, east = servers["l1-west-1-0"].cluster, servers["l1-east-1-0"].cluster
    assert (west.retained_versions, west.upload_max, west.upload_idle) == (3, 43_200, 43_200)
    assert (east.retained_versions, east.upload_max, east.upload_idle) == (20, 604_800, 86_400)
    gc = servers["gc-west-1-0"]
    assert (gc.cluster.retained_deleted, gc.cluster.retained_feed) == (west.retained_deleted, 7_776_000)
    assert (gc.gc.schedule, gc.gc.grace, gc.gc.dry_run) == ("17 3 * * *", 86_400, False)
    assert set(gc.peers.block) == {"fast", "old"}
    auth = servers["auth-0"].auth
    assert auth.token_ttl == 300
    assert [(c.server_key, c.weight, c.accept_new_users) for c in auth.clusters] == [
        ("west-1", 1, True),
        ("east-1", 5, False),
    ]


def test_deadline_and_queue_limit_reach_the_notification_servers(two_clusters):
    notify = settings_of(plan_of(two_clusters))["notify-bell-1"].notify
    assert (notify.name, notify.ack_deadline, notify.queue_limit) == ("bell", 5400, 500)


def test_each_pool_has_a_bucket_of_its_own(two_clusters):
    plan = plan_of(two_clusters)
    assert plan.buckets == ("moorage-fast", "moorage-old")
    assert settings_of(plan)["block-old-1"].s3.bucket == "moorage-old"


def test_the_routing_table_has_pools_in_order_and_the_notifiers_of_the_clusters():
    table = build_routing_table(read("examples/quickstart.yaml"), ("h",), 1)
    assert table.clusters[0].notifiers == ("main",)
    table = build_routing_table(read("tests/golden/two-clusters.yaml"), ("h",), 4)
    assert table.revision == 4
    assert [c.notifiers for c in table.clusters] == [("bell",), ("bell",)]
    assert [c.server_key for c in table.clusters] == ["west-1", "east-1"]
    assert (table.clusters[0].pools, table.clusters[0].write_pools) == (("fast", "old"), ("fast",))


def test_keys_may_sign_known_audiences_and_users_tokens_come_from_auth_alone(realm):
    services = (*plan_services(realm), *plan_checks(realm), OPERATOR)
    trust = build_trust([PublicKey(s.name, s.name, "PEM") for s in services], services, 1)
    known = {str(audience) for audience in Audience}
    for key in trust["keys"]:
        assert set(key["audiences"]) <= known
        assert (str(Audience.ACCESS) in key["audiences"]) == (key["issuer"] == "auth")
        assert (str(Audience.UPLOAD) in key["audiences"]) == (key["issuer"] == "l1")
        assert (str(Audience.DOWNLOAD) in key["audiences"]) == (key["issuer"] == "l2")
        assert (str(Audience.COLLECTOR) in key["audiences"]) == (key["issuer"] == "gc")
        assert (str(Audience.OPERATOR) in key["audiences"]) == (key["issuer"] == "operator")


def test_no_secret_is_in_the_plan_but_paths_of_files(realm):
    for engine in ("minio", "seaweedfs"):
        plan = plan_of(realm, engine)
        (store,) = [spec for spec in plan.processes if spec.name == "s3"]
        assert "/data/secrets/" in json.dumps([store.argv, dict(store.environment)])
        assert all(path.is_relative_to("/data/run") for path in plan.files)


@pytest.mark.parametrize(
    ("host", "hosts"),
    [
        ("127.0.0.1", ("127.0.0.1:9000", "localhost:9000", "files.example.com", "10.0.0.7:8000")),
        ("::1", ("[::1]:9000", "localhost:9000", "files.example.com", "10.0.0.7:8000")),
        ("192.168.1.5", ("192.168.1.5:9000", "files.example.com", "10.0.0.7:8000")),
        ("0.0.0.0", ("files.example.com", "10.0.0.7:8000", "127.0.0.1:9000", "localhost:9000")),
    ],
)
def test_clients_learn_the_names_under_which_they_can_reach_us(two_clusters, host, hosts):
    assert build_hosts(host, 9000, two_clusters) == hosts


def test_what_one_machine_does_differently_is_noted(two_clusters):
    notes = "\n".join(plan_of(two_clusters).notes)
    assert "MetadataCluster/east, AccessPoint/realm, BlockPool/old name external stores" in notes
    assert "plain HTTP" in notes
    assert "Nothing names BlockPool/spare" in notes
    assert plan_of(read("examples/quickstart.yaml")).notes == ()
