from typing import Any

import pytest

from moorage_operator.reconcile.compare import WISH, says_what_we_wish, seal_wish


def deployment(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}


def live(wish: dict[str, Any], **changes: Any) -> dict[str, Any]:
    sealed = seal_wish(wish)
    return {**sealed, "spec": {**sealed["spec"], **changes}, "status": {"replicas": 2}}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"containers": [{"name": "a"}]}, {"containers": [{"name": "b"}, {"name": "a", "image": "x"}]}),
        ({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}}),
        ({"requests": {"memory": "1024Mi"}}, {"requests": {"memory": "1Gi"}}),
        ({"emptyDir": {}}, {"emptyDir": {}}),
        ({"nodeSelector": {}}, {}),
        ({"tolerations": []}, {"tolerations": None}),
        ({"args": ["a", "b"]}, {"args": ["a", "b"], "command": ["c"]}),
    ],
)
def test_what_others_add_and_how_the_server_spells_it_is_no_difference(ours: dict, theirs: dict) -> None:
    assert says_what_we_wish(seal_wish(deployment(**ours)), live(deployment(**ours), **theirs))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"replicas": 2}, {"replicas": 3}),
        ({"args": ["a"]}, {"args": ["a", "b"]}),
        ({"args": ["a", "b"]}, {"args": ["b", "a"]}),
        ({"containers": [{"name": "a", "image": "x"}]}, {"containers": [{"name": "a", "image": "y"}]}),
        ({"containers": [{"name": "a"}]}, {"containers": []}),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "2"}}),
        ({"paused": False}, {"paused": True}),
        ({"template": {"labels": {"a": "b"}}}, {"template": {}}),
        ({"ingress": [{"ports": [{"port": 1}]}]}, {"ingress": [{"ports": [{"port": 1}]}, {}]}),
    ],
)
def test_a_change_in_what_is_ours_is_found(ours: dict, theirs: dict) -> None:
    assert not says_what_we_wish(seal_wish(deployment(**ours)), live(deployment(**ours), **theirs))


def test_a_field_that_is_not_wished_any_more_is_found_by_the_hash_of_the_wish() -> None:
    before, after = deployment(replicas=2, paused=True), deployment(replicas=2)
    assert not says_what_we_wish(seal_wish(after), live(before))


def test_the_hash_does_not_depend_on_the_order_of_fields() -> None:
    one = seal_wish({**deployment(), "spec": {"a": 1, "b": 2}})
    two = seal_wish({**deployment(), "spec": {"b": 2, "a": 1}})
    assert one["metadata"]["annotations"][WISH] == two["metadata"]["annotations"][WISH]
