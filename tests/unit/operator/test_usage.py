"""What auth servers say of a cluster's users, and whether that lets it go."""

import msgspec
import pytest

from moorage_nodes.tokens import Audience, verify_token
from moorage_nodes.trust import parse_trust
from moorage_operator.plan import OPERATOR, build_trust
from moorage_operator.reconcile.servers import UsersReport, parse_users
from moorage_operator.reconcile.usage import judge_users
from moorage_operator.signing import TOKEN_SECONDS, make_private_pem, read_public_key, sign_operator_token


def report(*placing: str, age: float = 1.0, **users: int) -> UsersReport:
    return UsersReport(frozenset(placing), users, age)


UNCOUNTED = UsersReport(frozenset({"a"}), None, 0.0)


@pytest.mark.parametrize(
    ("reports", "closed_for", "why", "closed"),
    [
        ([], 60, "no auth server is there", False),
        ([report("a"), None], 60, "1 of 2 auth servers did not answer", False),
        ([report("a"), report("a", "b")], 60, "still put new users", False),
        ([report("a")], None, "being counted", True),
        ([UNCOUNTED], 60, "being counted", True),
        ([report("a", age=60)], 60, "being counted", True),
        ([report("a", b=1)], 60, "1 user lives", True),
        ([report("a", b=3), UNCOUNTED], 60, "3 users live", True),
        # The newest count is what holds.
        ([report("a", age=9), report("a", age=5, b=2)], 60, "2 users live", True),
        ([report("a", age=5), report("a", age=9, b=2)], 60, None, True),
        ([report("a", a=9), UNCOUNTED], 60, None, True),
    ],
)
def test_only_a_count_begun_after_nobody_could_be_added_lets_a_cluster_go(reports, closed_for, why, closed):
    verdict = judge_users("b", reports, closed_for)
    assert verdict.closed == closed
    assert (verdict.again is None) == (why is None)
    if why is None:
        assert verdict.why is None
    else:
        assert why in (verdict.why or "")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"error": "unauthenticated"}',
        b'{"role": "l3", "clusters": [], "users": {"of": {}, "age_seconds": 0}}',
        b'{"role": "auth", "users": {"of": {}, "age_seconds": 0}}',
        b'{"role": "auth", "clusters": [], "users": {"of": {}, "age_seconds": -1}}',
        b'{"role": "auth", "clusters": []}',
    ],
)
def test_what_is_no_answer_of_an_auth_server_says_nothing(answer: bytes):
    assert parse_users(answer) is None


def test_an_answer_is_read():
    answer = (
        b'{"role": "auth", "clusters": ["a"], "users": {"of": {"b": 2}, "age_seconds": 1.5}, "version": "1"}'
    )
    assert parse_users(answer) == UsersReport(frozenset({"a"}), {"b": 2}, 1.5)
    assert parse_users(b'{"role": "auth", "clusters": ["a"], "users": null}') == UNCOUNTED


def test_servers_know_the_operators_token_for_what_it_is():
    pem = make_private_pem()
    trust = build_trust([read_public_key(pem, OPERATOR.name)], [OPERATOR], 1)
    token = sign_operator_token(pem, 1000.0)
    claims = verify_token(token, parse_trust(msgspec.json.encode(trust)), 1000.0)
    assert (claims.audience, claims.issuer, claims.expires) == (
        Audience.OPERATOR,
        "operator",
        1000 + TOKEN_SECONDS,
    )
