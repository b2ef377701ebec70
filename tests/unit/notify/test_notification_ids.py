"""Ids of notifications say whose they are."""

import random

import pytest

from moorage.core.ids import parse_id
from moorage_nodes.metadata import keys
from moorage_nodes.notification_ids import belongs_to, build_notification_id


def test_an_id_belongs_to_its_namespace_alone():
    rng = random.Random(1)
    ids = [build_notification_id("ann", rng) for _ in range(100)]
    assert len(set(ids)) == 100
    for each in ids:
        assert parse_id(each) == each
        assert belongs_to(each, "ann")
        assert not belongs_to(each, "bob")


@pytest.mark.parametrize("text", ["", "n", "n1", "x" * 37, "n" + "0" * 36, "n" + "g" * 36])
def test_what_nobody_made_belongs_to_nobody(text: str):
    assert not belongs_to(text, "ann")


def test_it_stands_in_a_key_of_work_where_no_kind_of_key_does():
    each = build_notification_id("ann", random.Random(1))
    for key in (keys.work("ann", each), keys.parked("ann", each)):
        assert key[keys.kind_at("ann")] not in keys.TOLD | keys.UNTOLD | keys.ADDED | keys.ASIDE
        assert keys.parse_work(key) == ("ann", each)
