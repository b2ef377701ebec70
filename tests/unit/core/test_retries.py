"""How long a request is sent again, and when."""

import pytest

from moorage.core.retries import LONGEST_PAUSE, PATIENCE, plan_retry


def pauses(*, patience: float = PATIENCE, jitter: float = 0.0) -> list[float]:
    found, waited = [], 0.0
    while (pause := plan_retry(len(found) + 1, waited=waited, patience=patience, jitter=jitter)) is not None:
        found.append(pause)
        waited += pause
    return found


def test_pauses_grow_to_a_bound_and_end_within_the_patience():
    found = pauses()
    assert found == sorted(found)
    assert found[0] < 0.2
    assert LONGEST_PAUSE / 2 <= found[-1] <= LONGEST_PAUSE
    assert PATIENCE - LONGEST_PAUSE <= sum(found) <= PATIENCE


def test_many_clients_of_one_outage_do_not_come_back_together():
    first = {plan_retry(5, waited=0, patience=60, jitter=number / 10) for number in range(10)}
    assert len(first) == 10


@pytest.mark.parametrize("tried", [1, 10, 1000, 10**6])
def test_a_pause_is_never_longer_than_the_bound(tried):
    assert 0 < plan_retry(tried, waited=0, patience=60, jitter=0.999) <= LONGEST_PAUSE


def test_what_the_server_asks_for_is_kept_to():
    assert plan_retry(1, waited=0, patience=60, jitter=0, retry_after=17) == 17


def test_who_would_have_to_wait_longer_than_the_patience_gives_up_at_once():
    assert plan_retry(1, waited=0, patience=60, jitter=0, retry_after=300) is None
    assert plan_retry(1, waited=59.95, patience=60, jitter=0) is None
