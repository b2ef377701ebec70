"""Placement of new users."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.core.errors import InvalidFieldError, NoClusterError
from moorage_nodes.auth.placement import check_server_key, plan_placement
from moorage_nodes.settings import Placement


def test_users_are_spread_by_weight():
    clusters = [Placement(server_key="a", weight=1), Placement(server_key="b", weight=3)]
    rng = random.Random(1)
    counted = Counter(plan_placement(clusters, rng) for _ in range(4000))
    assert 2.7 < counted["b"] / counted["a"] < 3.3


@given(
    st.lists(
        st.builds(Placement, server_key=st.text(), weight=st.integers(0, 5), accept_new_users=st.booleans())
    ),
    st.randoms(use_true_random=False),
)
def test_only_a_cluster_that_accepts_users_gets_one(clusters: list[Placement], rng: random.Random):
    open_keys = {each.server_key for each in clusters if each.accept_new_users and each.weight}
    if open_keys:
        assert plan_placement(clusters, rng) in open_keys
    else:
        with pytest.raises(NoClusterError):
            plan_placement(clusters, rng)


def test_an_administrator_may_choose_a_closed_cluster_and_no_unknown_one():
    clusters = [Placement(server_key="a", accept_new_users=False)]
    assert check_server_key(clusters, "a") == "a"
    with pytest.raises(InvalidFieldError):
        check_server_key(clusters, "b")
