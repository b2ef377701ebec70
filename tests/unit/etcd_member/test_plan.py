"""How a member of a managed etcd begins."""

import pytest

from moorage_nodes.etcd_member.plan import Member, build_etcd_conf, build_initial_cluster, plan_beginning
from moorage_nodes.etcd_member.settings import MemberSettings, Tls

SETTINGS = MemberSettings(
    role="etcd-member",
    token="files-main",
    members=("m-0", "m-1", "m-2"),
    host="{member}.m.files.svc",
    client_port=2379,
    peer_port=2380,
    metrics_url="http://0.0.0.0:2381",
    data_dir="/var/lib/etcd/data",
    conf_file="/run/etcd/etcd.json",
    state_file="/etc/founded",
    tls=Tls(server="/server", peer="/peer", client="/client"),
    quota_bytes=1024**3,
)


def member(number: int, name: str, *, started: bool = True) -> Member:
    return Member(number, name if started else "", (SETTINGS.peer_url(name),), started)


OTHERS = (member(1, "m-1"), member(2, "m-2"))


@pytest.mark.parametrize(
    ("has_data", "founded", "listed", "beginning"),
    [
        (True, False, None, "resume"),
        (True, True, None, "resume"),
        (False, False, None, "found"),
        (False, False, (member(9, "m-0", started=False), *OTHERS), "found"),
        (False, False, (member(9, "m-0"), *OTHERS), "replace"),
        (False, False, OTHERS, "replace"),
        (False, True, None, "wait"),
        (False, True, (member(9, "m-0"), *OTHERS), "replace"),
        (False, True, (member(9, "m-0", started=False), *OTHERS), "replace"),
        (False, True, OTHERS, "replace"),
    ],
)
def test_a_member_begins(has_data, founded, listed, beginning):
    assert plan_beginning("m-0", SETTINGS, has_data=has_data, founded=founded, listed=listed) == beginning


def test_the_founding_members_are_those_of_the_settings():
    assert build_initial_cluster(SETTINGS, None) == ",".join(
        f"m-{n}=https://m-{n}.m.files.svc:2380" for n in range(3)
    )


def test_a_newcomer_is_listed_beside_those_that_are_there_by_address_where_it_has_no_name_yet():
    listed = (*OTHERS, member(9, "m-0", started=False))
    assert sorted(build_initial_cluster(SETTINGS, listed).split(",")) == [
        f"m-{n}=https://m-{n}.m.files.svc:2380" for n in range(3)
    ]


def test_members_and_clients_must_show_certificates():
    conf = build_etcd_conf("m-0", SETTINGS, "new", "x")
    for side in ("client-transport-security", "peer-transport-security"):
        assert conf[side]["client-cert-auth"] is True
    assert conf["listen-client-urls"].startswith("https:")
    assert conf["listen-peer-urls"].startswith("https:")
