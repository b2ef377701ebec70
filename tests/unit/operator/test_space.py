"""How full a managed etcd is, and what is said of it."""

import pytest

from moorage_operator.reconcile.space import Space, judge_space, parse_space

METRICS = b"""\
# TYPE etcd_mvcc_db_total_size_in_bytes gauge
etcd_mvcc_db_total_size_in_bytes 8.388608e+06
etcd_server_quota_backend_bytes 1.6777216e+07
"""


def test_a_member_tells_its_share_and_its_alarm():
    assert parse_space(b'{"health":"true","reason":""}', METRICS) == Space(0.5, full=False)
    assert parse_space(b'{"health":"false","reason":"ALARM NOSPACE"}', METRICS) == Space(0.5, full=True)
    assert parse_space(b"", b"something else\n") is None


@pytest.mark.parametrize(
    ("spaces", "status", "reason"),
    [
        ([], "Unknown", "NotReached"),
        ([None, None], "Unknown", "NotReached"),
        ([Space(0.79, full=False), None], "True", "Enough"),
        ([Space(0.1, full=False), Space(0.8, full=False)], "False", "NearQuota"),
        ([Space(0.1, full=False), Space(0.9, full=True)], "False", "NoSpace"),
    ],
)
def test_the_fullest_member_counts(spaces, status, reason):
    finding = judge_space(spaces)
    assert (finding.type, finding.status, finding.reason) == ("EtcdSpace", status, reason)
