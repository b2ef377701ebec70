"""What servers say of what was taken off a list, and whether that lets it go."""

import msgspec
import pytest

from moorage.core.routing import ClusterRoute, RoutingTable
from moorage_nodes.tokens import Audience, verify_token
from moorage_nodes.trust import parse_trust
from moorage_operator.plan import OPERATOR, build_trust
from moorage_operator.reconcile.chunks import QUIET_SECONDS, Question, judge_chunks
from moorage_operator.reconcile.servers import (
    Left,
    RegistryReport,
    StoringReport,
    UsersReport,
    parse_registry,
    parse_storing,
    parse_users,
)
from moorage_operator.reconcile.users import judge_users
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


QUESTION = Question("old", "main", "m", "main-gc")
QUIET = QUIET_SECONDS
READ_ONLY = RoutingTable(
    revision=7,
    hosts=("h",),
    clusters=(ClusterRoute(server_key="m", pools=("new", "old"), write_pools=("new",)),),
)
WRITABLE = RoutingTable(
    revision=7,
    hosts=("h",),
    clusters=(ClusterRoute(server_key="m", pools=("new", "old"), write_pools=("old",)),),
)
SHUT = StoringReport(frozenset({"other"}), 7)


def counted(began: int, *, revision: int = 1000, **left: tuple[int, int]) -> RegistryReport:
    return RegistryReport(revision, began, {pool: Left(*numbers) for pool, numbers in left.items()})


UNCOLLECTED = RegistryReport(1000, 0, None)


@pytest.mark.parametrize(
    ("announced", "storing", "registry", "closed_for", "mark", "why", "closed"),
    [
        (WRITABLE, [SHUT], [counted(900, old=(0, 0))], QUIET, 800, "routes are about to change", False),
        (READ_ONLY, [], [counted(900, old=(0, 0))], QUIET, 800, "no block server is there", False),
        (
            READ_ONLY,
            [SHUT, None],
            [counted(900, old=(0, 0))],
            QUIET,
            800,
            "1 of 2 block servers did not",
            False,
        ),
        # One stores something still; one has read no newer routes than those before.
        (
            READ_ONLY,
            [SHUT, StoringReport(frozenset({"m"}), 7)],
            [counted(900, old=(0, 0))],
            QUIET,
            800,
            "take up",
            False,
        ),
        (
            READ_ONLY,
            [StoringReport(frozenset(), 6)],
            [counted(900, old=(0, 0))],
            QUIET,
            800,
            "take up",
            False,
        ),
        (READ_ONLY, [SHUT], [counted(900, old=(0, 0))], None, None, "what was under way", True),
        (READ_ONLY, [SHUT], [counted(900, old=(0, 0))], QUIET - 1, None, "what was under way", True),
        (READ_ONLY, [SHUT], [None], QUIET, 800, "no L3 server answered", True),
        # A collection that began before counts for nothing, nor does one that looked at other pools.
        (READ_ONLY, [SHUT], [UNCOLLECTED], QUIET, None, "next complete collection", True),
        (READ_ONLY, [SHUT], [counted(900, old=(0, 0))], QUIET, None, "next complete collection", True),
        (READ_ONLY, [SHUT], [counted(799, old=(0, 0))], QUIET, 800, "next complete collection", True),
        (READ_ONLY, [SHUT], [counted(900, new=(0, 0))], QUIET, 800, "next complete collection", True),
        (READ_ONLY, [SHUT], [counted(900, old=(3, 1))], QUIET, 800, "left 3 chunks and 1 objects", True),
        (READ_ONLY, [SHUT], [counted(900, old=(0, 2))], QUIET, 800, "left 0 chunks and 2 objects", True),
        (READ_ONLY, [SHUT], [None, counted(800, old=(0, 0))], QUIET, 800, None, True),
    ],
)
def test_only_a_collection_begun_after_nothing_more_was_stored_lets_a_pool_go(
    announced, storing, registry, closed_for, mark, why, closed
):
    verdict = judge_chunks(QUESTION, announced, storing, registry, closed_for, mark)
    assert verdict.closed == closed
    assert (verdict.again is None) == (why is None)
    if why is None:
        assert verdict.why is None
    else:
        assert why in (verdict.why or "")


def test_the_revision_that_a_collection_must_have_begun_behind_is_noted_once_and_dropped_when_more_is_stored():
    first = judge_chunks(QUESTION, READ_ONLY, [SHUT], [UNCOLLECTED], QUIET, None)
    assert first.mark == 1000
    later = RegistryReport(2000, 0, None)
    second = judge_chunks(QUESTION, READ_ONLY, [SHUT], [later], 2 * QUIET, first.mark)
    assert second.mark == 1000
    taking = StoringReport(frozenset({"m"}), 8)
    assert judge_chunks(QUESTION, READ_ONLY, [taking], [later], 3 * QUIET, second.mark).mark is None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"error": "unauthenticated"}',
        b'{"role": "auth", "takes": [], "routing_revision": 1, "revision": 1, "collection": null}',
        b'{"role": "block", "takes": [], "revision": null}',
        b'{"role": "block", "takes": [], "routing_revision": null}',
        b'{"role": "l3", "revision": 1}',
        b'{"role": "l3", "revision": 1, "collection": {"began": 1, "left": {"old": {"chunks": -1, "objects": 0}}}}',
        b'{"role": "l3", "revision": 1, "collection": {"began": 1, "left": {"old": {"chunks": 0}}}}',
    ],
)
def test_what_is_no_answer_of_a_block_or_l3_server_says_nothing(answer: bytes):
    assert parse_storing(answer) is None
    assert parse_registry(answer) is None
