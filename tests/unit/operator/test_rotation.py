import datetime as dt

import pytest

from moorage_operator.reconcile.rotation import SYNC, KeyFacts, KeyState, next_change, plan_rotation

START = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
PERIOD, LIFETIME = dt.timedelta(days=90), dt.timedelta(days=7)


def facts(current: str = "a", following: str | None = None, *, trusted: bool = False) -> KeyFacts:
    return KeyFacts(current, following, trusted, PERIOD, LIFETIME)


class Life:
    """The Secrets and the status, with a death possible between any two writes of them."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.current, self.next = "a", None
        self.state: KeyState | None = None
        self.made = 0
        self.writes = 0
        self.dies_after = dies_after
        self.trusted: set[str] = {"a"}

    def write(self) -> None:
        self.writes += 1
        if self.writes == self.dies_after:
            raise InterruptedError

    def turn(self, now: dt.datetime) -> None:
        state = self.state
        for _ in range(6):
            known = facts(self.current, self.next, trusted=self.next in self.trusted)
            before = state
            state, action = plan_rotation(state, known, now)
            if action == "make next":
                self.made += 1
                self.next = f"key-{self.made}"
                self.write()
            elif action == "drop next":
                self.next = None
                self.write()
            elif action == "promote next":
                self.current = self.next or self.current
                self.write()
            elif state == before:
                break
        self.state = state
        self.write()

    def publish(self) -> set[str]:
        """What the trust file holds, as it follows from the status."""
        assert self.state is not None
        return {self.state.current} | ({self.state.other} if self.state.other else set())


def test_a_new_key_signs_only_when_everybody_trusts_it_and_the_old_one_is_trusted_until_its_tokens_are_gone() -> (
    None
):
    life, now = Life(), START
    life.turn(now)
    assert life.state == KeyState("Settled", START, "a")
    now += PERIOD
    life.turn(now)
    assert (life.state.phase, life.current) == ("Publishing", "a")
    assert life.publish() == {"a", "key-1"}
    now += dt.timedelta(days=30)
    life.turn(now)
    assert life.current == "a"  # one server has not loaded it yet
    life.trusted.add("key-1")
    life.turn(now)
    assert (life.state.phase, life.current) == ("Signing", "key-1")
    assert life.publish() == {"a", "key-1"}
    now += SYNC
    life.turn(now)
    assert life.state.phase == "Retiring"
    now += LIFETIME - dt.timedelta(seconds=1)
    life.turn(now)
    assert life.publish() == {"a", "key-1"}
    now += dt.timedelta(seconds=1)
    life.turn(now)
    assert life.publish() == {"key-1"}
    life.turn(now)
    assert (life.state.phase, life.next) == ("Settled", None)


@pytest.mark.parametrize("dies_after", range(1, 16))
def test_death_between_any_two_writes_never_lets_an_untrusted_key_sign(dies_after: int) -> None:
    life, now = Life(dies_after), START
    published = {"a"}
    for _ in range(60):
        try:
            life.turn(now)
        except InterruptedError:
            continue
        finally:
            assert life.current in published, "it signs with a key that nobody was told to trust"
        published = life.publish()
        life.trusted |= published
        now += dt.timedelta(days=4)
    assert life.made >= 1
    assert life.state is not None
    assert life.state.current == life.current


def test_a_key_that_somebody_replaced_by_hand_leaves_the_old_one_trusted_for_its_time() -> None:
    state, action = plan_rotation(KeyState("Settled", START, "a"), facts("other"), START + LIFETIME)
    assert (state.phase, state.current, state.other, action) == ("Signing", "other", "a", "none")


def test_a_next_key_that_nobody_is_waiting_for_is_dropped() -> None:
    _, action = plan_rotation(KeyState("Settled", START, "a"), facts("a", "stray"), START)
    assert action == "drop next"


def test_time_says_when_to_look_again() -> None:
    state = KeyState("Settled", START, "a")
    assert next_change(state, facts(), START + dt.timedelta(days=89)) == 86400
    assert next_change(KeyState("Publishing", START, "a", "b"), facts(), START) is None
